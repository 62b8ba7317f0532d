"""How a region is cut into tiles, and where a tile's block keeps what in shared memory.

Neighbouring tiles read a few rows and columns twice, as bicubic weights reach two outputs far: what
a cut moves is known before anything runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from fgmclip.kernels.cuda.abi import MAX_SHARED, TILE
from fgmclip.kernels.taps import Taps, area_taps, bicubic_taps

_GROUP = 4
"""Rows of a group: a word of shared memory holds a byte of each."""

_GROUPS = (4, 2, 1)
"""How many groups a chunk may have; the more, the fewer barriers."""

_SECTOR = 8
"""Tiles of larger images begin at multiples of as many floats as GPU memory writes at once."""


@dataclass(frozen=True, slots=True)
class Span:
    """Inputs of an axis, from the region's corner.

    Attributes:
        begin: The first.
        end: The one past the last.
    """

    begin: int
    end: int

    @property
    def length(self) -> int:
        """How many they are."""
        return self.end - self.begin


@dataclass(frozen=True, slots=True)
class Part:
    """What a tile has of one axis.

    Attributes:
        first: First output of PIXELS.
        outputs: How many of them.
        luma_first: First output of luma.
        luma_outputs: How many of them.
        inputs: What both read.
        luma_inputs: What luma reads.
    """

    first: int
    outputs: int
    luma_first: int
    luma_outputs: int
    inputs: Span
    luma_inputs: Span


class Axis:
    """One axis of a region."""

    def __init__(self, length: int, resized: int, offset: int, size: int, motion_size: int) -> None:
        """Find the weights; see `bicubic_taps` and `area_taps`."""
        self.pixels = pixels = bicubic_taps(length, resized, offset, size)
        luma = area_taps(length, resized, offset, size, motion_size) if motion_size else None
        self.luma = luma
        # Inputs that the square covers.
        self._extent = length * size / resized
        self.size = len(pixels.start)
        self.motion_size = 0 if luma is None else len(luma.start)
        self._pixel_inputs = _inputs(pixels)
        self._luma_inputs = ([], []) if luma is None else _inputs(luma)
        self._parts: dict[int, list[Part]] = {}

    def words(self, pixels: bool) -> int:
        """Return the starts and weights of all outputs, or of luma's alone, 4-byte words."""
        taps = [self.pixels] if pixels else []
        taps += [] if self.luma is None else [self.luma]
        return sum(len(one.start) * (1 + one.weights.shape[1]) for one in taps)

    def parts(self, count: int) -> list[Part]:
        """Return the axis in about `count` parts of one size, the last of them smaller."""
        outputs = -(-self.size // count)
        if outputs > _SECTOR and count > 1:
            outputs = -(-outputs // _SECTOR) * _SECTOR
        if outputs not in self._parts:
            self._parts[outputs] = [
                self._part(first, min(first + outputs, self.size))
                for first in range(0, self.size, outputs)
            ]
        return self._parts[outputs]

    def ending(self, groups: int, outputs: int, *, luma: bool) -> int:
        """Return how many outputs of a tile have their last input in one chunk, at most.

        Args:
            groups: Groups of rows of a chunk.
            outputs: Outputs of the tile.
            luma: Of luma, else of PIXELS.
        """
        taps = self.luma if luma else self.pixels
        if taps is None:
            return 0
        # Outputs at the region's border end together, up to as many as lie within the taps.
        rows = _GROUP * groups + taps.weights.shape[1]
        return min(outputs, ceil(rows * len(taps.start) / self._extent) + 1)

    def _part(self, first: int, end: int) -> Part:
        # The same share of the region, to the nearest output.
        luma_first, luma_end = (
            (2 * output * self.motion_size + self.size) // (2 * self.size)
            for output in (first, end)
        )
        begins, ends = self._pixel_inputs
        inputs = Span(begins[first], ends[end - 1])
        luma_inputs = Span(inputs.begin, inputs.begin)
        if luma_end > luma_first:
            begins, ends = self._luma_inputs
            luma_inputs = Span(begins[luma_first], ends[luma_end - 1])
            inputs = Span(min(inputs.begin, luma_inputs.begin), max(inputs.end, luma_inputs.end))
        return Part(first, end - first, luma_first, luma_end - luma_first, inputs, luma_inputs)


def _inputs(taps: Taps) -> tuple[list[int], list[int]]:
    """Return from where, and to where, outputs read: those after one, and those before it."""
    used = taps.weights != 0
    ends = taps.start + used.shape[1] - used[:, ::-1].argmax(axis=1)
    begins = np.minimum.accumulate(taps.start[::-1])[::-1]
    return begins.tolist(), np.maximum.accumulate(ends).tolist()


@dataclass(frozen=True, slots=True)
class Work:
    """What is done with a frame.

    Attributes:
        pixels: It becomes PIXELS; else luma alone.
        nv12: It is NV12; else RGB.
    """

    pixels: bool
    nv12: bool

    @property
    def pixel_bytes(self) -> float:
        """Bytes that a pixel of the frame has to be read with."""
        if self.nv12:
            return 1.5 if self.pixels else 1
        return 3

    def inputs(self, part: Part) -> Span:
        """Return what is read of a part."""
        return part.inputs if self.pixels else part.luma_inputs


@dataclass(frozen=True, slots=True)
class Tiling:
    """A region in tiles.

    Attributes:
        work: What they do.
        columns: Parts of the axis across.
        rows: Parts of the axis down.
        pixels: How many pixels of the region they read, those read twice counted twice.
        moved: Bytes of tables that they read.
        fields: Those of TILE that say what lies where in shared memory, and a chunk's groups.
        shared: Dynamic shared memory of a block, bytes.
    """

    work: Work
    columns: list[Part]
    rows: list[Part]
    pixels: int
    moved: int
    fields: dict[str, int]
    shared: int

    @property
    def count(self) -> int:
        """How many tiles there are."""
        return len(self.columns) * len(self.rows)

    @classmethod
    def of(cls, across: Axis, down: Axis, count: tuple[int, int], work: Work) -> Tiling | None:
        """Return the tiling in about `count` columns and rows; None where a block has no room."""
        columns, rows = across.parts(count[0]), down.parts(count[1])
        pixels = sum(work.inputs(part).length for part in columns) * sum(
            work.inputs(part).length for part in rows
        )
        words = len(rows) * across.words(work.pixels) + len(columns) * down.words(work.pixels)
        moved = 4 * words + len(columns) * len(rows) * TILE.itemsize
        for groups in _GROUPS:
            fields, shared = _shared(across, down, columns, rows, groups, work)
            if shared <= MAX_SHARED:
                return cls(work, columns, rows, pixels, moved, fields, shared)
        return None

    def records(self) -> NDArray[np.void]:
        """Return TILE records [tiles], as if the region's corner were the frame's.

        Tables and the job's own fields are not set.
        """
        grid: NDArray[np.void] = np.zeros((len(self.rows), len(self.columns)), TILE)
        for name, value in self.fields.items():
            grid[name] = value
        self._describe(grid, ("column", "columns", "x", "width"), self.columns)
        self._describe(grid.T, ("row", "rows", "y", "height"), self.rows)
        records = grid.reshape(-1)
        # A tile may have no luma where M is small.
        return records[(records["columns"] > 0) & (records["rows"] > 0)]

    def _describe(
        self, grid: NDArray[np.void], names: tuple[str, str, str, str], parts: list[Part]
    ) -> None:
        """Set one axis's fields of records whose last axis are `parts`."""
        begin, length, first, outputs = names
        grid[begin] = [self.work.inputs(part).begin for part in parts]
        grid[length] = [self.work.inputs(part).length for part in parts]
        grid[first] = [part.first for part in parts]
        grid[outputs] = [part.outputs for part in parts]
        grid[f"luma_{first}"] = [part.luma_first for part in parts]
        grid[f"luma_{outputs}"] = [part.luma_outputs for part in parts]


def _shared(
    across: Axis, down: Axis, columns: list[Part], rows: list[Part], groups: int, work: Work
) -> tuple[dict[str, int], int]:
    """Return what a tile says of shared memory, and how many bytes it takes.

    preprocess.cuh reads it; head and tail of aligned words are up to six bytes.
    """
    nv12, pixels = work.nv12, work.pixels
    inputs = max(work.inputs(part).length for part in columns)
    width, height = max(part.outputs for part in columns), max(part.outputs for part in rows)
    luma_width = max(part.luma_outputs for part in columns)
    luma_height = max(part.luma_outputs for part in rows)
    taps_across, taps_down = across.pixels.weights.shape[1], down.pixels.weights.shape[1]
    luma_taps = [0 if axis.luma is None else axis.luma.weights.shape[1] for axis in (across, down)]
    raw_stride = _fours(3 * inputs + 6) if not nv12 else _fours(3 * inputs) if pixels else 0
    gray_stride = _fours(inputs + 6) if nv12 else _fours(inputs) if luma_width else 0
    chroma_stride = _fours(inputs + 2 + 6) if nv12 and pixels else 0
    # A ring holds a chunk and all rows of an output that ends in it.
    middle_groups = groups + (taps_down + 2) // _GROUP + 1
    sums_rows = _GROUP * (groups + (luma_taps[1] + 2) // _GROUP + 1)
    sizes = {
        "raw": groups * raw_stride,
        "chroma": groups * chroma_stride,
        "gray": groups * gray_stride,
        "middle": pixels * middle_groups * 3 * width,
        "sums": sums_rows * luma_width,
        "across_at": pixels * width * (1 + (taps_across | 1)),
        "down_at": pixels
        * (height + down.ending(groups, height, luma=False) * _grouped(taps_down)),
        "luma_across_at": luma_width * (1 + (luma_taps[0] | 1)),
        "luma_down_at": luma_height
        + down.ending(groups, luma_height, luma=True) * (luma_taps[1] | 1),
    }
    fields = {
        "groups": groups,
        "raw_stride": raw_stride,
        "chroma_stride": chroma_stride,
        "gray_stride": gray_stride,
        "middle_groups": middle_groups,
        "sums_rows": sums_rows,
    }
    words = _fours(TILE.itemsize // 4)
    for name, size in sizes.items():
        fields[name] = words
        words += _fours(size)
    return fields, 4 * words


def _grouped(taps: int) -> int:
    """Return the weights of an output whose taps may begin at any row of their first group."""
    return (taps + 6) // _GROUP * _GROUP


def _fours(words: int) -> int:
    """Return as many words, or a few more, as 16-byte accesses want."""
    return -(-words // 4) * 4
