"""`SlidingWindow`: a stream's last T samples, and what of them is encoded; it sends nothing."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgmclip.client.answers import decisions
from fgmclip.client.errors import RefusedError, SettingsError
from fgmclip.client.messages import Tensors
from fgmclip.client.streams.history import History
from fgmclip.client.streams.requests import StreamRequest, new_rows, stream_request
from fgmclip.client.streams.results import ResetReason, StreamDecision, WindowReset
from fgmclip.client.streams.samples import StreamSample
from fgmclip.kernels.parameters import PreprocessParameters
from fgmclip.spec import ModelSpec, PublicManifest

Name = str | None
"""Of a track; None stands for the whole frame."""


@dataclass(slots=True)
class _Track:
    """One row of the window.

    Attributes:
        own: Samples that the track has without a break, counted up to T.
        history: Embeddings of those that do not wait.
    """

    own: int
    history: History


class SlidingWindow:
    """The window of one stream, for the whole frame or for tracks.

    The u8 tensors of the last T samples are kept beside the embeddings, so that another release
    can be asked at once with a full window. Memory: T samples, and T rows a track.

    The order of calls is `add` for each sample, then, while `due`, `requests`, and `take` with the
    answers to all of them. Not taking them changes nothing: what waits goes with the next request.

    Attributes:
        manifest: What the server publishes, as far as the window knows.
        due: Whether a decision is to be made.
    """

    def __init__(self, manifest: PublicManifest, *, stride: int = 1, edge: bool = True) -> None:
        """Start with an empty window.

        Args:
            manifest: What the server publishes.
            stride: Samples from one decision to the next.
            edge: Whether samples are u8 stages, else whole frames.

        Raises:
            SettingsError: `stride` is not a whole number above 0.
        """
        if isinstance(stride, bool) or not isinstance(stride, int) or stride < 1:
            raise SettingsError(f"stride: expected whole samples, 1 or more, got {stride!r}")
        self.manifest = manifest
        self.due = False
        self._stride = stride
        self._edge = edge
        self._samples: deque[StreamSample] = deque(maxlen=manifest.spec.clip.frames)
        self._tracks: dict[Name, _Track] = {}
        self._count = 0
        self._waiting = 0
        self._skipped = 0

    def add(self, sample: StreamSample) -> WindowReset | None:
        """Move the window on by one sample; return what was given up for it.

        A sample whose index does not follow, or whose frames cannot stand beside those before,
        starts a new window. A track that is absent from one sample starts anew with its next.

        Raises:
            RefusedError: The sample is not what the model takes; the window is as it was.
        """
        self._check(sample)
        names: tuple[Name, ...] = (None,) if sample.tracks is None else sample.tracks
        gone = [name for name in self._tracks if name not in names]
        last = self._samples[-1] if self._samples else None
        reason = None if last is None else _break(last, sample)
        skipped = 0
        if reason is not None:
            skipped = self._clear()
        for name in gone:
            self._tracks.pop(name, None)
        for name in names:
            self._grow(name)
        self._samples.append(sample)
        self._count += 1
        self._waiting = min(self._waiting + 1, self._length)
        if not self._mature():
            # Whoever it was due for is gone.
            skipped += self._drop_due()
        elif self._count >= self._length and (self._count - self._length) % self._stride == 0:
            self._skipped += self.due
            self.due = True
        if reason is None and not gone:
            return None
        missing = sample.index - last.index - 1 if reason == "gap" and last is not None else 0
        ended = tuple(name for name in gone if name is not None)
        return WindowReset(reason or "tracks", sample.time, missing, skipped, ended)

    def requests(self) -> list[StreamRequest]:
        """Return the requests for the decision that is due: one, unless limits demand more."""
        if not self.due:
            return []
        return [self._request(names) for names in self._groups()]

    def take(self, answers: Sequence[Tensors]) -> list[StreamDecision]:
        """Return the decisions and slide on; either all answers are taken or none.

        Args:
            answers: Outputs of each of `requests`, in their order.

        Raises:
            TagMismatchError: Another release answered: `adopt` its manifest, then ask again.
            ManifestError: The answers have other classes than the manifest.
            ServerError: An answer is not finite, or misshapen.
        """
        new, last = self._waiting, self._samples[-1]
        histories: dict[Name, History] = {}
        decided: list[StreamDecision] = []
        for names, answer in zip(self._groups(), answers, strict=True):
            encoded = new_rows(answer, len(names), new, self.manifest)
            for name, rows in zip(names, encoded, strict=True):
                histories[name] = self._tracks[name].history.extended(rows)
            ripe = [row for row, name in enumerate(names) if self._is_mature(name)]
            named = decisions(answer, self.manifest, ripe)
            decided += [
                StreamDecision(
                    decision,
                    last.time,
                    last.index,
                    names[row],
                    self.manifest.model_tag,
                    new,
                    self._skipped,
                )
                for row, decision in zip(ripe, named, strict=True)
            ]
        for name, history in histories.items():
            self._tracks[name].history = history
        self.due, self._waiting, self._skipped = False, 0, 0
        return decided

    def adopt(self, manifest: PublicManifest) -> WindowReset | None:
        """Go over to another release; return what was given up for it.

        Where the encoders are others, embeddings are dropped and the samples wait again, so that
        the next request brings the full window; a release that differs in its head alone goes on
        with them. Only a release that takes other samples starts a new window.
        """
        before, self.manifest = self.manifest, manifest
        if _definition(before.spec, self._edge) != _definition(manifest.spec, self._edge):
            last = self._samples[-1] if self._samples else None
            skipped = self._clear()
            self._samples = deque(maxlen=self._length)
            return None if last is None else WindowReset("release", last.time, 0, skipped, ())
        if before.embedding_tag != manifest.embedding_tag:
            self._waiting = len(self._samples)
            for track in self._tracks.values():
                track.history = History.empty(manifest.spec)
        return None

    def clear(self) -> None:
        """Empty the window, so that the next sample starts a new one."""
        self._clear()

    @property
    def _length(self) -> int:
        return self.manifest.spec.clip.frames

    def _grow(self, name: Name) -> None:
        """Count a sample for a track, which begins here if it was not in the one before."""
        track = self._tracks.get(name)
        if track is None:
            track = self._tracks[name] = _Track(0, History.empty(self.manifest.spec))
        track.own = min(track.own + 1, self._length)

    def _is_mature(self, name: Name) -> bool:
        return self._tracks[name].own == self._length

    def _mature(self) -> bool:
        return any(map(self._is_mature, self._tracks))

    def _groups(self) -> list[list[Name]]:
        """Return the tracks of each request; each brings all samples that wait."""
        limits = self.manifest.limits
        size = max(1, min(limits.max_tracks, limits.max_rows // self._waiting))
        names = list(self._tracks)
        return [names[start : start + size] for start in range(0, len(names), size)]

    def _request(self, names: Sequence[Name]) -> StreamRequest:
        latest = list(self._samples)[-self._waiting :]
        cut = {name: self._cut(name, latest) for name in names}
        samples: dict[str, NDArray[Any]] = {}
        for kind in ("PIXELS_U8", "LUMA_U8"):
            if kind in latest[-1].tensors:
                rows = [sample.tensors[kind][row] for each in cut.values() for sample, row in each]
                samples[kind] = np.stack(rows)
        if not self._edge:
            frames = [sample.tensors["FRAMES"] for sample in latest]
            samples["FRAMES"] = np.stack([frames[0][0], *(pair[1] for pair in frames)])
            if latest[-1].tracks is not None:
                # The box of the frame before the first new one is not used.
                boxes = [[sample.tensors["ROI"][row, 1] for sample, row in cut[n]] for n in names]
                samples["ROI"] = np.array([[each[0], *each] for each in boxes], np.float32)
        histories = [self._tracks[name].history.before(self._waiting) for name in names]
        return stream_request(
            samples,
            histories,
            self.manifest,
            tag=self.manifest.embedding_tag,
            edge=self._edge,
            color=latest[-1].color,
        )

    def _cut(self, name: Name, latest: Sequence[StreamSample]) -> list[tuple[StreamSample, int]]:
        """Return a track's sample and row at each of the latest samples.

        A track that is younger than that repeats its first; by the time that it is answered, those
        rows have left its history.
        """
        own = latest[-min(len(latest), self._tracks[name].own) :]
        rows = [(item, 0 if item.tracks is None else item.tracks.index(name or "")) for item in own]
        return [rows[0]] * (len(latest) - len(rows)) + rows

    def _drop_due(self) -> int:
        """Give up the decision that is due; return how many are given up with it."""
        skipped = self._skipped + self.due
        self.due, self._skipped = False, 0
        return skipped

    def _clear(self) -> int:
        self._samples.clear()
        self._tracks.clear()
        self._count = self._waiting = 0
        return self._drop_due()

    def _check(self, sample: StreamSample) -> None:
        if sample.tracks == ():
            return
        spec, tensors = self.manifest.spec, sample.tensors
        came = {name: list(value.shape) for name, value in tensors.items()}
        if self._edge:
            size = spec.visual.image_size
            expected = {"PIXELS_U8": [sample.rows, size, size, 3]}
            if spec.motion is not None:
                expected["LUMA_U8"] = [sample.rows, 2, spec.motion.size, spec.motion.size]
        else:
            expected = {"FRAMES": [2, *came.get("FRAMES", [])[1:]]}
            if sample.tracks is not None:
                expected["ROI"] = [sample.rows, 2, 4]
        if came != expected:
            raise RefusedError(
                f"sample {sample.index}: expected {expected} as the release of the manifest takes "
                f"it, got {came}; prepare samples by the manifest's spec"
            )


def _break(last: StreamSample, sample: StreamSample) -> ResetReason | None:
    """Return why a sample cannot continue the window that ends with the last one."""
    if sample.index <= last.index:
        return "restart"
    if sample.index > last.index + 1:
        return "gap"
    if "FRAMES" in last.tensors and "FRAMES" in sample.tensors:
        shapes = (last.tensors["FRAMES"].shape, sample.tensors["FRAMES"].shape)
        if shapes[0] != shapes[1] or last.color != sample.color:
            return "frames"
    return None


def _definition(spec: ModelSpec, edge: bool) -> tuple[object, ...]:
    """Return all of a spec that decides whether samples made for it suit another one."""
    grid = (spec.clip.frames, spec.clip.dt)
    if not edge:
        return grid
    # Normalising and flow are the server's business.
    stages = PreprocessParameters.from_spec(spec)
    return (*grid, replace(stages, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), flow=None))
