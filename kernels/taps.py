"""One axis of a resampling as integer weights, applied exactly.

The sums are exact in any order, so every implementation gives the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

BICUBIC_BITS = 22
"""Fraction bits of bicubic weights, as Pillow's 8-bit resampling has them (32 - 8 - 2)."""

AREA_BITS = 11
"""Fraction bits of area weights: both axes and a byte make 30 bits, inside a 32-bit integer."""

_BAND_OUTPUTS = 8

_Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Band:
    """Some outputs in sequence, and the inputs that they read.

    Attributes:
        first: First output.
        low: First input.
        weights: Integer weights f64 [inputs,outputs].
    """

    first: int
    low: int
    weights: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Taps:
    """Weights of one axis.

    Attributes:
        start: First input of each output, i32 [out].
        weights: Weights of the inputs from there on, zero-padded, i32 [out,taps].
        span: First input that any output reads and the one past the last.
        bands: All outputs, in sequence, as dense products.
    """

    start: NDArray[np.int32]
    weights: NDArray[np.int32]
    span: tuple[int, int]
    bands: tuple[Band, ...]

    @classmethod
    def of(cls, start: _Integers, weights: _Integers) -> Taps:
        """Arrange weights for products.

        Args:
            start: First input of each output, [out].
            weights: Weights of the inputs from there on, zero-padded, [out,taps].
        """
        used = weights != 0
        end = start + weights.shape[1] - used[:, ::-1].argmax(axis=1)
        outputs, taps = weights.shape
        bands = []
        for first in range(0, outputs, _BAND_OUTPUTS):
            part = slice(first, min(first + _BAND_OUTPUTS, outputs))
            low, high = int(start[part].min()), int(end[part].max())
            # Padding may reach past the last input; it is cut off again.
            dense = np.zeros((high - low + taps, part.stop - first))
            rows = start[part, None] - low + np.arange(taps)
            dense[rows, np.arange(part.stop - first)[:, None]] = weights[part]
            bands.append(Band(first, low, dense[: high - low]))
        # No further than to the last weight that counts.
        needed = int((end - start).max())
        return cls(
            start.astype(np.int32),
            np.ascontiguousarray(weights[:, :needed], np.int32),
            (int(start.min()), int(end.max())),
            tuple(bands),
        )

    def apply(self, values: NDArray[Any], first: int) -> NDArray[np.float64]:
        """Return the exact weighted sums along the last axis.

        Dense products over narrow bands run in BLAS, and float64 holds these integers exactly.

        Args:
            values: Integers [...,length]; sums of products stay below 2**53.
            first: Which input `values` begin with; inputs that they do not hold are 0.

        Returns:
            Integers f64 [...,out].
        """
        length = values.shape[-1]
        result = np.empty((*values.shape[:-1], len(self.start)))
        for band in self.bands:
            inputs, outputs = band.weights.shape
            low, high = max(band.low - first, 0), min(band.low + inputs - first, length)
            high = max(low, high)
            weights = band.weights[low + first - band.low : high + first - band.low]
            inside = values[..., low:high].astype(np.float64)
            result[..., band.first : band.first + outputs] = inside @ weights
        return result


@lru_cache(maxsize=64)
def bicubic_taps(length: int, resized: int, offset: int, outputs: int) -> Taps:
    """Return Pillow's antialiased bicubic weights (a = -0.5) of one axis.

    Args:
        length: Inputs of the axis.
        resized: Outputs that the whole axis would become.
        offset: First output that is wanted.
        outputs: How many outputs are wanted.
    """
    scale = length / resized
    filter_scale = max(scale, 1.0)
    support = 2.0 * filter_scale
    center = (np.arange(offset, offset + outputs) + 0.5) * scale
    start = np.maximum((center - support + 0.5).astype(np.int64), 0)
    end = np.minimum((center + support + 0.5).astype(np.int64), length)
    index = start[:, None] + np.arange(ceil(support) * 2 + 1)
    values = _bicubic((index - center[:, None] + 0.5) * (1.0 / filter_scale))
    values[index >= end[:, None]] = 0.0
    # Added up from the first to the last as Pillow does, not pairwise as `sum` would.
    scaled = values / np.cumsum(values, axis=1)[:, -1:] * (1 << BICUBIC_BITS)
    # Half away from zero, as a C cast after adding one half rounds.
    return Taps.of(start, np.trunc(scaled + np.copysign(0.5, scaled)).astype(np.int64))


def _bicubic(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    a = -0.5
    x = np.abs(distance)
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    result: NDArray[np.float64] = np.where(x < 1, near, np.where(x < 2, far, 0.0))
    return result


@lru_cache(maxsize=64)
def area_taps(length: int, resized: int, offset: int, extent: int, outputs: int) -> Taps:
    """Return the weights of box integrals with fractional edges, of one axis.

    The part [offset, offset + extent) of the resized axis is cut into equal bins. In units of
    1 / (resized outputs) input, bin i is [(offset outputs + i extent) length, ... + extent length),
    so the share of a bin that lies before an input is a fraction of integers. Shares are rounded,
    half up, to 11 bits, and an input's weight is what the share grows by: weights sum to 2**11.

    Args:
        length: Inputs of the axis.
        resized: Outputs that the whole axis becomes in the image of PIXELS.
        offset: First of those that the region holds.
        extent: How many of those the region holds.
        outputs: Into how many bins the region is cut.
    """
    unit, bin_size = resized * outputs, extent * length
    begin = (offset * outputs + np.arange(outputs, dtype=np.int64) * extent) * length
    start = begin // unit
    edges = start[:, None] + np.arange(ceil(bin_size / unit) + 2)
    before = np.clip(edges * unit - begin[:, None], 0, bin_size)
    shares = ((before << (AREA_BITS + 1)) + bin_size) // (2 * bin_size)
    return Taps.of(start, np.diff(shares, axis=1))
