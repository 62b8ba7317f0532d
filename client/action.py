"""`ActionClient`: names the action in a clip or a video."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from fgmclip.client.answers import (
    ANSWERS,
    ATTEMPTS,
    Decision,
    VideoResult,
    decisions,
    name_action,
)
from fgmclip.client.checks import Frames, check_frames, check_rois, color_parameters
from fgmclip.client.errors import ModelNotFoundError, RefusedError, TagMismatchError
from fgmclip.client.manifest import CLIP_MODEL, manifest_in, not_ours
from fgmclip.client.messages import NO_PARAMETERS, Parameters, Tensors
from fgmclip.client.timeouts import Timeouts
from fgmclip.client.transport import GrpcTransport, Transport
from fgmclip.spec import PublicManifest

if TYPE_CHECKING:
    from fgmclip.video.damage import Damage

Question = tuple[str, Tensors, Parameters]
"""Model, inputs and parameters of one request."""

Answer = TypeVar("Answer")
Self = TypeVar("Self", bound="ActionClient")


class ActionClient:
    """A client that knows nothing but an address; everything else it reads from the server.

    May be shared between threads. Nothing is sent before the first question.

    Example:
        ```python
        with ActionClient("localhost:8001") as client:
            print(client.classify("video.mp4").label)
        ```

    Attributes:
        url: `HOST:PORT` of the server's gRPC endpoint.
        timeouts: How long the client waits.
        transport: The network; that of the caller if one was given.
    """

    def __init__(
        self, url: str, *, timeouts: Timeouts | None = None, transport: Transport | None = None
    ) -> None:
        """Name the server.

        Args:
            url: `HOST:PORT` of the server's gRPC endpoint.
            timeouts: How long the client waits; the defaults of `Timeouts` if None.
            transport: The network, for clients that share one and for tests. It stays the
                caller's: `close` leaves it open. Over gRPC by default.

        Raises:
            SettingsError: `url` is not `HOST:PORT`.
        """
        self.url = url
        self.timeouts = timeouts or Timeouts()
        self._owned = GrpcTransport(url, self.timeouts) if transport is None else None
        self.transport: Transport = transport or self._owned  # type: ignore[assignment]
        self._manifest: PublicManifest | None = None

    def __enter__(self: Self) -> Self:
        """Return the client."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close the client."""
        self.close()

    def close(self) -> None:
        """Release the connection, unless it is the caller's."""
        if self._owned is not None:
            self._owned.close()

    @property
    def manifest(self) -> PublicManifest:
        """What the server publishes about itself; read at its first use and by `refresh`.

        Raises:
            ManifestError: The server is not one of ours, or of an unknown format.
            ClientError: The server could not be asked.
        """
        return self._manifest or self.refresh()

    def refresh(self) -> PublicManifest:
        """Read what is published now; questions do so themselves when another release answers.

        Raises:
            ManifestError: The server is not one of ours, or of an unknown format.
            ClientError: The server could not be asked; the manifest stays.
        """
        with not_ours():
            parameters = self.transport.model_parameters(
                CLIP_MODEL, timeout_seconds=self.timeouts.request_seconds
            )
        self._manifest = manifest = manifest_in(parameters, self.url)
        return manifest

    def under_one_release(self, ask: Callable[[PublicManifest], Answer]) -> Answer:
        """Ask under the manifest, and again under a newer one where another release answers.

        Args:
            ask: Asks a question and names the answer, all by the manifest that it is given.

        Raises:
            RefusedError: What `ask` raises, where the manifest is the server's own;
                `TagMismatchError` where manifest and answers went on to be of two releases.
            ClientError: The server could not be asked, or failed.
        """
        for left in reversed(range(ATTEMPTS)):
            manifest = self.manifest
            try:
                return ask(manifest)
            except RefusedError as error:
                # A release with other shapes refuses frames before it comes to any tag.
                changed = left and self.refresh().model_tag != manifest.model_tag
                if not left or not (changed or isinstance(error, TagMismatchError)):
                    raise
        raise AssertionError("the last attempt returns or raises")

    def classify_window(
        self,
        frames: Frames,
        *,
        color_matrix: str | None = None,
        color_range: str | None = None,
    ) -> Decision:
        """Name the action in one window of whole frames.

        Args:
            frames: u8 RGB [T+1,H,W,3] or NV12 [T+1,H*3/2,W,1], samples `manifest.dt` apart; the
                first is only what the second is compared with.
            color_matrix: `bt601` or `bt709`; the model's default if None.
            color_range: `limited` or `full`, for NV12; the model's default if None.

        Raises:
            RefusedError: The frames are not what the model takes.
            ClientError: The server could not be asked, or failed.
        """
        (decision,) = self.under_one_release(
            lambda manifest: self._classify(manifest, frames, None, color_matrix, color_range)
        )
        return decision

    def classify_tracks(
        self,
        frames: Frames,
        rois: ArrayLike,
        *,
        color_matrix: str | None = None,
        color_range: str | None = None,
    ) -> list[Decision]:
        """Name the action of each track in one window.

        Args:
            frames: As in `classify_window`.
            rois: [R,T+1,4], pixels x0, y0, x1, y1: one box a track and frame.
            color_matrix: As in `classify_window`.
            color_range: As in `classify_window`.

        Returns:
            One decision a track, in the order of `rois`.

        Raises:
            RefusedError: Frames or boxes are not what the model takes.
            ClientError: The server could not be asked, or failed.
        """
        return self.under_one_release(
            lambda manifest: self._classify(manifest, frames, rois, color_matrix, color_range)
        )

    def classify(self, path: str | os.PathLike[str]) -> VideoResult:
        """Name the action in a video file: windows half a window apart, probabilities averaged.

        Only what the model sees is sent, so pictures may be of any size; the answer is that of
        whole frames. One window is held at a time, so the length of the video does not matter. All
        windows are answered by one release: where another one takes over, the video begins again.

        Raises:
            VideoError: The file cannot be used as a video; of a damaged one, most cannot be read.
            RefusedError: Its frames are not what the model takes.
            ClientError: The server could not be asked, or failed.
        """
        return self.under_one_release(lambda manifest: self._classify_video(manifest, Path(path)))

    def _classify_video(self, manifest: PublicManifest, path: Path) -> VideoResult:
        # Here, because a client of cameras' frames needs no decoder.
        from fgmclip.client.clips import read_clips
        from fgmclip.client.streams.requests import EDGE_MODEL

        try:
            return self._average(
                manifest,
                path,
                lambda damage: (
                    (EDGE_MODEL, tensors, NO_PARAMETERS)
                    for tensors in read_clips(path, manifest.spec, damage)
                ),
            )
        except ModelNotFoundError:
            # A repository of someone's own choice, or of an earlier version, takes whole frames.
            return self._average(
                manifest, path, lambda damage: self._whole_frames(manifest, path, damage)
            )

    def _whole_frames(
        self, manifest: PublicManifest, path: Path, damage: Damage
    ) -> Iterator[Question]:
        from fgmclip.video.windows import read_windows

        for window in read_windows(path, manifest.spec.clip, damage=damage):
            count = manifest.spec.clip.frames
            frames = check_frames(window.frames, manifest.limits, fewest=count, most=count)
            color = color_parameters(window.color_matrix, window.color_range)
            yield CLIP_MODEL, {"FRAMES": frames}, color

    def _average(
        self,
        manifest: PublicManifest,
        path: Path,
        read: Callable[[Damage], Iterable[Question]],
    ) -> VideoResult:
        from fgmclip.video.damage import Damage

        total = np.zeros(len(manifest.spec.labels))
        milliseconds: list[float] = []
        damage = Damage()
        for model, inputs, parameters in read(damage):
            started = time.perf_counter()
            (decision,) = self._decide(manifest, model, inputs, parameters)
            milliseconds.append((time.perf_counter() - started) * 1000)
            total += decision.probabilities
        label, top = name_action(total / len(milliseconds), manifest)
        return VideoResult(
            video=path,
            label=label,
            probability=top[0][1],
            top=top,
            windows=len(milliseconds),
            latency_ms=float(np.median(milliseconds)),
            frames=damage.frames,
            frames_lost=damage.lost,
        )

    def _classify(
        self,
        manifest: PublicManifest,
        frames: Frames,
        rois: ArrayLike | None,
        color_matrix: str | None,
        color_range: str | None,
    ) -> list[Decision]:
        window = manifest.spec.clip.frames
        inputs: dict[str, Any] = {
            "FRAMES": check_frames(frames, manifest.limits, fewest=window, most=window)
        }
        if rois is not None:
            inputs["ROI"] = check_rois(rois, frames, manifest.limits)
        return self._decide(
            manifest, CLIP_MODEL, inputs, color_parameters(color_matrix, color_range)
        )

    def _decide(
        self, manifest: PublicManifest, model: str, inputs: Tensors, parameters: Parameters
    ) -> list[Decision]:
        outputs = self.transport.infer(
            model,
            inputs,
            ANSWERS,
            timeout_seconds=self.timeouts.request_seconds,
            parameters=parameters,
        )
        return decisions(outputs, manifest)
