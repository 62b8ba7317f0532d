"""Windows: clips of T+1 samples cut from the time grid, for files, streams and arrays alike."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Generic, TypeVar

import numpy as np

from fgmclip.kernels.parameters import ColorMatrix, ColorRange
from fgmclip.spec import ClipSpec
from fgmclip.video.damage import Damage
from fgmclip.video.decode import Picture, read_pictures
from fgmclip.video.errors import LowFrameRateError
from fgmclip.video.frames import Frame, Layout, Pixels
from fgmclip.video.grid import Gap, Sample, sample_grid

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """One clip, ready for a request.

    Attributes:
        start: Time of the first encoded sample, `frames[1]`, in seconds.
        frames: u8 [T+1,H,W,3] RGB or [T+1,H*3/2,W,1] NV12; `frames[0]` is only the first pair's
            "before": the sample before `start`, or a copy of `frames[1]` where a run starts.
        samples: How many of the T encoded samples are the video's own; the rest repeats the last.
        gap_before: Whether a gap lies between this window and the one before it, or, for the first
            window, the start of the video.
        color_matrix: As in `Frame`.
        color_range: As in `Frame`.
    """

    start: float
    frames: Pixels
    samples: int
    gap_before: bool
    color_matrix: ColorMatrix | None
    color_range: ColorRange | None


@dataclass(frozen=True, slots=True, eq=False)
class Span(Generic[T]):
    """What a window is made of, whatever was made of each sample.

    Attributes:
        start: Time of the first of `samples`, in seconds.
        before: The sample before `start`, or the first itself where a run starts.
        samples: 1 to T; a window repeats the last one up to T.
        gap_before: As in `Window`.
    """

    start: float
    before: T
    samples: tuple[T, ...]
    gap_before: bool


def read_windows(
    path: str | os.PathLike[str],
    clip: ClipSpec,
    *,
    layout: Layout = "rgb",
    damage: Damage | None = None,
) -> Iterator[Window]:
    """Yield the windows of a video file as `windows_from_samples` cuts them.

    Only the frames that the grid takes are converted. Memory holds one clip, however long the
    video.

    Args:
        path: A video file, see `decode`.
        clip: T and dt.
        layout: `rgb` or `nv12`, see `decode`.
        damage: Counts what is read and what is lost, for callers that report it.

    Yields:
        At least one window, unless an error is raised.

    Raises:
        VideoError: A leaf of it, as `decode` raises; or `LowFrameRateError` if most frames are
            further apart than dt and no run of samples reaches half a clip. A file of which most
            cannot be read raises after its windows.
    """
    for span in read_spans(path, clip, lambda sample: sample.frame, layout=layout, damage=damage):
        yield _window(span, clip)


def read_spans(
    path: str | os.PathLike[str],
    clip: ClipSpec,
    prepare: Callable[[Sample[Frame]], T],
    *,
    layout: Layout = "rgb",
    damage: Damage | None = None,
) -> Iterator[Span[T]]:
    """Yield the windows of a video file as `read_windows` does, of whatever is made of samples.

    Args:
        path: See `read_windows`.
        clip: See `read_windows`.
        prepare: Called once for each sample, in order; frames are not kept beside what it returns.
        layout: See `read_windows`.
        damage: See `read_windows`.

    Raises:
        VideoError: As `read_windows`.
    """
    pace = _Pace(clip.dt)
    pictures = pace.watch(read_pictures(path, layout=layout, damage=damage))
    samples = _converted(sample_grid(pictures, clip.dt), pace)
    for span in _spans(_points(samples, prepare), clip):
        if len(span.samples) < _shortest_run(clip) and pace.is_low:
            raise LowFrameRateError(path, pace.rate, clip.dt)
        yield span


def windows_from_samples(
    samples: Iterable[Sample[Frame] | Gap], clip: ClipSpec
) -> Iterator[Window]:
    """Cut a grid of samples into windows that slide by half a clip, max(1, T // 2) samples.

    Gaps, and frames of another size than those before, cut the samples into runs, and no window
    crosses a cut. From a run of T samples or more come full windows; its last samples are left out
    where they do not fill another slide. A run of at least T/2 samples gives one window, in which
    the last sample repeats up to T. A shorter run is skipped, unless the samples hold nothing
    longer: then the longest (the first of these) gives one window like that. So there is no window
    only if there is no sample.

    Args:
        samples: What `sample_grid` yields; may be endless.
        clip: T and dt.

    Yields:
        Windows in the order of their starts.
    """
    for span in _spans(_points(samples, lambda sample: sample.frame), clip):
        yield _window(span, clip)


@dataclass(frozen=True, slots=True, eq=False)
class _Point(Generic[T]):
    """A sample, or what was made of it."""

    time: float
    shape: tuple[int, ...]
    made: T


def _points(
    samples: Iterable[Sample[Frame] | Gap], prepare: Callable[[Sample[Frame]], T]
) -> Iterator[_Point[T] | Gap]:
    for item in samples:
        if isinstance(item, Gap):
            yield item
        else:
            yield _Point(item.time, item.frame.pixels.shape, prepare(item))


def _spans(points: Iterable[_Point[T] | Gap], clip: ClipSpec) -> Iterator[Span[T]]:
    run = _Run[T](clip.frames)
    spare: tuple[_Run[T], bool] | None = None
    gap_before = given = False
    # The end closes the last run as a gap does.
    for item in chain(points, [None]):
        fits = isinstance(item, _Point) and run.fits(item)
        if not fits:
            if not run.was_cut and len(run) >= _shortest_run(clip):
                yield run.span(gap_before)
                given, gap_before = True, False
            elif not run.was_cut and len(run) > (len(spare[0]) if spare else 0):
                spare = (run, gap_before)
            run, gap_before = _Run(clip.frames), True
        if isinstance(item, _Point) and run.add(item):
            yield run.span(gap_before)
            given, gap_before = True, False
    if spare is not None and not given:
        yield spare[0].span(spare[1])


class _Run(Generic[T]):
    """Points without a cut between them; keeps what the next window needs."""

    def __init__(self, length: int) -> None:
        self._length = length
        self._before: _Point[T] | None = None
        self._points: list[_Point[T]] = []
        self.was_cut = False

    def __len__(self) -> int:
        return len(self._points)

    def fits(self, point: _Point[T]) -> bool:
        """Whether a point can follow: its frame has the size of those before."""
        return not self._points or self._points[-1].shape == point.shape

    def add(self, point: _Point[T]) -> bool:
        """Append a point, sliding on if a full window was cut; return whether one is ready."""
        if len(self._points) == self._length:
            slide = max(1, self._length // 2)
            self._before = self._points[slide - 1]
            del self._points[:slide]
        self._points.append(point)
        ready = len(self._points) == self._length
        self.was_cut = self.was_cut or ready
        return ready

    def span(self, gap_before: bool) -> Span[T]:
        """Return what is in the run as a window's."""
        first = self._points[0]
        made = tuple(point.made for point in self._points)
        return Span(first.time, (self._before or first).made, made, gap_before)


def _window(span: Span[Frame], clip: ClipSpec) -> Window:
    """Stack "before" and the samples, repeating the last one up to T."""
    own = len(span.samples)
    frames = [span.before, *span.samples]
    frames += frames[-1:] * (clip.frames - own)
    color = span.samples[0]
    return Window(
        span.start,
        np.stack([frame.pixels for frame in frames]),
        own,
        span.gap_before,
        color.color_matrix,
        color.color_range,
    )


def _shortest_run(clip: ClipSpec) -> int:
    """Samples that a run needs to give a window although the video has other runs."""
    return (clip.frames + 1) // 2


def _converted(
    samples: Iterable[Sample[Picture] | Gap], pace: _Pace
) -> Iterator[Sample[Frame] | Gap]:
    """Convert the pictures that samples hold, shared ones once; tell `pace` of gaps."""
    picture: Picture | None = None
    frame: Frame | None = None
    for item in samples:
        if isinstance(item, Gap):
            pace.has_gaps = True
            yield item
            continue
        if frame is None or item.frame is not picture:
            picture, frame = item.frame, item.frame.frame()
        yield Sample(item.index, item.time, frame)


class _Pace:
    """Watches how far apart the pictures of a video are."""

    def __init__(self, dt: float) -> None:
        self._dt = dt
        self.has_gaps = False
        self._first = self._last = 0.0
        self._intervals = 0
        self._long = 0

    def watch(self, pictures: Iterable[Picture]) -> Iterator[Picture]:
        started = False
        for picture in pictures:
            if started:
                self._intervals += 1
                self._long += picture.time - self._last > self._dt
            else:
                self._first = picture.time
                started = True
            self._last = picture.time
            yield picture

    @property
    def is_low(self) -> bool:
        """Whether samples are missing because most pictures are further apart than samples."""
        return self.has_gaps and 2 * self._long > self._intervals

    @property
    def rate(self) -> float:
        """Pictures a second, on average."""
        return self._intervals / (self._last - self._first)
