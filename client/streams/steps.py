"""`StreamSteps`: from frames with timestamps to decisions, written once for sync and asyncio.

Its methods are generators that yield what they need from the network and are sent the answer, or
have the error thrown in. Whoever drives them is all that differs between the two clients.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from fgmclip.client.answers import ATTEMPTS
from fgmclip.client.checks import Frames, color_parameters
from fgmclip.client.checks import check_frames as check_limits
from fgmclip.client.errors import ClientError, ManifestError, RefusedError, TagMismatchError
from fgmclip.client.streams.requests import StreamRequest, is_foreign_tag
from fgmclip.client.streams.results import StreamDecision, WindowReset
from fgmclip.client.streams.samples import Box, SamplePreparer, StreamSample
from fgmclip.client.streams.window import SlidingWindow
from fgmclip.kernels.checks import check_frames, check_rois
from fgmclip.kernels.errors import KernelError
from fgmclip.spec import PublicManifest
from fgmclip.video.errors import GridError
from fgmclip.video.frames import Frame
from fgmclip.video.grid import Gap, Grid, Sample

KEPT_RESULTS = 256
"""Results that wait for the next call, where each call was cancelled halfway."""

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class ReadManifest:
    """Asks for the public manifest.

    Attributes:
        refresh: Whether what was read before is out of date.
    """

    refresh: bool


Results = list[StreamDecision | WindowReset]
Steps = Generator[ReadManifest | StreamRequest, Any, R]


@dataclass(frozen=True, slots=True, eq=False)
class _Shot:
    """A frame with its boxes, as the grid takes it."""

    time: float
    frame: Frame
    boxes: Mapping[str, Box] | None


class StreamSteps:
    """The time grid, the preparation and the window of one stream."""

    def __init__(
        self,
        *,
        stride: int,
        edge: bool,
        color_matrix: str | None,
        color_range: str | None,
    ) -> None:
        """Take the options of `StreamClient` over.

        Raises:
            RefusedError: There is no such matrix or range.
        """
        self._stride = stride
        self._edge = edge
        self._color: dict[str, Any] = {**color_parameters(color_matrix, color_range)}
        self._window: SlidingWindow | None = None
        self._grid: Grid[_Shot]
        self._preparer: SamplePreparer
        self._results: Results = []

    @property
    def due(self) -> bool:
        """Whether a decision is to be made."""
        return self._window is not None and self._window.due

    def window(self) -> Steps[SlidingWindow]:
        """Return the window; the first call asks for the manifest."""
        if self._window is None:
            manifest = yield ReadManifest(refresh=False)
            self._window = SlidingWindow(manifest, stride=self._stride, edge=self._edge)
            self._begin(manifest)
        return self._window

    def push(
        self, frame: Frames | Frame, time: float, boxes: Mapping[str, Box] | None
    ) -> Steps[Results]:
        """Take a frame; see `StreamClient.push`."""
        window = yield from self.window()
        shot = self._shot(frame, time, boxes, window.manifest)
        try:
            items = self._grid.add(shot)
        except GridError as error:
            raise RefusedError(str(error)) from error
        return (yield from self._advance(window, items))

    def flush(self) -> Steps[Results]:
        """Settle what the last frame left open, then start anew; see `StreamClient.flush`."""
        window = yield from self.window()
        results = yield from self._advance(window, self._grid.finish())
        window.clear()
        self._begin(window.manifest)
        return results

    def add(self, sample: StreamSample) -> Steps[list[WindowReset]]:
        """Take a prepared sample; see `StreamClient.add`."""
        window = yield from self.window()
        reset = window.add(sample)
        return [] if reset is None else [reset]

    def decide(self) -> Steps[Results]:
        """Make the decision that is due, whatever release answers; see `StreamClient.decide`."""
        window = yield from self.window()
        results: Results = []
        for left in reversed(range(ATTEMPTS)):
            try:
                answers = []
                for request in window.requests():
                    answers.append((yield request))
                return [*results, *(window.take(answers) if answers else ())]
            except (RefusedError, ManifestError) as error:
                failure = error
            foreign = is_foreign_tag(failure)
            if left:
                # A release with other shapes refuses tensors before it comes to their tag.
                manifest = yield ReadManifest(refresh=True)
                if foreign or manifest != window.manifest:
                    reset = window.adopt(manifest)
                    if reset is not None:
                        results.append(reset)
                        self._begin(manifest)
                    continue
            if foreign and not isinstance(failure, TagMismatchError):
                raise TagMismatchError(str(failure)) from failure
            raise failure
        raise AssertionError("the last attempt returns or raises")

    def _begin(self, manifest: PublicManifest) -> None:
        self._grid = Grid(manifest.dt)
        self._preparer = SamplePreparer(manifest.spec, edge=self._edge)

    def _advance(
        self, window: SlidingWindow, items: Sequence[Sample[_Shot] | Gap]
    ) -> Steps[Results]:
        """Move the window on by points of the grid, deciding on the way.

        An error is raised where nothing was answered before it; else it comes with the next call,
        which asks again.
        """
        grid = self._grid
        # The window sees a gap in the index of the sample after it.
        waiting = deque(item for item in items if isinstance(item, Sample))
        failure: ClientError | None = None
        try:
            while failure is None and (waiting or window.due):
                if waiting:
                    self._take_in(window, waiting.popleft())
                if not window.due:
                    continue
                try:
                    self._results += yield from self.decide()
                except ClientError as error:
                    failure = error
                if self._grid is not grid:
                    # A release with another grid: these points are none of it.
                    waiting.clear()
        finally:
            while waiting:
                self._take_in(window, waiting.popleft())
            del self._results[:-KEPT_RESULTS]
        if failure is not None and not self._results:
            raise failure
        results, self._results = self._results, []
        return results

    def _take_in(self, window: SlidingWindow, item: Sample[_Shot]) -> None:
        shot = item.frame
        sample = self._preparer.prepare(Sample(item.index, item.time, shot.frame), shot.boxes)
        reset = window.add(sample)
        if reset is not None:
            self._results.append(reset)

    def _shot(
        self,
        frame: Frames | Frame,
        time: float,
        boxes: Mapping[str, Box] | None,
        manifest: PublicManifest,
    ) -> _Shot:
        """Return a frame that can be used, so that nothing is refused once the grid has it."""
        picture = frame if isinstance(frame, Frame) else Frame(time, frame)
        own = {key: value for key, value in self._color.items() if getattr(picture, key) is None}
        picture = replace(picture, time=time, **own)
        pixels = picture.pixels
        if not isinstance(pixels, np.ndarray):
            raise RefusedError(
                f"frame: expected u8 RGB [H,W,3] or NV12 [H*3/2,W,1], got {type(pixels).__name__}"
            )
        pair = np.broadcast_to(pixels, (2, *pixels.shape))
        try:
            height, width = check_frames(pair)
            if boxes is not None:
                boxes = {name: tuple(map(float, box)) for name, box in boxes.items()}
                _check_boxes(boxes, height, width)
        except KernelError as error:
            raise RefusedError(str(error)) from error
        if not self._edge:
            check_limits(pair, manifest.limits, fewest=1, most=1)
        return _Shot(time, picture, boxes)


def _check_boxes(boxes: Mapping[str, Box], height: int, width: int) -> None:
    for name, box in boxes.items():
        corners = np.array(box, np.float32)
        if corners.shape != (4,):
            raise RefusedError(
                f"boxes: expected x0, y0, x1, y1 of {name!r}, got {list(corners.shape)} numbers"
            )
        check_rois(np.tile(corners, (1, 2, 1)), 2, height, width)
