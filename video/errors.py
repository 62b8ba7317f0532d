"""What goes wrong between a video file and its windows.

FgmclipError
├── VideoError                    one file cannot be used; has `path` and `cause`
│   ├── VideoNotFoundError        no such file (also a FileNotFoundError)
│   ├── VideoAccessError          the file may not be read (also a PermissionError)
│   ├── NotAVideoError            a folder, empty, text, sound, a still image (also a ValueError)
│   ├── UnsupportedVideoError     a video that this package does not handle (also a ValueError)
│   ├── DamagedVideoError         the data breaks off; has `frames` (also a ValueError)
│   └── LowFrameRateError         too few frames a second for the model's dt (also a ValueError)
├── LiveSourceError               a live source does not answer or broke off (a ConnectionError)
├── VideoListError                a CSV or folder of labelled videos is refused (also a ValueError)
├── LayoutError                   a layout other than rgb and nv12 (also a ValueError)
└── GridError                     frames or samples out of order or shape (also a ValueError)
"""

from __future__ import annotations

import os
from pathlib import Path

from fgmclip.spec.errors import FgmclipError
from fgmclip.storage.text import one_line


class VideoError(FgmclipError):
    """A file cannot be used as a video; the message is one line naming the file and the cause.

    Attributes:
        path: The file.
        cause: What is wrong with it, without the file's name.
    """

    def __init__(self, path: str | os.PathLike[str], cause: str) -> None:
        """Name the file and the cause."""
        super().__init__(path, cause)
        self.path = Path(path)
        self.cause = one_line(cause)

    def __str__(self) -> str:
        """Return the file's name and the cause on one line."""
        return f"{one_line(str(self.path))}: {self.cause}"

    def __reduce__(self) -> tuple[type[VideoError], tuple[object, ...]]:
        """Pickle by the constructor's arguments, for workers; OSError would use its own."""
        return type(self), (self.path, self.cause)


class VideoNotFoundError(VideoError, FileNotFoundError):
    """There is no such file."""


class VideoAccessError(VideoError, PermissionError):
    """The operating system refuses to read the file."""


class NotAVideoError(VideoError, ValueError):
    """The path names something without moving pictures."""


class UnsupportedVideoError(VideoError, ValueError):
    """A video, but of a kind that is refused, for example one whose frame size changes."""


class DamagedVideoError(VideoError, ValueError):
    """The data is damaged or breaks off; the frames before the damage were yielded.

    Attributes:
        frames: How many good frames were yielded.
    """

    def __init__(self, path: str | os.PathLike[str], cause: str, frames: int) -> None:
        """Name the file, the cause and the number of good frames."""
        super().__init__(path, cause)
        self.frames = frames

    def __reduce__(self) -> tuple[type[VideoError], tuple[object, ...]]:
        """Pickle by the constructor's arguments."""
        return type(self), (self.path, self.cause, self.frames)


class LowFrameRateError(VideoError, ValueError):
    """The frames are further apart than the model's samples, so there is no motion to see.

    Attributes:
        rate: Frames a second, on average.
        dt: Distance between samples in seconds.
    """

    def __init__(self, path: str | os.PathLike[str], rate: float, dt: float) -> None:
        """Name the file, its rate and the model's dt."""
        super().__init__(
            path,
            f"has {rate:.3g} frames a second, but samples {dt:.4g} s apart need about "
            f"{1 / dt:.3g}; use a video of a higher frame rate or a model with a larger dt",
        )
        self.rate = rate
        self.dt = dt

    def __reduce__(self) -> tuple[type[VideoError], tuple[object, ...]]:
        """Pickle by the constructor's arguments."""
        return type(self), (self.path, self.rate, self.dt)


class LiveSourceError(FgmclipError, ConnectionError):
    """A live source does not answer, or broke off; the message is one line without its address."""


class LayoutError(FgmclipError, ValueError):
    """A layout was asked for that is neither `rgb` nor `nv12`."""


class GridError(FgmclipError, ValueError):
    """Frames do not advance in time, a dt is not positive, or shapes differ within a window."""


class VideoListError(FgmclipError, ValueError):
    """A CSV file or a folder does not list labelled videos."""
