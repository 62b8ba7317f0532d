"""What counts as a video in a folder that holds other files too."""

from __future__ import annotations

# fmt: off
VIDEO_SUFFIXES = frozenset({
    ".3gp", ".asf", ".avi", ".dav", ".flv", ".m2ts", ".m4v", ".mjpeg", ".mkv", ".mov", ".mp4",
    ".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".vob", ".webm", ".wmv",
})
# fmt: on
"""Ends of file names, in lower case."""
