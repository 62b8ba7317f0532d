"""Position embeddings for another image size: told, since shapes alone do not say it."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

_NAMES = ("positional_embedding", "pos_embed", "pos_embedding")


def position_hint(
    expected: Mapping[str, Tensor], came: Mapping[str, Tensor], image_size: int | None
) -> str | None:
    """Return what image size position embeddings were made for, if it is another one.

    Args:
        expected: The module's tensors.
        came: The file's, of other shapes in part.
        image_size: S that the module is built for, in pixels.
    """
    for key, value in expected.items():
        other = came.get(key)
        if key.split(".")[-1] not in _NAMES or other is None or image_size is None:
            continue
        here, there = _grid(value), _grid(other)
        if here is None or there is None or here == there or value.shape[-1] != other.shape[-1]:
            continue
        size = image_size * there / here
        told = f"{size:.0f} pixels" if size.is_integer() else "another image size"
        return (
            f"{key} holds a {there}x{there} grid of positions, expected {here}x{here}: the weights "
            f"are for {told}, the spec's visual.image_size is {image_size}; make it fit, or take "
            "weights for it (positions are not interpolated)"
        )
    return None


def _grid(positions: Tensor) -> int | None:
    """Return the side of the grid of [..,N,D] positions, with or without a class token."""
    count = positions.shape[-2] if positions.ndim >= 2 else 0
    for patches in (count - 1, count):
        side = math.isqrt(max(0, patches))
        if side and side * side == patches:
            return side
    return None
