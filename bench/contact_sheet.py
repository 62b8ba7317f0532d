"""A contact sheet: a strip of frames for each clip, with what it was called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray

matplotlib.use("Agg")

import matplotlib.pyplot as plt

COLUMNS = 4


@dataclass(frozen=True, slots=True)
class Tile:
    """One clip of the sheet.

    Attributes:
        frames: u8 RGB [n,H,W,3], drawn side by side in the order of time.
        title: What stands above them.
        right: Green title if true, red if not.
    """

    frames: NDArray[np.uint8]
    title: str
    right: bool


def draw_contact_sheet(tiles: Sequence[Tile], picture: Path) -> None:
    """Draw the tiles, four in a row, and write them as a PNG."""
    rows = -(-len(tiles) // COLUMNS)
    figure, axes = plt.subplots(
        rows, COLUMNS, figsize=(4.4 * COLUMNS, 1.9 * rows), squeeze=False, layout="constrained"
    )
    for axis in axes.flat:
        axis.axis("off")
    for axis, tile in zip(axes.flat, tiles, strict=False):
        axis.imshow(np.concatenate([_square(frame) for frame in tile.frames], axis=1))
        axis.set_title(tile.title, fontsize=11, color="#1a7f37" if tile.right else "#cf222e")
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=100)
    plt.close(figure)


def _square(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = frame.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return frame[top : top + side, left : left + side]
