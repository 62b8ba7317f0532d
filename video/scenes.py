"""Scenes: one figure with its clothes, place and background, painted picture by picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fgmclip.video.drawing import (
    Canvas,
    Color,
    draw_background,
    draw_capsule,
    draw_shadow,
    random_color,
)
from fgmclip.video.figures import Array, Body, Capsules, Look, Random, Skeleton, dress
from fgmclip.video.motions import Stage

SIZES = ((144, 192), (180, 320), (192, 256), (240, 320), (240, 240), (192, 144), (256, 192))
"""Heights and widths of pictures; even, as 4:2:0 chroma wants."""

RATES = (24, 25, 30)
"""Pictures a second."""

SPAN_SECONDS = 1.375
"""Time from the first picture to the last, to the nearest picture.

On the demo's grid (8 samples a second apart by 1/8 s) that makes twelve samples and two windows,
and the second window lies at the end as the first does at the start. So the windows of a video
shown backward hold the same pictures, and no window tells a direction by what it leaves out.
"""

FILL = 0.94
"""Part of the central square that the whole action may fill."""


@dataclass(frozen=True, slots=True)
class _Part:
    """A capsule over time: ends [N,2,2] in pixels, the radius at each."""

    ends: NDArray[np.float32]
    radii: tuple[float, float]
    color: Color


def _box(capsules: Capsules) -> tuple[Array, Array]:
    """Return the lowest and highest (x, y) that capsules reach, in body heights."""
    points = [
        (point, radius)
        for item in capsules
        for point, radius in zip(item.ends, item.radii, strict=True)
    ]
    low = np.min([point.min(0) - radius for point, radius in points], axis=0)
    high = np.max([point.max(0) + radius for point, radius in points], axis=0)
    return low, high


@dataclass(frozen=True, slots=True, eq=False)
class Figure:
    """A figure in its place.

    Attributes:
        parts: Capsules from the farthest to the nearest.
        scale: Pixels of one body height.
        ground: Row of the ground.
        column: Column of the hips over time [N].
        light: Direction and strength of the light.
    """

    parts: list[_Part]
    scale: float
    ground: float
    column: Array
    light: tuple[float, float]

    @classmethod
    def draw(
        cls,
        program: Callable[[Stage], Skeleton],
        rng: Random,
        time: Array,
        size: tuple[int, int],
        luma: float,
    ) -> Figure:
        """Draw a random figure and put its whole action into the central square."""
        side = min(size) * FILL
        body = Body.draw(rng)
        look = Look.draw(rng, luma)
        scale = rng.uniform(0.52, 0.78) * min(size)
        joints = program(Stage(body, time, side / scale, rng)).lean(rng.uniform(-0.05, 0.05))
        capsules = dress(body, joints, look)
        low, high = _box(capsules)
        scale = min(scale, side / float(np.max(high - low)))
        # Free room on both axes, then the origin: rows run downward.
        spare = side - scale * (high - low)
        corner = (np.array(size[::-1]) - side) / 2 + rng.uniform(0, 1, 2) * spare
        origin = np.array([corner[0] - scale * low[0], corner[1] + scale * high[1]])
        flip = np.array([scale, -scale])
        parts = [
            _Part(
                (origin + flip * ends.swapaxes(0, 1)).astype(np.float32),
                (radii[0] * scale, radii[1] * scale),
                color,
            )
            for ends, radii, color in capsules
        ]
        light = rng.uniform(-0.12, 0.12), rng.uniform(-0.14, -0.04)
        column = origin[0] + scale * joints.hips[:, 0]
        return cls(parts, scale, float(origin[1]), column, light)

    def paint(self, canvas: Canvas, index: int, shift: Array) -> None:
        """Paint picture `index` onto a canvas moved by `shift` (x, y) pixels."""
        dx, dy = shift
        shadow = (self.column[index] + dx, self.ground + dy)
        draw_shadow(canvas, shadow, (0.2 * self.scale, 0.035 * self.scale), 0.3)
        for part in self.parts:
            ends = part.ends[index] + shift.astype(np.float32)
            draw_capsule(canvas, ends, part.radii, part.color, light=self.light, shade=0.2)


@dataclass(frozen=True, slots=True, eq=False)
class _Blob:
    """Something that passes by behind the figure, whatever the action: it must mean nothing."""

    path: Array
    radius: float
    color: Color

    @classmethod
    def draw(cls, rng: Random, time: Array, size: tuple[int, int], luma: float) -> _Blob:
        side, angle = min(size), rng.uniform(0, 2 * np.pi)
        middle = rng.uniform(0, 1, 2) * size[::-1]
        way = (time - time[-1] / 2)[:, None] * [np.cos(angle), np.sin(angle)]
        color = random_color(rng, luma + rng.choice([-1, 1]) * rng.uniform(15, 40), 0.5)
        path = middle + way * side * rng.uniform(0.15, 0.5)
        return cls(path, side * rng.uniform(0.03, 0.06), color)


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """All that a video shows, apart from sensor noise.

    Attributes:
        size: (H, W) pixels.
        rate: Pictures a second.
        background: [3,H+2m,W+2m], a margin of m pixels around what an unmoved camera sees.
        camera: Where the camera looks, (x, y) pixels [N,2]; on average straight ahead.
        gain: Brightness [N], about 1.
        figure: The figure.
        blob: A distraction, in some scenes.
    """

    size: tuple[int, int]
    rate: int
    background: Canvas
    camera: Array
    gain: NDArray[np.float32]
    figure: Figure
    blob: _Blob | None

    @classmethod
    def draw(cls, program: Callable[[Stage], Skeleton], rng: Random) -> Scene:
        """Draw a random scene in which a motion program runs."""
        size = SIZES[int(rng.integers(len(SIZES)))]
        rate = int(rng.choice(RATES))
        time = np.arange(round(SPAN_SECONDS * rate) + 1) / rate
        luma = rng.uniform(45, 210)
        figure = Figure.draw(program, rng, time, size, luma)
        floor = None
        if rng.random() < 0.5:
            floor = figure.ground - rng.uniform(0, 0.12) * figure.scale + _MARGIN
        return cls(
            size,
            rate,
            draw_background(rng, size[0] + 2 * _MARGIN, size[1] + 2 * _MARGIN, luma, floor),
            _shake(rng, time, 0.005 * min(size)),
            _flicker(rng, time),
            figure,
            _Blob.draw(rng, time, size, luma) if rng.random() < 0.25 else None,
        )

    def __len__(self) -> int:
        """Return N, the number of pictures."""
        return len(self.gain)

    def paint(self, index: int) -> Canvas:
        """Return picture `index` [3,H,W], RGB in about 0..255, without noise."""
        canvas = self._seen_background(index)
        shift = -self.camera[index]
        if self.blob is not None:
            place = (self.blob.path[index] + shift).astype(np.float32)
            radii = (self.blob.radius, self.blob.radius)
            draw_capsule(canvas, np.stack([place, place]), radii, self.blob.color, shade=0.2)
        self.figure.paint(canvas, index, shift)
        canvas *= self.gain[index]
        return canvas

    def _seen_background(self, index: int) -> Canvas:
        """Cut out what the camera sees, between pixels bilinearly."""
        (height, width), corner = self.size, self.camera[index] + _MARGIN
        x, y = (int(value) for value in corner)
        fx, fy = (np.float32(value) for value in corner - (x, y))
        seen = self.background[:, y : y + height + 1, x : x + width + 1]
        if fx == 0 and fy == 0:
            return seen[:, :-1, :-1].copy()
        rows = seen[:, :-1] * (1 - fy) + seen[:, 1:] * fy
        return np.asarray(rows[..., :-1] * (1 - fx) + rows[..., 1:] * fx)


_MARGIN = 3


def _shake(rng: Random, time: Array, size: float) -> Array:
    """Return small movements of a hand-held camera [N,2], or none: half stand on a tripod."""
    if rng.random() < 0.5:
        return np.zeros((len(time), 2))
    rates, phases = rng.uniform(0.5, 4, (2, 3)), rng.uniform(0, 2 * np.pi, (2, 3))
    waves = np.sin(2 * np.pi * rates[:, :, None] * time + phases[:, :, None]).mean(1).T
    return np.asarray(size * rng.uniform(0.2, 1) * (waves - waves.mean(0)))


def _flicker(rng: Random, time: Array) -> NDArray[np.float32]:
    """Return brightness over time [N]: a slow change of a few per cent."""
    wave = np.sin(2 * np.pi * (rng.uniform(0.1, 0.8) * time + rng.uniform(0, 1)))
    return np.asarray(1 + rng.uniform(0, 0.06) * wave, np.float32)
