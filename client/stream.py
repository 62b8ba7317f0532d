"""`StreamSession`: a window that slides, each frame encoded once.

The server keeps no state. Its answer carries the embeddings of the new frames, the session keeps
those of the last T samples and sends them along, so any replica can answer the next request.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from numpy.typing import ArrayLike, NDArray

from fgmclip.client.action import ActionClient
from fgmclip.client.answers import Decision, decisions
from fgmclip.client.checks import Boxes, Frames, check_frames, check_rois, color_parameters
from fgmclip.client.errors import RefusedError, TagMismatchError
from fgmclip.client.messages import Tensors
from fgmclip.client.streams.history import History
from fgmclip.client.streams.requests import (
    StreamRequest,
    is_foreign_tag,
    new_rows,
    stream_request,
)
from fgmclip.kernels.errors import KernelError
from fgmclip.kernels.parameters import PreprocessParameters
from fgmclip.kernels.preprocess import preprocess_u8
from fgmclip.spec import PublicManifest


class StreamSession:
    """The plain window loop of one stream; samples on the time grid are the caller's business.

    A request that fails changes nothing, so the same frames may be pushed again. Not for several
    threads at once; each stream has a session of its own, and all of them may share a client.

    Example:
        ```python
        session = StreamSession(client)
        decision = session.push(samples[0:9])   # T + 1 = 9 samples fill the window
        decision = session.push(samples[8:10])  # one new sample; samples[8] is the one before it
        ```
    """

    def __init__(
        self,
        client: ActionClient,
        *,
        edge: bool = False,
        color_matrix: str | None = None,
        color_range: str | None = None,
    ) -> None:
        """Start with an empty window.

        Args:
            client: Names the server.
            edge: Bring frames to the model's size here, by the server's own kernels, and send no
                more than that: the same answers for a fraction of the bytes.
            color_matrix: `bt601` or `bt709`; the model's default if None.
            color_range: `limited` or `full`, for NV12; the model's default if None.

        Raises:
            RefusedError: There is no such matrix or range.
        """
        self._client = client
        self._edge = edge
        self._color: dict[str, Any] = {**color_parameters(color_matrix, color_range)}
        self._histories: list[History] = []
        self._tag = ""

    @property
    def empty(self) -> bool:
        """Whether the next push has to fill the whole window."""
        return not self._histories

    def reset(self) -> None:
        """Empty the window: after a gap, a cut, or a `TagMismatchError`."""
        self._histories = []

    def push(self, frames: Frames) -> Decision:
        """Move the window on by k samples and name the action in it.

        Args:
            frames: u8 RGB [k+1,H,W,3] or NV12 [k+1,H*3/2,W,1]: the sample before, which was the
                last of the push before, then k new samples. k is T while the window is empty,
                else 1 to T. At the start of a video the sample before is a copy of the first.

        Raises:
            TagMismatchError: The server changed to a release that cannot use the history: `reset`,
                then push T + 1. One that differs in its head alone goes on with it.
            RefusedError: The frames are not what the model takes, or k does not fit.
            ClientError: The server could not be asked, or failed.
        """
        (decision,) = self._push(frames, None)
        return decision

    def push_tracks(self, frames: Frames, rois: ArrayLike) -> list[Decision]:
        """Move the windows of several tracks on by k samples and name the action of each.

        Args:
            frames: As in `push`.
            rois: [R,k+1,4], pixels x0, y0, x1, y1: one box a track and frame. R and its order
                stay the same until `reset`.

        Returns:
            One decision a track, in the order of `rois`.

        Raises:
            TagMismatchError: The server changed to a release that cannot use the history: `reset`,
                then push T + 1. One that differs in its head alone goes on with it.
            RefusedError: Frames, boxes, k or the number of tracks do not fit.
            ClientError: The server could not be asked, or failed.
        """
        return self._push(frames, rois)

    def _push(self, frames: Frames, rois: ArrayLike | None) -> list[Decision]:
        decided = self._client.under_one_release(
            lambda manifest: None if self._lost(manifest) else self._ask(manifest, frames, rois)
        )
        if decided is None:
            raise TagMismatchError(
                f"HISTORY_TAG: expected {self._client.manifest.embedding_tag}, got {self._tag}; "
                "reset the session and push T + 1 samples: another release computed the history"
            )
        return decided

    def _lost(self, manifest: PublicManifest) -> bool:
        """Whether a release can do nothing with the histories that are kept."""
        # The number of samples in a window is no part of the embeddings' tag.
        needed = (manifest.embedding_tag, manifest.spec.clip.frames)
        return any((self._tag, history.length) != needed for history in self._histories)

    def _ask(
        self, manifest: PublicManifest, frames: Frames, rois: ArrayLike | None
    ) -> list[Decision]:
        window = manifest.spec.clip.frames
        check_frames(frames, manifest.limits, fewest=window if self.empty else 1, most=window)
        new = frames.shape[0] - 1
        boxes = None if rois is None else check_rois(rois, frames, manifest.limits)
        tracks = 1 if boxes is None else len(boxes)
        self._check_tracks(tracks)
        samples = self._samples(frames, boxes, manifest)
        histories = self._histories or [History.empty(manifest.spec)] * tracks
        request = stream_request(
            samples,
            [history.before(new) for history in histories],
            manifest,
            tag=self._tag,
            edge=self._edge,
            color={} if self._edge else self._color,
        )
        answer = self._infer(request)
        rows = new_rows(answer, tracks, new, manifest)
        decided = decisions(answer, manifest)
        self._histories = [
            history.extended(own) for history, own in zip(histories, rows, strict=True)
        ]
        self._tag = manifest.embedding_tag
        return decided

    def _samples(
        self, frames: Frames, boxes: Boxes | None, manifest: PublicManifest
    ) -> dict[str, NDArray[Any]]:
        """Return the inputs that hold the new samples."""
        if not self._edge:
            return {"FRAMES": frames} if boxes is None else {"FRAMES": frames, "ROI": boxes}
        # The flow is the server's business, whatever version of it this host computes.
        parameters = replace(PreprocessParameters.from_spec(manifest.spec), flow=None)
        try:
            pixels_u8, luma_u8 = preprocess_u8(frames, parameters, rois=boxes, **self._color)
        except KernelError as error:
            raise RefusedError(str(error)) from error
        samples = {"PIXELS_U8": pixels_u8}
        return samples if luma_u8 is None else samples | {"LUMA_U8": luma_u8}

    def _check_tracks(self, tracks: int) -> None:
        kept = len(self._histories) or tracks
        if tracks != kept:
            raise RefusedError(
                f"ROI: expected {kept} tracks as in the history, got {tracks}; reset the session "
                "when tracks come or go"
            )

    def _infer(self, request: StreamRequest) -> Tensors:
        try:
            return self._client.transport.infer(
                request.model,
                request.inputs,
                request.outputs,
                timeout_seconds=self._client.timeouts.request_seconds,
                parameters=request.parameters,
            )
        except RefusedError as error:
            if not is_foreign_tag(error):
                raise
            raise TagMismatchError(f"{error}; reset the session and push T + 1 samples") from error
