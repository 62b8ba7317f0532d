"""From the regions of a request to what the blocks of `preprocess` do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from fgmclip.kernels.cuda.abi import AXES
from fgmclip.kernels.cuda.tiling import Axis, Tiling, Work
from fgmclip.kernels.errors import KernelError
from fgmclip.kernels.parameters import FlowParameters
from fgmclip.kernels.regions import Region

_MAX_MOVED = 1.16
"""Bytes that the tiles of a frame may move, in bytes that have to be moved."""

_MAX_CUT = 8
"""Most columns and rows of tiles, unless shared memory wants smaller ones."""

_MAX_LEVELS = 16
_FLOW_PLANES = 24


@dataclass(frozen=True, slots=True)
class Scale:
    """What jobs must have in common to share a plan.

    Attributes:
        lengths: Width and height of the region, pixels.
        resized: Width and height of the whole region after resizing, pixels.
        offsets: First column and row of the square inside the resized region, pixels.
        size: S, pixels.
        motion_size: M, pixels; 0 without luma.
        work: What is done with the frame.
        value_bytes: Of one channel of one of PIXELS.
        inside: Eighths of the region that the frame has, rounded up.
    """

    lengths: tuple[int, int]
    resized: tuple[int, int]
    offsets: tuple[int, int]
    size: int
    motion_size: int
    work: Work
    value_bytes: int
    inside: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What all jobs of one scale have in common.

    Attributes:
        tables: Starts and weights of the axes, i32.
        tiles: TILE records [tiles], as if the region's corner were the frame's.
        shared: Dynamic shared memory of a block, bytes.
    """

    tables: NDArray[np.int32]
    tiles: NDArray[np.void]
    shared: int


@dataclass(frozen=True, slots=True)
class Job:
    """One frame seen through one region.

    Attributes:
        frame: Which frame.
        region: Which part of it.
        pixels: Which of PIXELS it becomes; -1 for none.
        luma: Which plane of LUMA_U8 [2 R n,M,M] it becomes; -1 for none.
        luma_again: Which other plane it becomes as well; -1 for none.
    """

    frame: int
    region: Region
    pixels: int = -1
    luma: int = -1
    luma_again: int = -1


def jobs(tracks: Sequence[Sequence[Region]], *, motion: bool) -> Iterator[Job]:
    """Yield what turns the frames of a request into PIXELS and luma, no work done twice.

    Args:
        tracks: Region of each track and new sample, [R][n].
        motion: Whether luma is wanted.
    """
    for track, regions in enumerate(tracks):
        for sample, region in enumerate(regions):
            pair = track * len(regions) + sample
            if not motion:
                yield Job(sample + 1, region, pixels=pair)
                continue
            # Where the region stays, a frame is the later of one pair and the earlier of the next.
            if sample == 0 or regions[sample - 1] != region:
                yield Job(sample, region, luma=2 * pair)
            stays = sample + 1 < len(regions) and regions[sample + 1] == region
            again = 2 * pair + 2 if stays else -1
            yield Job(sample + 1, region, pixels=pair, luma=2 * pair + 1, luma_again=again)


