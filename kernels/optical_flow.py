"""`optical_flow`: where each pixel of the earlier sample went, coarse to fine."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fgmclip.kernels.checks import check_flow, check_luma
from fgmclip.kernels.flow_patches import search_patches
from fgmclip.kernels.flow_refinement import refine
from fgmclip.kernels.parameters import FlowParameters

Floats = NDArray[np.float32]


def optical_flow(luma_u8: NDArray[np.uint8], parameters: FlowParameters) -> Floats:
    """Return the dense flow of each pair of samples.

    On every level, from the coarsest, patches search (`flow_patches`) down to the finest level of
    the search, and the energy is minimised (`flow_refinement`) down to full resolution; the result,
    doubled in size and value, starts the next level. A pair's flow does not depend on the other
    pairs of the batch.

    Args:
        luma_u8: LUMA_U8 [N,2,M,M], earlier then later.
        parameters: The flow's parameters.

    Returns:
        f32 [N,2,M,M]: u to the right, v down, in pixels of the M-grid.

    Raises:
        KernelError: Type, shape or size differ, or the parameters are another version's.
    """
    check_luma(luma_u8)
    check_flow(luma_u8.shape[2], parameters)
    if len(luma_u8) == 0:
        return np.zeros((0, 2, *luma_u8.shape[2:]), np.float32)
    levels = _pyramid(luma_u8.astype(np.float32), parameters)
    flow = np.zeros((len(luma_u8), 2, *levels[-1].shape[2:]), np.float32)
    finest = min(parameters.finest_level, len(levels) - 1)
    for index, level in reversed(list(enumerate(levels))):
        flow = _double(flow, level.shape[2]) if level.shape[2] != flow.shape[2] else flow
        earlier, later = level[:, 0].copy(), level[:, 1].copy()
        if index >= finest:
            flow = search_patches(earlier, later, flow, parameters)
        # A pixel of a coarse level stands for many, and costs as little as one.
        iterations = parameters.refinement_iterations * (index + 1)
        flow = refine(earlier, later, flow, iterations, parameters)
    return flow


def _pyramid(luma: Floats, parameters: FlowParameters) -> list[Floats]:
    """Return the levels, finest first: each the 2x2 means of the one before."""
    levels = [luma]
    while levels[-1].shape[2] // 2 >= parameters.coarsest_side:
        level = levels[-1]
        even = level.shape[2] // 2 * 2
        level = level[:, :, :even, :even]
        level = level[:, :, 0::2] + level[:, :, 1::2]
        level = level[:, :, :, 0::2] + level[:, :, :, 1::2]
        levels.append(level * np.float32(0.25))
    return levels


def _double(flow: Floats, side: int) -> Floats:
    """Return the flow on a grid of about twice the side, bilinear, border repeated."""
    # Pixel 2 k lies a quarter before pixel k of the coarse grid, pixel 2 k + 1 a quarter after.
    index = np.arange(side)
    below = (index + 1) // 2 + 1
    part = np.where(index % 2 == 0, np.float32(0.75), np.float32(0.25))
    padded = np.pad(flow, ((0, 0), (0, 0), (1, 1), (1, 1)), "edge")
    rows = padded[:, :, below - 1]
    rows = rows + (padded[:, :, below] - rows) * part[:, None]
    columns = rows[..., below - 1]
    doubled: Floats = (columns + (rows[..., below] - columns) * part) * np.float32(2)
    return doubled
