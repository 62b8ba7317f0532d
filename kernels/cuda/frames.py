"""Frames of a request in a device's memory: where they lie already, or the part that is needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fgmclip.kernels.cuda.device import Device, Memory
from fgmclip.kernels.cuda.launches import DeviceFrames
from fgmclip.kernels.regions import Region, Window
from fgmclip.kernels.taps import area_taps, bicubic_taps

Tracks = Sequence[Sequence[Region]]
"""Region of each track and new sample, [R][n]."""


def frames_in(memory: Memory, shape: Sequence[int]) -> DeviceFrames:
    """Return frames that lie in C order, checked before.

    Args:
        memory: Where the first one begins.
        shape: RGB [n+1,H,W,3] or NV12 [n+1,H*3/2,W,1].
    """
    count, rows, width, channels = shape
    nv12 = channels == 1
    row_stride = width * channels
    height = rows // 3 * 2 if nv12 else rows
    return DeviceFrames(memory, count, height, width, nv12, rows * row_stride, row_stride)


def upload_frames(
    device: Device, frames: NDArray[np.uint8], tracks: Tracks, motion_size: int | None
) -> tuple[DeviceFrames, Tracks]:
    """Copy what the regions need of the frames, in one upload.

    Of RGB that is one rectangle of each frame; NV12 comes whole, as its planes would need two.

    Args:
        device: Where to.
        frames: RGB [n+1,H,W,3] or NV12 [n+1,H*3/2,W,1].
        tracks: Region of each track and new sample, [R][n].
        motion_size: M, pixels; None for a model without motion.

    Returns:
        The frames there, and the regions as they lie in them.
    """
    rows, columns, channels = frames.shape[1:]
    window = Window(0, 0, columns, rows)
    if channels == 3:
        window = needed_window(tracks, (rows, columns), motion_size) or window
    part = frames[:, window.top : window.bottom, window.left : window.right]
    moved = [
        [
            replace(region, left=region.left - window.left, top=region.top - window.top)
            for region in regions
        ]
        for regions in tracks
    ]
    return frames_in(device.upload(part), part.shape), moved


def needed_window(
    tracks: Tracks, frame_size: tuple[int, int], motion_size: int | None
) -> Window | None:
    """Return the rectangle of a frame that holds all that regions need; None if they need nothing.

    Args:
        tracks: The regions, [R][n].
        frame_size: Height and width of the frame, pixels.
        motion_size: M, pixels; None for a model without motion.
    """
    windows = []
    for region in {region for regions in tracks for region in regions}:
        windows.append(pixels_window(region, frame_size))
        if motion_size is not None:
            windows.append(luma_window(region, frame_size, motion_size))
    windows = [window for window in windows if area(window)]
    if not windows:
        return None
    return union(windows)


def pixels_window(region: Region, frame_size: tuple[int, int]) -> Window:
    """Return what PIXELS take of a frame of that height and width."""
    columns, rows = (
        bicubic_taps(length, resized, offset, region.size).span
        for length, resized, offset in _axes(region)
    )
    return region.window(columns, rows, frame_size)


def luma_window(region: Region, frame_size: tuple[int, int], motion_size: int) -> Window:
    """Return what LUMA_U8 takes of a frame of that height and width."""
    columns, rows = (
        area_taps(length, resized, offset, region.size, motion_size).span
        for length, resized, offset in _axes(region)
    )
    return region.window(columns, rows, frame_size)


def union(windows: Sequence[Window]) -> Window:
    """Return the rectangle around some windows."""
    return Window(
        left=min(window.left for window in windows),
        top=min(window.top for window in windows),
        right=max(window.right for window in windows),
        bottom=max(window.bottom for window in windows),
    )


def area(window: Window) -> int:
    """Return how many pixels a window has."""
    return (window.right - window.left) * (window.bottom - window.top)


def _axes(region: Region) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Return length, resized length and offset, across and down."""
    return (
        (region.width, region.resized_width, region.offset_x),
        (region.height, region.resized_height, region.offset_y),
    )
