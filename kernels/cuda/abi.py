"""What crosses from Python to the kernels: the structures of csrc/cuda/abi.cuh, and their names.

A kernel's arguments are addresses (`Memory`), scalars and structured scalars, each at its own
alignment (`dtype.alignment`), as `cuLaunchKernel` packs them.
"""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from fgmclip.kernels.color import Color, constants
from fgmclip.kernels.parameters import FlowParameters

KERNELS = (
    "preprocess_f32",
    "preprocess_f16",
    "preprocess_u8",
    "normalize_f32",
    "normalize_f16",
    "frame_difference_f32",
    "frame_difference_f16",
    "optical_flow_f32",
    "motion_f32",
    "motion_f16",
)
"""Every kernel of kernels.cu."""

MAX_SHARED = 48 * 1024
"""Most dynamic shared memory that a launch asks for, bytes: what every GPU gives unasked."""

FRAME_LAYOUT = np.dtype(
    [
        ("frame_stride", np.int64),
        ("row_stride", np.int64),
        ("height", np.int32),
        ("width", np.int32),
        ("nv12", np.int32),
    ],
    align=True,
)

COLOR = np.dtype(
    [
        (name, np.int32)
        for name in (
            "weight_r",
            "weight_g",
            "weight_b",
            "luma",
            "black",
            "red_v",
            "green_u",
            "green_v",
            "blue_u",
        )
    ],
    align=True,
)

NORMALIZATION = np.dtype([("mean", np.float32, 3), ("std", np.float32, 3)], align=True)

FLOW_PARAMETERS = np.dtype(
    [
        *(
            (name, np.int32)
            for name in (
                "coarsest_side",
                "finest_level",
                "patch_size",
                "patch_stride",
                "iterations",
                "propagations",
                "refinement_iterations",
                "relaxation_iterations",
            )
        ),
        *((name, np.float32) for name in ("stiffness", "smoothness", "gradient", "intensity")),
    ],
    align=True,
)

AXIS_TABLE = np.dtype([(name, np.int32) for name in ("start", "weights", "taps")], align=True)

_TILE_NUMBERS = (
    "frame",
    "pixels",
    "luma",
    "luma_again",
    "left",
    "top",
    "column",
    "columns",
    "row",
    "rows",
    "x",
    "width",
    "y",
    "height",
    "luma_x",
    "luma_width",
    "luma_y",
    "luma_height",
)

_TILE_SHARED = (
    "groups",
    "raw",
    "raw_stride",
    "chroma",
    "chroma_stride",
    "gray",
    "gray_stride",
    "middle",
    "middle_groups",
    "sums",
    "sums_rows",
    "across_at",
    "down_at",
    "luma_across_at",
    "luma_down_at",
)

AXES = ("across", "down", "luma_across", "luma_down")
"""Names of the four axes in TILE."""

TILE = np.dtype(
    [
        ("tables", np.uint64),
        *((name, np.int32) for name in _TILE_NUMBERS),
        *((name, AXIS_TABLE) for name in AXES),
        *((name, np.int32) for name in _TILE_SHARED),
    ],
    align=True,
)


def frame_layout_record(
    frame_stride: int, row_stride: int, height: int, width: int, nv12: bool
) -> np.void:
    """Return a FRAME_LAYOUT; strides are bytes."""
    return _record(FRAME_LAYOUT, (frame_stride, row_stride, height, width, int(nv12)))


def color_record(color: Color) -> np.void:
    """Return `color` as a COLOR."""
    return _record(COLOR, tuple(constants(color).tolist()))


def normalization_record(
    mean: tuple[float, float, float], std: tuple[float, float, float]
) -> np.void:
    """Return mean and standard deviation of the channels as a NORMALIZATION."""
    return _record(NORMALIZATION, (mean, std))


def flow_record(parameters: FlowParameters) -> np.void:
    """Return the flow's parameters as FLOW_PARAMETERS."""
    fields = asdict(parameters)
    names = FLOW_PARAMETERS.names or ()
    return _record(FLOW_PARAMETERS, tuple(fields[name] for name in names))


def _record(dtype: np.dtype[np.void], values: tuple[object, ...]) -> np.void:
    records: NDArray[np.void] = np.array([values], dtype)
    record: np.void = records[0]
    return record
