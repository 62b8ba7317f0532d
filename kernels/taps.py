"""One axis of a resampling as integer weights, applied exactly.

All weights are integers that sum to a power of two, so sums are exact in any order and every
implementation gives the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import ceil, floor
from typing import Any

import numpy as np
from numpy.typing import NDArray

BICUBIC_BITS = 22
"""Fraction bits of bicubic weights, as Pillow's 8-bit resampling has them (32 - 8 - 2)."""

AREA_BITS = 11
"""Fraction bits of area weights: both axes and a byte stay inside 32-bit integers."""

_BLOCK = 32


@dataclass(frozen=True, slots=True, eq=False)
class Taps:
    """Weights of each output of one axis.

    Attributes:
        start: First input of each output, [out].
        weights: Integer weights, zero-padded, [out,taps].
    """

    start: NDArray[np.int64]
    weights: NDArray[np.int64]

    @property
    def span(self) -> tuple[int, int]:
        """First input and the one past the last that any output reads."""
        return int(self.start.min()), int((self.start + self._counts).max())

    @property
    def _counts(self) -> NDArray[Any]:
        used = self.weights != 0
        counts: NDArray[Any] = used.shape[1] - used[:, ::-1].argmax(axis=1)
        return counts

    def apply(self, values: NDArray[np.uint8] | NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the exact weighted sums along the last axis.

        Args:
            values: Integers [rows,length]; products of sums stay below 2**53.

        Returns:
            f64 [rows,out], integers.
        """
        # A dense product over a band of outputs reads few inputs and runs in BLAS; float64 holds
        # these integers exactly.
        outputs = len(self.start)
        result = np.empty((values.shape[0], outputs))
        ends = self.start + self._counts
        for first in range(0, outputs, _BLOCK):
            block = slice(first, min(first + _BLOCK, outputs))
            low, high = int(self.start[block].min()), int(ends[block].max())
            dense = np.zeros((high - low, block.stop - first))
            for column, index in enumerate(range(first, block.stop)):
                count = int(ends[index] - self.start[index])
                row = int(self.start[index]) - low
                dense[row : row + count, column] = self.weights[index, :count]
            result[:, block] = values[:, low:high].astype(np.float64) @ dense
        return result


@lru_cache(maxsize=64)
def bicubic_taps(length: int, resized: int, offset: int, outputs: int) -> Taps:
    """Return Pillow's antialiased bicubic weights of one axis.

    Args:
        length: Inputs of the axis.
        resized: Outputs that the whole axis would become.
        offset: First output that is wanted.
        outputs: How many outputs are wanted.
    """
    scale = length / resized
    filter_scale = max(scale, 1.0)
    support = 2.0 * filter_scale
    taps = ceil(support) * 2 + 1
    start = np.zeros(outputs, np.int64)
    weights = np.zeros((outputs, taps), np.int64)
    for index in range(outputs):
        center = (index + offset + 0.5) * scale
        first = max(0, int(center - support + 0.5))
        end = min(length, int(center + support + 0.5))
        distance = (np.arange(first, end) - center + 0.5) * (1.0 / filter_scale)
        values = _bicubic(distance)
        values = values / values.sum()
        start[index] = first
        # Half away from zero, as a C cast after adding one half rounds.
        scaled = values * (1 << BICUBIC_BITS)
        weights[index, : end - first] = np.trunc(scaled + np.copysign(0.5, scaled))
    return Taps(start, weights)


def _bicubic(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    a = -0.5
    x = np.abs(distance)
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    result: NDArray[np.float64] = np.where(x < 1, near, np.where(x < 2, far, 0.0))
    return result


@lru_cache(maxsize=64)
def area_taps(length: int, resized: int, offset: int, extent: int, outputs: int) -> Taps:
    """Return the weights of exact box integrals of one axis.

    Args:
        length: Inputs of the axis.
        resized: Outputs that the whole axis becomes in the image of PIXELS.
        offset: First of those that the region holds.
        extent: How many of those the region holds.
        outputs: Into how many bins the region is cut.
    """
    low, size = offset * length / resized, extent * length / resized / outputs
    start = np.zeros(outputs, np.int64)
    weights = np.zeros((outputs, ceil(size) + 2), np.int64)
    total = 1 << AREA_BITS
    for index in range(outputs):
        begin, end = low + index * size, low + (index + 1) * size
        first = min(floor(begin), length - 1)
        last = max(first + 1, min(ceil(end), length))
        edges = np.arange(first, last + 1, dtype=np.float64)
        overlap = np.minimum(edges[1:], end) - np.maximum(edges[:-1], begin)
        exact = np.maximum(overlap, 0.0)
        exact = exact / exact.sum() * total
        rounded = np.floor(exact).astype(np.int64)
        # The largest remainders take what is missing, the first of equals before the others.
        order = np.argsort(rounded - exact, kind="stable")
        rounded[order[: total - int(rounded.sum())]] += 1
        start[index] = first
        weights[index, : last - first] = rounded
    return Taps(start, weights)