def scale_of(
    job: Job, motion_size: int, nv12: bool, value_bytes: int, frame: tuple[int, int]
) -> Scale:
    """Return the scale of a job.

    Args:
        job: The job.
        motion_size: M, pixels; 0 without luma.
        nv12: Whether frames are NV12.
        value_bytes: Of one channel of one of PIXELS.
        frame: Height and width of the frames, pixels.
    """
    region = job.region
    window = region.window((0, region.width), (0, region.height), frame)
    inside = (window.right - window.left) * (window.bottom - window.top)
    return Scale(
        (region.width, region.height),
        (region.resized_width, region.resized_height),
        (region.offset_x, region.offset_y),
        region.size,
        motion_size,
        Work(job.pixels >= 0, nv12),
        value_bytes,
        -(-8 * inside // (region.width * region.height)),
    )


@lru_cache(maxsize=64)
def plan_of(scale: Scale) -> Plan:
    """Return the plan of the jobs of one scale.

    Raises:
        KernelError: The input of one tile does not fit into shared memory.
    """
    across, down = (
        Axis(length, resized, offset, scale.size, scale.motion_size)
        for length, resized, offset in zip(scale.lengths, scale.resized, scale.offsets, strict=True)
    )
    tiling = _tiling(across, down, scale)
    tiles = tiling.records()
    tables, begin = [], 0
    for name, taps in zip(AXES, (across.pixels, down.pixels, across.luma, down.luma), strict=True):
        if taps is not None:
            outputs, width = taps.weights.shape
            tiles[name] = (begin, begin + outputs, width)
            tables += [taps.start, taps.weights.reshape(-1)]
            begin += outputs * (1 + width)
    return Plan(np.concatenate(tables), tiles, tiling.shared)


def tiles_of(job: Job, plan: Plan, tables: int, nv12: bool) -> NDArray[np.void]:
    """Return the TILE records of a job.

    Args:
        job: The job.
        plan: Of its scale.
        tables: Address of the plan's tables.
        nv12: Whether frames are NV12.
    """
    tiles = plan.tiles.copy()
    tiles["tables"] = tables
    for name in ("frame", "pixels", "luma", "luma_again"):
        tiles[name] = getattr(job, name)
    tiles["left"], tiles["top"] = job.region.left, job.region.top
    tiles["column"] += job.region.left
    tiles["row"] += job.region.top
    if nv12:
        # Groups of rows begin with both rows of a chroma row.
        odd = tiles["row"] % 2
        tiles["row"] -= odd
        tiles["rows"] += odd
    return tiles


def _tiling(across: Axis, down: Axis, scale: Scale) -> Tiling:
    """Return the tiling with most tiles, which keep a GPU busy, of those that move few bytes."""
    work = scale.work
    inside = scale.inside / 8 * work.pixel_bytes
    columns, rows = (work.inputs(axis.parts(1)[0]).length for axis in (across, down))
    written = work.pixels * scale.size**2 * 3 * scale.value_bytes + scale.motion_size**2
    minimum = columns * rows * inside + written
    best: Tiling | None = None
    best_score = (0, -np.inf)
    for most in (_MAX_CUT, scale.size):
        for count in range(1, min(most, scale.size) + 1):
            for other in range(max(count - 1, 1), min(most, scale.size, count + 1) + 1):
                tiling = Tiling.of(across, down, (other, count), work)
                if tiling is None:
                    continue
                moved = (tiling.pixels * inside + tiling.moved + written) / minimum
                score = (tiling.count if moved <= _MAX_MOVED else 0, -moved)
                if score > best_score:
                    best, best_score = tiling, score
        if best is not None:
            return best
    raise KernelError(
        f"region: expected one that is up to about 300 times its {scale.size} pixels for the CUDA "
        f"kernel, got {scale.lengths[0]}x{scale.lengths[1]}; shrink the frames or use the CPU build"
    )


def flow_scratch(size: int, parameters: FlowParameters) -> int:
    """Return the floats of scratch that the flow of one pair takes, as flow_layout.cuh lays it out.

    Args:
        size: M, pixels.
        parameters: The flow's parameters.
    """
    sides = [size]
    while sides[-1] // 2 >= parameters.coarsest_side and len(sides) < _MAX_LEVELS:
        sides.append(sides[-1] // 2)
    searched = sides[min(parameters.finest_level, len(sides) - 1)]
    patches = -(-searched // parameters.patch_stride) - 1
    patches += parameters.patch_size // parameters.patch_stride
    plane = size * 2 * ((size + 1) // 2)
    return 2 * sum(side * side for side in sides) + _FLOW_PLANES * plane + 6 * patches * patches
