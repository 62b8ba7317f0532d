"""What the operations refuse, in one place and with one wording.

How large a request may be is not said here: that is `fgmclip.spec.Limits`.
"""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from fgmclip.kernels.errors import KernelError
from fgmclip.kernels.parameters import FLOW_VERSION, ColorMatrix, ColorRange, FlowParameters

SMALLEST_FLOW = 16
"""Smallest M of a flow: below it there is no room for patches, pixels."""

MAX_ROI_SCALE = 2
"""Longer side of a box at most, in longer sides of the frame; beyond it something went wrong."""


def check_frames(frames: NDArray[Any]) -> tuple[int, int]:
    """Return height and width of the frames, pixels.

    Args:
        frames: u8 RGB [n+1,H,W,3] or NV12 [n+1,H*3/2,W,1].

    Raises:
        KernelError: Type, rank, channels, count or size are not those of frames.
    """
    layouts = "RGB [n+1,H,W,3] or NV12 [n+1,H*3/2,W,1]"
    _check_type("FRAMES", frames, np.uint8, "send values 0..255 as bytes")
    if frames.ndim != 4 or frames.shape[3] not in (1, 3):
        raise KernelError(
            f"FRAMES: expected {layouts}, got {list(frames.shape)}; "
            "put the sample before and the new ones into one array, channels last"
        )
    count, rows, width, channels = frames.shape
    if count < 2:
        raise KernelError(
            f"FRAMES: expected at least 2 frames, got {count}; "
            "send the sample before the first new one too, or a copy of the new one"
        )
    if rows == 0 or width == 0:
        raise KernelError(
            f"FRAMES: expected at least one pixel, got {list(frames.shape)}; leave empty frames out"
        )
    if channels == 3:
        return rows, width
    if rows % 3 or width % 2:
        raise KernelError(
            "FRAMES: expected NV12 of even height and width, that is H*3/2 rows of W bytes, "
            f"got {rows} rows of {width}; cut an odd row or column off before the conversion"
        )
    return rows // 3 * 2, width


def check_rois(rois: NDArray[Any], count: int, height: int, width: int) -> None:
    """Refuse what are no boxes on these frames.

    The first frame's boxes are never used (both frames of a pair are cut by the later one's), so
    they need to be numbers only: a track may enter the picture with the first new sample.

    Args:
        rois: f32 [R,n+1,4], pixels x0, y0, x1, y1.
        count: n + 1, the number of frames.
        height: Of the frames, pixels.
        width: Of the frames, pixels.

    Raises:
        KernelError: Type, shape or values are not those of boxes.
    """
    _check_type("ROI", rois, np.float32, "convert pixels x0, y0, x1, y1 to f32")
    if rois.ndim != 3 or rois.shape[1:] != (count, 4) or len(rois) == 0:
        raise KernelError(
            f"ROI: expected [R,{count},4] with R of at least 1, got {list(rois.shape)}; "
            "give each track a box x0, y0, x1, y1 a frame, or leave ROI out for whole frames"
        )
    x0, y0, x1, y1 = np.moveaxis(rois.astype(np.float64), 2, 0)
    frame = f"{width}x{height}"
    longest = MAX_ROI_SCALE * max(height, width)
    finite = np.isfinite(rois).all(axis=2)
    _check_boxes(rois, finite, 0, "finite pixels", "leave the track out")
    for valid, expected, remedy in (
        ((x0 < x1) & (y0 < y1), "x0 < x1 and y0 < y1", "order the corners"),
        (
            (x1 > 0) & (y1 > 0) & (x0 < width) & (y0 < height),
            f"a box that overlaps the {frame} frame",
            "leave the track out",
        ),
        (
            np.maximum(x1 - x0, y1 - y0) <= longest,
            f"sides up to {longest} pixels for a {frame} frame",
            "cut the box to the frame",
        ),
    ):
        _check_boxes(rois, valid, 1, expected, remedy)


def check_color(matrix: str, value_range: str) -> None:
    """Refuse names of no colour matrix or value range.

    Raises:
        KernelError: A name is unknown.
    """
    for name, value, known in (
        ("color_matrix", matrix, get_args(ColorMatrix)),
        ("color_range", value_range, get_args(ColorRange)),
    ):
        if value not in known:
            raise KernelError(
                f"{name}: expected {' or '.join(known)}, got {value!r}; "
                "leave it out for the model's own"
            )


