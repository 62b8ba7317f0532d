"""Drawing with NumPy: anti-aliased shapes by signed distance, backgrounds, sensor noise.

A canvas is f32 [3,H,W], RGB in 0..255, changed in place; each colour is a plane.
Positions are pixels with x to the right and y down; the centre of the first pixel is (0, 0).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Canvas = NDArray[np.float32]
Color = NDArray[np.float32]

LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""BT.601 luma coefficients, for contrast between colours."""


def random_color(rng: np.random.Generator, luma: float, saturation: float) -> Color:
    """Return an RGB colour [3] of about this luma (0..255); saturation 0 is grey, 1 strong."""
    tint = rng.standard_normal(3).astype(np.float32)
    tint -= tint @ LUMA
    tint /= np.abs(tint).max() + 1e-6
    return np.clip(luma + tint * saturation * 110, 0, 255).astype(np.float32)


def _window(low: float, high: float, size: int) -> slice:
    start = min(max(int(np.floor(low)), 0), size)
    return slice(start, min(max(int(np.ceil(high)) + 1, start), size))


def _limit(values: NDArray[np.float32]) -> None:
    """Clip to 0..1 in place; for small arrays much faster than `np.clip`."""
    np.maximum(values, 0, out=values)
    np.minimum(values, 1, out=values)


def draw_capsule(
    canvas: Canvas,
    ends: NDArray[np.float32],
    radii: tuple[float, float],
    color: Color,
    *,
    light: tuple[float, float] = (0.0, 0.0),
    shade: float = 0.0,
) -> None:
    """Draw a capsule, round at both ends; two equal ends make a disc.

    Args:
        canvas: f32 [3,H,W], changed in place.
        ends: [2,2] the centres of both ends, (x, y) pixels.
        radii: Radius at each end, pixels; linear between them.
        color: RGB [3] in 0..255.
        light: Direction from which light falls; its length is its strength.
        shade: How much darker the rim is than the middle, 0..1.
    """
    (ax, ay), (bx, by) = ends.tolist()
    ra, rb = radii
    height, width = canvas.shape[1:]
    rows = _window(min(ay - ra, by - rb) - 1, max(ay + ra, by + rb) + 1, height)
    columns = _window(min(ax - ra, bx - rb) - 1, max(ax + ra, bx + rb) + 1, width)
    px = np.arange(columns.start, columns.stop, dtype=np.float32) - np.float32(ax)
    py = (np.arange(rows.start, rows.stop, dtype=np.float32) - np.float32(ay))[:, None]
    vx, vy = bx - ax, by - ay
    along = px * np.float32(vx) + py * np.float32(vy)
    along *= np.float32(1 / max(vx * vx + vy * vy, 1e-6))
    _limit(along)
    radius = along * np.float32(rb - ra) + np.float32(ra)
    # From here on in units of the radius.
    dx = (px - along * np.float32(vx)) / radius
    dy = (py - along * np.float32(vy)) / radius
    squared = dx * dx + dy * dy
    alpha = radius - radius * np.sqrt(squared) + np.float32(0.5)
    _limit(alpha)
    squared *= np.float32(-shade)
    tone = squared + np.float32(light[0]) * dx + np.float32(light[1]) * dy + 1
    part = canvas[:, rows, columns]
    part += alpha * (tone * color[:, None, None] - part)


def draw_shadow(
    canvas: Canvas,
    center: tuple[float, float],
    radii: tuple[float, float],
    opacity: float,
) -> None:
    """Darken a soft, upright ellipse.

    Args:
        canvas: f32 [3,H,W], changed in place.
        center: (x, y) pixels.
        radii: Half-axes in x and y, pixels.
        opacity: Darkness in the middle, 0..1.
    """
    (x, y), (rx, ry) = center, radii
    height, width = canvas.shape[1:]
    rows, columns = _window(y - ry, y + ry, height), _window(x - rx, x + rx, width)
    px = (np.arange(columns.start, columns.stop, dtype=np.float32) - np.float32(x)) / np.float32(rx)
    py = (np.arange(rows.start, rows.stop, dtype=np.float32) - np.float32(y)) / np.float32(ry)
    depth = np.clip(1 - px * px - (py * py)[:, None], 0, 1) * np.float32(opacity)
    canvas[:, rows, columns] *= 1 - depth


