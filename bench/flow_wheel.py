"""Flow as colour: direction is hue, length is saturation.

The colour wheel of Baker et al., "A Database and Evaluation Methodology for Optical Flow" (IJCV
2011): between six colours, as many steps as the eye tells apart. Still is white; to the right is
red, down is yellow, to the left is cyan, up is blue to violet.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# From which colour on, and in how many steps to the next.
_ARCS = (
    ((1, 0, 0), 15),
    ((1, 1, 0), 6),
    ((0, 1, 0), 4),
    ((0, 1, 1), 11),
    ((0, 0, 1), 13),
    ((1, 0, 1), 6),
)

_BEYOND = 0.75
"""Brightness of flow that is longer than the scale."""


def flow_colors(flow: NDArray[np.float32], longest: float) -> NDArray[np.float32]:
    """Return a picture of a flow.

    Args:
        flow: f32 [H,W,2], u to the right and v down, pixels.
        longest: Length that is drawn in full colour, pixels; what is longer is drawn darker.

    Returns:
        RGB f32 [H,W,3], 0 to 1.
    """
    length = np.linalg.norm(flow, axis=2)[..., None] / max(longest, 1e-6)
    turn = np.arctan2(flow[..., 1], flow[..., 0]) / (2 * np.pi) % 1
    wheel = color_wheel()
    position = turn * len(wheel)
    first = position.astype(int) % len(wheel)
    part = (position - np.floor(position))[..., None]
    hue = wheel[first] * (1 - part) + wheel[(first + 1) % len(wheel)] * part
    colors = np.where(length <= 1, 1 - length * (1 - hue), hue * _BEYOND)
    return colors.astype(np.float32)


def color_wheel() -> NDArray[np.float64]:
    """Return the wheel's colours RGB [55,3], 0 to 1, from rightwards on by way of down."""
    following = [color for color, _ in _ARCS[1:]] + [_ARCS[0][0]]
    arcs = [
        np.linspace(color, after, steps, endpoint=False)
        for (color, steps), after in zip(_ARCS, following, strict=True)
    ]
    return np.concatenate(arcs)


def wheel_picture(side: int) -> NDArray[np.float32]:
    """Return the legend RGBA f32 [side,side,4]: each direction's colour, nothing outside."""
    axis = np.linspace(-1, 1, side, dtype=np.float32)
    flow = np.stack(np.meshgrid(axis, axis), axis=2)
    inside = np.linalg.norm(flow, axis=2) <= 1
    return np.dstack([flow_colors(flow, 1.0), inside.astype(np.float32)])
