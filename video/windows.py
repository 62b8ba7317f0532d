"""Windows: clips of T+1 samples cut from the time grid, for files, streams and arrays alike."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np

from fgmclip.kernels.parameters import ColorMatrix, ColorRange
from fgmclip.spec import ClipSpec
from fgmclip.video.decode import Picture, read_pictures
from fgmclip.video.errors import GridError, LowFrameRateError
from fgmclip.video.frames import Frame, Layout, Pixels
from fgmclip.video.grid import Gap, Sample, sample_grid


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


def read_windows(
    path: str | os.PathLike[str], clip: ClipSpec, *, layout: Layout = "rgb"
) -> Iterator[Window]:
    """Yield the windows of a video file as `windows_from_samples` cuts them.

    Only the frames that the grid takes are converted. Memory holds one clip, however long the
    video.

    Args:
        path: A video file, see `decode`.
        clip: T and dt.
        layout: `rgb` or `nv12`, see `decode`.

    Yields:
        At least one window, unless an error is raised.

    Raises:
        VideoError: A leaf of it, as `decode` raises; or `LowFrameRateError` if most frames are
            further apart than dt and no run of samples reaches half a clip. A file damaged midway
            raises after its windows; those that end before the damage are good.
    """
    pace = _Pace(clip.dt)
    pictures = pace.watch(read_pictures(path, layout=layout))
    samples = _converted(sample_grid(pictures, clip.dt), pace)
    for window in windows_from_samples(samples, clip):
        if window.samples < _shortest_run(clip) and pace.is_low:
            raise LowFrameRateError(path, pace.rate, clip.dt)
        yield window


def windows_from_samples(
    samples: Iterable[Sample[Frame] | Gap], clip: ClipSpec
) -> Iterator[Window]:
    """Cut a grid of samples into windows that slide by half a clip, max(1, T // 2) samples.

    Gaps cut the samples into runs, and no window crosses a gap. From a run of T samples or more
    come full windows; its last samples are left out where they do not fill another slide. A run of
    at least T/2 samples gives one window, in which the last sample repeats up to T. A shorter run
    is skipped, unless the samples hold nothing longer: then the longest (the first of these) gives
    one window like that. So there is no window only if there is no sample.

    Args:
        samples: What `sample_grid` yields; may be endless.
        clip: T and dt.

    Yields:
        Windows in the order of their starts.

    Raises:
        GridError: The shapes of frames differ within a window.
    """
    run = _Run(clip.frames)
    spare: tuple[_Run, bool] | None = None
    gap_before = given = False
    # The end closes the last run as a gap does.
    for item in chain(samples, [None]):
        if isinstance(item, Sample):
            if run.add(item):
                yield run.window(gap_before)
                given, gap_before = True, False
            continue
        if not run.was_cut and len(run) >= _shortest_run(clip):
            yield run.window(gap_before)
            given, gap_before = True, False
        elif not run.was_cut and len(run) > (len(spare[0]) if spare else 0):
            spare = (run, gap_before)
        run, gap_before = _Run(clip.frames), True
    if spare is not None and not given:
        yield spare[0].window(spare[1])


class _Run:
    """Samples without a gap between them; keeps what the next window needs."""

    def __init__(self, length: int) -> None:
        self._length = length
        self._before: Sample[Frame] | None = None
        self._samples: list[Sample[Frame]] = []
        self.was_cut = False

    def __len__(self) -> int:
        return len(self._samples)

    def add(self, sample: Sample[Frame]) -> bool:
        """Append a sample, sliding on if a full window was cut; return whether one is ready."""
        if len(self._samples) == self._length:
            slide = max(1, self._length // 2)
            self._before = self._samples[slide - 1]
            del self._samples[:slide]
        self._samples.append(sample)
        ready = len(self._samples) == self._length
        self.was_cut = self.was_cut or ready
        return ready

    def window(self, gap_before: bool) -> Window:
        """Stack "before" and the samples, repeating the last one up to T."""
        own = len(self._samples)
        first = self._samples[0]
        samples = [self._before or first, *self._samples]
        samples += samples[-1:] * (self._length - own)
        pixels = [sample.frame.pixels for sample in samples]
        shapes = sorted({array.shape for array in pixels})
        if len(shapes) > 1:
            raise GridError(
                f"all frames of a window must have one shape, got {shapes[0]} and {shapes[1]} "
                f"from {first.time:.3f} s on; resize them to one size"
            )
        color = first.frame
        return Window(
            first.time, np.stack(pixels), own, gap_before, color.color_matrix, color.color_range
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