def draw_box(
    canvas: Canvas,
    center: tuple[float, float],
    half: tuple[float, float],
    color: Color,
    *,
    angle: float = 0.0,
    corner: float = 1.5,
) -> None:
    """Draw a turned rectangle with rounded corners.

    Args:
        canvas: f32 [3,H,W], changed in place.
        center: (x, y) pixels.
        half: Half of its width and height, pixels.
        color: RGB [3] in 0..255.
        angle: Radians.
        corner: Radius of the corners, pixels.
    """
    (x, y), reach = center, float(np.hypot(*half)) + 1
    height, width = canvas.shape[1:]
    rows, columns = _window(y - reach, y + reach, height), _window(x - reach, x + reach, width)
    px = np.arange(columns.start, columns.stop, dtype=np.float32) - np.float32(x)
    py = (np.arange(rows.start, rows.stop, dtype=np.float32) - np.float32(y))[:, None]
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    qx = np.abs(px * cos + py * sin) - np.float32(half[0] - corner)
    qy = np.abs(py * cos - px * sin) - np.float32(half[1] - corner)
    outside = np.hypot(np.maximum(qx, 0), np.maximum(qy, 0))
    distance = outside + np.minimum(np.maximum(qx, qy), 0) - np.float32(corner)
    part = canvas[:, rows, columns]
    part += np.clip(np.float32(0.5) - distance, 0, 1) * (color[:, None, None] - part)


@dataclass(frozen=True, slots=True)
class _Palette:
    """Two colours of a background, close enough that a figure stands out from both."""

    first: Color
    second: Color

    def mix(self, amount: NDArray[np.float32]) -> Canvas:
        """Blend: [H,W] in 0..1 to a canvas [3,H,W]."""
        first, second = self.first[:, None, None], self.second[:, None, None]
        return np.asarray(first + amount * (second - first))


def _coordinates(height: int, width: int, angle: float) -> NDArray[np.float32]:
    """Return [H,W] the distance along a direction, in units of the shorter side."""
    y, x = np.mgrid[:height, :width].astype(np.float32) / np.float32(min(height, width))
    return np.asarray(x * np.float32(np.cos(angle)) + y * np.float32(np.sin(angle)))


def _flat(rng: np.random.Generator, palette: _Palette, height: int, width: int) -> Canvas:
    return palette.mix(np.full((height, width), rng.uniform(0, 1), np.float32))


def _gradient(rng: np.random.Generator, palette: _Palette, height: int, width: int) -> Canvas:
    ramp = _coordinates(height, width, rng.uniform(0, 2 * np.pi))
    ramp -= ramp.min()
    return palette.mix(ramp / ramp.max())


def _smooth(rng: np.random.Generator, height: int, width: int, cells: int) -> NDArray[np.float32]:
    """Return [H,W] random values in 0..1, smooth at a scale of the longer side / `cells`."""
    coarse = rng.random((cells + 1, cells + 1), dtype=np.float32)

    def weights(size: int) -> NDArray[np.float32]:
        place = np.linspace(0, cells, size, dtype=np.float32)[:, None]
        near = np.clip(1 - np.abs(place - np.arange(cells + 1, dtype=np.float32)), 0, 1)
        return np.asarray(near * near * (3 - 2 * near), np.float32)

    return np.asarray(weights(height) @ coarse @ weights(width).T)


def _texture(rng: np.random.Generator, palette: _Palette, height: int, width: int) -> Canvas:
    cells = int(rng.integers(3, 7))
    amount = 0.6 * _smooth(rng, height, width, cells)
    amount += 0.3 * _smooth(rng, height, width, cells * 3)
    amount += 0.1 * _smooth(rng, height, width, cells * 8)
    return palette.mix(amount)