def check_pixels(pixels_u8: NDArray[Any], size: int | None = None) -> None:
    """Refuse what is no PIXELS_U8.

    Args:
        pixels_u8: u8 [N,S,S,3].
        size: S, where it is known.

    Raises:
        KernelError: Type or shape differ.
    """
    _check_type("PIXELS_U8", pixels_u8, np.uint8, "send what preprocess_u8 returns")
    shape = pixels_u8.shape
    if len(shape) != 4 or shape[1] != shape[2] or shape[3] != 3 or size not in (None, shape[1]):
        side = "S" if size is None else size
        raise KernelError(
            f"PIXELS_U8: expected [N,{side},{side},3], got {list(shape)}; "
            "send what preprocess_u8 returns"
        )


def check_luma(luma_u8: NDArray[Any], size: int | None = None, count: int | None = None) -> None:
    """Refuse what is no LUMA_U8.

    Args:
        luma_u8: u8 [N,2,M,M].
        size: M, where it is known.
        count: N, where it is known.

    Raises:
        KernelError: Type or shape differ.
    """
    _check_type("LUMA_U8", luma_u8, np.uint8, "send what preprocess_u8 returns")
    shape = luma_u8.shape
    if (
        len(shape) != 4
        or shape[1] != 2
        or shape[2] != shape[3]
        or size not in (None, shape[2])
        or count not in (None, shape[0])
    ):
        side = "M" if size is None else size
        rows = "N" if count is None else count
        raise KernelError(
            f"LUMA_U8: expected [{rows},2,{side},{side}], earlier then later, got {list(shape)}; "
            "send what preprocess_u8 returns"
        )


def check_flow(size: int, parameters: FlowParameters) -> None:
    """Refuse a flow that this build does not compute.

    Args:
        size: M, pixels.
        parameters: The flow's parameters.

    Raises:
        KernelError: M is too small, or the parameters are another version's.
    """
    if size < SMALLEST_FLOW:
        raise KernelError(f"LUMA_U8: expected M of at least {SMALLEST_FLOW}, got {size}")
    if parameters.version != FLOW_VERSION:
        raise KernelError(
            f"flow version: expected {FLOW_VERSION}, which this build computes, got "
            f"{parameters.version}; use the version of fgmclip that trained the checkpoint"
        )


def check_packed(name: str, array: NDArray[Any], *, rows: bool = False) -> None:
    """Refuse memory that compiled code cannot walk through.

    Args:
        name: What the array is called in the message.
        array: What was given.
        rows: Rows and frames may lie apart, as in a view of part of a picture; their pixels not.

    Raises:
        KernelError: The elements do not lie side by side.
    """
    if rows:
        # An axis of one element has no stride that matters, and NumPy gives it any.
        channels = array.shape[3]
        packed = (channels == 1 or array.strides[3] == 1) and (
            array.shape[2] == 1 or array.strides[2] == channels
        )
    else:
        packed = array.flags.c_contiguous
    if not packed and array.size:
        raise KernelError(
            f"{name}: expected {'pixels' if rows else 'values'} side by side in memory, got "
            f"strides {list(array.strides)} for {list(array.shape)}; "
            "pass numpy.ascontiguousarray of it"
        )


def check_out(array: NDArray[Any], dtype: type[np.generic], shape: tuple[int, ...]) -> None:
    """Refuse a place that a result cannot be written to.

    Raises:
        KernelError: Type, shape or layout differ, or the array is read-only.
    """
    wanted = "u8" if dtype == np.uint8 else "f32"
    flags = array.flags
    if array.dtype != dtype or array.shape != shape or not (flags.c_contiguous and flags.writeable):
        raise KernelError(
            f"out: expected a writable, contiguous {wanted} {list(shape)}, got {array.dtype} "
            f"{list(array.shape)}; make it with numpy.empty"
        )


def _check_type(name: str, array: NDArray[Any], expected: type[np.generic], remedy: str) -> None:
    if array.dtype != expected:
        wanted = "u8" if expected is np.uint8 else "f32"
        raise KernelError(f"{name}: expected {wanted}, got {array.dtype}; {remedy}")


def _check_boxes(
    rois: NDArray[Any], valid: NDArray[np.bool_], first: int, expected: str, remedy: str
) -> None:
    """Refuse the first box, from frame `first` on, that is not valid [R,n+1]."""
    wrong = np.argwhere(~valid[:, first:])
    if len(wrong):
        track, frame = int(wrong[0, 0]), int(wrong[0, 1]) + first
        raise KernelError(
            f"ROI: expected {expected}, got {rois[track, frame].tolist()} "
            f"in track {track}, frame {frame}; {remedy}"
        )
