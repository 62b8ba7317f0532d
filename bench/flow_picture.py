"""A picture of flows: for each pair the earlier frame, the true flow, ours and DIS medium's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes

from fgmclip.bench.flow_methods import DIS_MEDIUM, OURS, flow_methods
from fgmclip.bench.flow_truth import FlowPair
from fgmclip.bench.flow_wheel import flow_colors, wheel_picture
from fgmclip.kernels.parameters import FlowParameters

matplotlib.use("Agg")

import matplotlib.pyplot as plt

SIDE = 224
MOST = 24
"""Pairs that are drawn at most, the first by name."""

_LONG, _ROOM = 95, 1.3
"""What is drawn in full colour: this percentile of the true flow's length, times the room that
wrong flow needs. A few fast pixels must not make everything else pale."""

_UNKNOWN = 0.13
"""Grey of pixels whose flow is not known."""


def draw_flow(
    pairs: Sequence[FlowPair], parameters: FlowParameters, picture: Path, *, threads: int
) -> None:
    """Draw the pairs, one a row, and write them as a PNG."""
    drawn = pairs[:MOST]
    methods = flow_methods(parameters, SIDE, threads)
    figure, axes = plt.subplots(
        len(drawn), 4, figsize=(11.4, 2.85 * len(drawn) + 0.7), squeeze=False, layout="constrained"
    )
    for row, pair in zip(axes, drawn, strict=True):
        scaled = pair.scaled(SIDE)
        length = np.linalg.norm(scaled.flow, axis=2)[scaled.known]
        longest = float(np.percentile(length, _LONG)) * _ROOM
        row[0].imshow(scaled.luma[0], cmap="gray", vmin=0, vmax=255)
        row[0].set_title(pair.name, fontsize=10, loc="left")
        truth = flow_colors(scaled.flow, longest)
        truth[~scaled.known] = _UNKNOWN
        row[1].imshow(truth)
        row[1].set_title(f"truth, full colour at {longest:.1f} px", fontsize=10, loc="left")
        for axis, name in zip(row[2:], (OURS, DIS_MEDIUM), strict=True):
            flow = methods[name](scaled.luma)
            axis.imshow(flow_colors(flow, longest))
            axis.set_title(f"{name}, error {scaled.error(flow):.2f} px", fontsize=10, loc="left")
        for axis in row:
            axis.set_xticks([])
            axis.set_yticks([])
    _legend(axes[0, 1])
    left_out = f"; {len(pairs) - MOST} more pairs not drawn" if len(pairs) > MOST else ""
    figure.suptitle(
        f"Optical flow at {SIDE}x{SIDE}: hue is direction, white is still, dark grey is unknown"
        f"{left_out}",
        fontsize=10,
    )
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=110)
    plt.close(figure)


def _legend(axis: Axes) -> None:
    inset = axis.inset_axes((0.79, 0.01, 0.2, 0.2))
    inset.imshow(wheel_picture(96))
    inset.axis("off")