def _stripes(rng: np.random.Generator, palette: _Palette, height: int, width: int) -> Canvas:
    ramp = _coordinates(height, width, rng.uniform(0, np.pi))
    wave = np.sin(ramp * np.float32(rng.uniform(12, 40)) + np.float32(rng.uniform(0, 6)))
    return palette.mix(np.clip(0.5 + wave * np.float32(rng.uniform(0.5, 4)), 0, 1))


def _blocks(rng: np.random.Generator, palette: _Palette, height: int, width: int) -> Canvas:
    rows, columns = int(rng.integers(3, 9)), int(rng.integers(3, 9))
    tones = rng.random((rows, columns), dtype=np.float32)
    y = np.minimum(np.arange(height) * rows // height, rows - 1)
    x = np.minimum(np.arange(width) * columns // width, columns - 1)
    return palette.mix(tones[y][:, x])


def _clutter(rng: np.random.Generator, palette: _Palette, height: int, width: int) -> Canvas:
    canvas = _gradient(rng, palette, height, width)
    side = min(height, width)
    for _ in range(int(rng.integers(5, 12))):
        place = (rng.uniform(0, width), rng.uniform(0, height))
        color = palette.mix(rng.random((1, 1), dtype=np.float32))[:, 0, 0]
        if rng.random() < 0.5:
            radius = rng.uniform(0.03, 0.16) * side
            draw_capsule(canvas, np.array([place, place], np.float32), (radius, radius), color)
        else:
            half = (rng.uniform(0.04, 0.2) * side, rng.uniform(0.04, 0.2) * side)
            draw_box(canvas, place, half, color, angle=rng.uniform(0, np.pi))
    return canvas


BACKGROUNDS: tuple[
    Callable[[np.random.Generator, _Palette, int, int], Canvas],
    ...,
] = (_flat, _gradient, _texture, _stripes, _blocks, _clutter)


def draw_background(
    rng: np.random.Generator, height: int, width: int, luma: float, floor: float | None
) -> Canvas:
    """Return a random background [3,H,W] of one of six kinds.

    Args:
        rng: Decides everything.
        height: H, pixels.
        width: W, pixels.
        luma: About its mean luma, 0..255.
        floor: Row where a floor of another tone begins; None for no floor.
    """
    contrast = rng.uniform(6, 22)
    saturation = rng.uniform(0.05, 0.45)
    palette = _Palette(
        random_color(rng, luma - contrast, saturation),
        random_color(rng, luma + contrast, saturation),
    )
    canvas = BACKGROUNDS[int(rng.integers(len(BACKGROUNDS)))](rng, palette, height, width)
    if floor is not None:
        edge = np.clip(np.arange(height, dtype=np.float32) - np.float32(floor) + 0.5, 0, 1)
        tone = random_color(rng, luma + rng.choice([-1, 1]) * rng.uniform(8, 20), saturation)
        canvas += edge[:, None] * np.float32(0.85) * (tone[:, None, None] - canvas)
    return canvas


@dataclass(frozen=True, slots=True, eq=False)
class SensorNoise:
    """Noise cut at a random place from one larger field: new for each picture, yet cheap.

    Attributes:
        field: f32 [2H,2W], grey.
        size: (H, W).
    """

    field: NDArray[np.float32]
    size: tuple[int, int]

    @classmethod
    def draw(cls, rng: np.random.Generator, size: tuple[int, int]) -> SensorNoise:
        """Draw a field of a random strength."""
        field = rng.standard_normal((2 * size[0], 2 * size[1]), dtype=np.float32)
        return cls(field * np.float32(rng.uniform(0.5, 5)), size)

    def add(self, rng: np.random.Generator, canvas: Canvas) -> None:
        """Add a cut of the field to a canvas [3,H,W]."""
        height, width = self.size
        y, x = int(rng.integers(height)), int(rng.integers(width))
        canvas += self.field[y : y + height, x : x + width]
