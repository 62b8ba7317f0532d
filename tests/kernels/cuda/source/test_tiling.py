"""Tiles hold every output once, with all its inputs, in the shared memory that every GPU has."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fgmclip.kernels.cuda.abi import MAX_SHARED
from fgmclip.kernels.cuda.plan import Job, Plan, jobs, plan_of, scale_of, tiles_of
from fgmclip.kernels.cuda.tiling import Axis
from fgmclip.kernels.errors import KernelError
from fgmclip.kernels.parameters import Crop
from fgmclip.kernels.regions import Region, frame_region, roi_region
from fgmclip.kernels.taps import Taps, area_taps, bicubic_taps

FRAME = (480, 640)


def plan(region: Region, motion_size: int, *, pixels: bool, nv12: bool) -> Plan:
    job = Job(0, region, pixels=0 if pixels else -1)
    return plan_of(scale_of(job, motion_size, nv12, 4, FRAME))


def axes(region: Region, motion_size: int) -> list[tuple[Taps, Taps]]:
    return [
        (
            bicubic_taps(length, resized, offset, region.size),
            area_taps(length, resized, offset, region.size, motion_size),
        )
        for length, resized, offset in (
            (region.width, region.resized_width, region.offset_x),
            (region.height, region.resized_height, region.offset_y),
        )
    ]


def needed(taps: Taps, first: int, outputs: int) -> tuple[int, int]:
    """Return the inputs with a weight of some outputs: the first, and the one past the last."""
    used = taps.weights[first : first + outputs] != 0
    index = taps.start[first : first + outputs, None] + np.arange(used.shape[1])
    return int(index[used].min()), int(index[used].max()) + 1


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 900),
    width=st.integers(1, 900),
    size=st.sampled_from([1, 5, 16, 37, 64, 112, 224, 225]),
    motion_size=st.sampled_from([1, 7, 16, 64, 112, 224]),
    crop=st.sampled_from(get_args(Crop)),
    pixels=st.booleans(),
    nv12=st.booleans(),
)
def test_each_output_lies_in_one_tile_with_all_its_inputs(
    height: int,
    width: int,
    size: int,
    motion_size: int,
    crop: Crop,
    pixels: bool,
    nv12: bool,
) -> None:
    region = frame_region(height, width, size, crop)
    tiles = plan(region, motion_size, pixels=pixels, nv12=nv12).tiles
    (across, luma_across), (down, luma_down) = axes(region, motion_size)
    covered = np.zeros((size, size), int)
    luma_covered = np.zeros((motion_size, motion_size), int)
    for tile in tiles:
        x, width, y, height = (int(tile[name]) for name in ("x", "width", "y", "height"))
        covered[y : y + height, x : x + width] += 1
        luma_x, luma_y = int(tile["luma_x"]), int(tile["luma_y"])
        luma_width, luma_height = int(tile["luma_width"]), int(tile["luma_height"])
        luma_covered[luma_y : luma_y + luma_height, luma_x : luma_x + luma_width] += 1
        wanted = [(across, x, width, "column"), (down, y, height, "row")] if pixels else []
        if luma_width and luma_height:
            wanted += [(luma_across, luma_x, luma_width, "column")]
            wanted += [(luma_down, luma_y, luma_height, "row")]
        for taps, first, outputs, begin in wanted:
            low, high = needed(taps, first, outputs)
            assert tile[begin] <= low
            assert high <= tile[begin] + tile[f"{begin}s"]
    np.testing.assert_array_equal(luma_covered, 1)
    if pixels:
        np.testing.assert_array_equal(covered, 1)


@pytest.mark.parametrize("size", [26, 64, 112, 224, 336])
@pytest.mark.parametrize("frame", [(1080, 1920), (2160, 3840), (4320, 7680), (16, 16)])
@pytest.mark.parametrize("crop", ["center", "letterbox"])
@pytest.mark.parametrize("nv12", [False, True])
def test_a_block_has_room_up_to_8k(
    size: int, frame: tuple[int, int], crop: Crop, nv12: bool
) -> None:
    region = frame_region(*frame, size, crop)
    for pixels in (False, True):
        assert plan(region, size, pixels=pixels, nv12=nv12).shared <= MAX_SHARED


def test_a_region_that_is_too_large_is_refused_with_the_remedy() -> None:
    with pytest.raises(KernelError, match=r"got 9000x9000; shrink the frames or use the CPU build"):
        plan(frame_region(9000, 9000, 8, "squash"), 8, pixels=True, nv12=False)


@settings(max_examples=150, deadline=None)
@given(
    length=st.integers(1, 3000),
    size=st.sampled_from([1, 3, 16, 37, 64, 224]),
    motion_size=st.sampled_from([1, 16, 64, 112]),
    groups=st.sampled_from([1, 2, 4]),
    shift=st.integers(0, 1),
    data=st.data(),
)
def test_no_more_outputs_end_in_a_chunk_than_it_has_room_for(
    length: int, size: int, motion_size: int, groups: int, shift: int, data: st.DataObject
) -> None:
    resized = data.draw(st.integers(size, 3 * size))
    offset = data.draw(st.integers(0, resized - size))
    axis = Axis(length, resized, offset, size, motion_size)
    for part in axis.parts(data.draw(st.integers(1, 8))):
        rows = part.inputs.length + shift
        for taps, first, outputs in (
            (axis.pixels, part.first, part.outputs),
            (axis.luma, part.luma_first, part.luma_outputs),
        ):
            if taps is None or outputs == 0:
                continue
            starts = taps.start[first : first + outputs] - part.inputs.begin + shift
            # As preprocess.cuh's `finished` has it.
            ends = np.minimum(starts + taps.weights.shape[1], rows)
            chunks = np.maximum.accumulate(-(-ends // (4 * groups)))
            most = int(np.bincount(chunks).max())
            assert most <= axis.ending(groups, outputs, luma=taps is axis.luma)


def test_a_tile_that_begins_at_an_odd_row_of_nv12_takes_the_row_before() -> None:
    region = roi_region(np.array([3, 5, 35, 37], np.float32), 16)
    whole = plan(region, 16, pixels=True, nv12=True)
    tiles = tiles_of(Job(1, region, pixels=0, luma=1), whole, 4096, nv12=True)
    assert (tiles["row"] % 2 == 0).all()
    np.testing.assert_array_equal(
        tiles["row"] + tiles["rows"], whole.tiles["row"] + whole.tiles["rows"] + region.top
    )
    assert set(tiles["tables"]) == {4096}


def squares(*corners: int) -> list[Region]:
    return [roi_region(np.array([x, 0, x + 20, 20], np.float32), 16) for x in corners]


def listed(track: list[Region], *, motion: bool) -> NDArray[np.int64]:
    return np.array(
        [
            (job.frame, job.region.left, job.pixels, job.luma, job.luma_again)
            for job in jobs([track], motion=motion)
        ]
    )


def test_where_a_region_stays_a_frame_is_done_once() -> None:
    np.testing.assert_array_equal(
        listed(squares(7, 7, 9), motion=True),
        [(0, 7, -1, 0, -1), (1, 7, 0, 1, 2), (2, 7, 1, 3, -1), (2, 9, -1, 4, -1), (3, 9, 2, 5, -1)],
    )


def test_without_motion_the_frame_before_is_not_read() -> None:
    np.testing.assert_array_equal(
        listed(squares(7, 9), motion=False), [(1, 7, 0, -1, -1), (2, 9, 1, -1, -1)]
    )
