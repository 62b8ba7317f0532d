"""Jointed figures: proportions, skeletons by forward and inverse kinematics, clothes.

Lengths are body heights, x points right, y up, the ground is y = 0. Angles are radians from
straight down, positive to the right of the picture. Arrays over time have N entries; limbs come as
[2,N,2]: the screen's left and right one, N times, (x, y).
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fgmclip.video.drawing import LUMA, Color, random_color

Array = NDArray[np.float64]
Random = np.random.Generator

SIDES = np.array([-1.0, 1.0])[:, None]


@dataclass(frozen=True, slots=True)
class Body:
    """Proportions of one figure, in body heights."""

    head: float
    torso: float
    shoulder: float
    hip: float
    upper_arm: float
    fore_arm: float
    leg: float
    arm_radius: float
    leg_radius: float
    girth: float

    @classmethod
    def draw(cls, rng: Random) -> Body:
        """Draw a random body."""
        return cls(
            head=rng.uniform(0.070, 0.090),
            torso=rng.uniform(0.27, 0.31),
            shoulder=rng.uniform(0.105, 0.135),
            hip=rng.uniform(0.045, 0.065),
            upper_arm=rng.uniform(0.165, 0.190),
            fore_arm=rng.uniform(0.155, 0.180),
            leg=rng.uniform(0.225, 0.250),
            arm_radius=rng.uniform(0.037, 0.050),
            leg_radius=rng.uniform(0.044, 0.062),
            girth=rng.uniform(0.075, 0.105),
        )

    @property
    def foot(self) -> float:
        """Height of the ankle above the ground."""
        return self.leg_radius * 0.9

    @property
    def stand(self) -> float:
        """Height of the hips when standing."""
        return 1.97 * self.leg + self.foot


@dataclass(frozen=True, slots=True)
class Skeleton:
    """Where the joints are.

    Attributes:
        hips: Middle of the hips [N,2].
        neck: Middle of the shoulders [N,2].
        head: Middle of the head [N,2].
        shoulders: [2,N,2].
        elbows: [2,N,2].
        hands: [2,N,2].
        sockets: Upper ends of the legs [2,N,2].
        knees: [2,N,2].
        feet: Ankles [2,N,2].
        facing: -1 or 1 for a figure seen from the side, 0 for one seen from the front.
        behind: Which arm is drawn behind the trunk; None for neither.
        seat: Middle of the top of a stool (x, y); None for none.
    """

    hips: Array
    neck: Array
    head: Array
    shoulders: Array
    elbows: Array
    hands: Array
    sockets: Array
    knees: Array
    feet: Array
    facing: int = 0
    behind: int | None = None
    seat: tuple[float, float] | None = None

    def lean(self, angle: float) -> Skeleton:
        """Turn the whole figure about the ground below it."""
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        joints = {
            item.name: value @ turn
            for item in fields(self)
            if isinstance(value := getattr(self, item.name), np.ndarray)
        }
        return replace(self, **joints)


def direction(angle: Array) -> Array:
    """Return unit vectors [...,2] for angles [...]."""
    return np.stack([np.sin(angle), -np.cos(angle)], axis=-1)


def two_bones(start: Array, end: Array, length: float, bend: Array | float) -> tuple[Array, Array]:
    """Join two points by two bones of `length` each.

    Args:
        start: [...,2].
        end: [...,2]; drawn nearer if the bones do not reach it.
        length: Length of each bone.
        bend: How far the joint stands out: 1 or -1 in the picture's plane (seen from `start`, to
            the left of the way to `end` if positive), less where the limb points at the viewer.

    Returns:
        The joint and the end reached, [...,2] each.
    """
    way = end - start
    distance = np.maximum(np.linalg.norm(way, axis=-1, keepdims=True), 1e-6)
    way = way * np.minimum(1, 2 * length / distance)
    height = np.sqrt(np.maximum(length**2 - (way**2).sum(-1, keepdims=True) / 4, 0))
    across = np.stack([-way[..., 1], way[..., 0]], axis=-1) / distance
    return start + way / 2 + across * height * np.asarray(bend)[..., None], start + way


@dataclass(frozen=True, slots=True)
class Trunk:
    """Hips, spine and head; limbs are joined to it."""

    body: Body
    hips: Array
    neck: Array
    head: Array
    shoulders: Array
    sockets: Array

    @classmethod
    def build(cls, body: Body, x: Array, y: Array, bow: Array | float, spread: float) -> Trunk:
        """Place the trunk: hips at (x, y) [N], bowed to the right by an angle [N]."""
        hips = np.stack([x, y], axis=-1)
        bow = np.broadcast_to(bow, x.shape)
        up, across = -direction(-bow), np.stack([np.cos(bow), -np.sin(bow)], axis=-1)
        neck = hips + up * body.torso
        sides = SIDES[..., None] * spread
        return cls(
            body,
            hips,
            neck,
            neck + up * (0.02 + body.head),
            neck - up * 0.02 + sides * across * body.shoulder,
            hips + sides * across * body.hip,
        )

    def arms_by_angles(self, upper: Array, fore: Array) -> tuple[Array, Array]:
        """Return elbows and hands [2,N,2] for the angles of upper and fore arms [2,N]."""
        elbows = self.shoulders + self.body.upper_arm * direction(upper)
        return elbows, elbows + self.body.fore_arm * direction(fore)

    def finish(
        self,
        arms: tuple[Array, Array],
        feet: Array,
        knee_bend: Array | float,
        *,
        facing: int = 0,
        behind: int | None = None,
        seat: tuple[float, float] | None = None,
    ) -> Skeleton:
        """Add arms, and legs that reach for the feet [2,N,2]."""
        knees, ankles = two_bones(self.sockets, feet, self.body.leg, knee_bend)
        return Skeleton(
            self.hips,
            self.neck,
            self.head,
            self.shoulders,
            *arms,
            self.sockets,
            knees,
            ankles,
            facing,
            behind,
            seat,
        )


# Light to dark, RGB.
SKINS = np.array(
    [
        [250, 222, 200],
        [236, 196, 164],
        [214, 164, 126],
        [178, 124, 88],
        [128, 84, 58],
        [84, 54, 40],
    ],
    np.float32,
)
HAIRS = np.array(
    [[30, 26, 24], [72, 46, 30], [128, 78, 40], [206, 170, 104], [150, 150, 150], [160, 66, 34]],
    np.float32,
)


@dataclass(frozen=True, slots=True)
class Look:
    """Colours of a figure; `cuff` is what covers the forearm, a sleeve or skin."""

    skin: Color
    hair: Color
    shirt: Color
    trousers: Color
    shoes: Color
    sleeve: Color
    cuff: Color
    stool: Color

    @classmethod
    def draw(cls, rng: Random, luma: float) -> Look:
        """Draw colours that stand out from a background of this luma (0..255)."""

        def apart(least: float, most: float) -> Color:
            signs = [sign for sign in (-1, 1) if 12 <= luma + sign * least <= 243]
            target = luma + rng.choice(signs) * rng.uniform(least, most)
            return random_color(rng, float(np.clip(target, 12, 243)), rng.uniform(0.3, 1))

        skin = rng.choice(SKINS[np.abs(SKINS @ LUMA - luma) > 40])
        shirt, trousers = apart(55, 120), apart(55, 120)
        # An arm before the trunk must not melt into it.
        sleeve = shirt * np.float32(0.72) if shirt @ LUMA < luma else shirt * np.float32(1.25)
        return cls(
            skin=skin,
            hair=rng.choice(HAIRS[np.abs(HAIRS @ LUMA - skin @ LUMA) > 30]),
            shirt=shirt,
            trousers=trousers,
            shoes=apart(50, 120),
            sleeve=np.clip(sleeve, 0, 255),
            cuff=skin if rng.random() < 0.5 else np.clip(sleeve, 0, 255),
            stool=apart(35, 70),
        )


class Capsule(NamedTuple):
    """A capsule over time in body heights: ends [2,N,2], the radius at each."""

    ends: Array
    radii: tuple[float, float]
    color: Color


Capsules = list[Capsule]


def dress(body: Body, joints: Skeleton, look: Look) -> Capsules:
    """Dress a skeleton: capsules from the farthest to the nearest."""
    far, near = (1, 0) if joints.behind == 1 else (0, 1)

    def limb(start: Array, joint: Array, end: Array, radius: float, *colors: Color) -> Capsules:
        upper = Capsule(np.stack([start, joint]), (radius, radius * 0.9), colors[0])
        lower = Capsule(np.stack([joint, end]), (radius * 0.9, radius * 0.75), colors[1])
        return [upper, lower]

    def shaded(capsules: Capsules, side: int) -> Capsules:
        if joints.behind != side:
            return capsules
        return [item._replace(color=item.color * np.float32(0.82)) for item in capsules]

    def arm(side: int) -> Capsules:
        shoulder, elbow, hand = joints.shoulders[side], joints.elbows[side], joints.hands[side]
        capsules = limb(shoulder, elbow, hand, body.arm_radius, look.sleeve, look.cuff)
        return shaded(
            [*capsules, Capsule(np.stack([hand, hand]), (body.arm_radius,) * 2, look.skin)], side
        )

    def leg(side: int) -> Capsules:
        hip, knee, foot = joints.sockets[side], joints.knees[side], joints.feet[side]
        capsules = limb(hip, knee, foot, body.leg_radius, look.trousers, look.trousers)
        heel, toe = (0.0, 0.07 * joints.facing) if joints.facing else (-0.012, 0.012)
        sole = foot - np.array([0.0, 0.1 * body.leg_radius])
        ends = np.stack([sole + np.array([heel, 0.0]), sole + np.array([toe, 0.0])])
        return shaded([*capsules, Capsule(ends, (body.leg_radius * 0.8,) * 2, look.shoes)], side)

    up = joints.head - joints.neck
    up = up / np.linalg.norm(up, axis=-1, keepdims=True)
    chest = [joints.hips + up * body.girth * 0.4, joints.neck - up * body.girth * 0.9]
    hair = [joints.head + up * 0.015, joints.head + up * 0.02]
    face = [joints.head - up * 0.028, joints.head - up * 0.004]
    trunk = [
        Capsule(joints.sockets, (body.leg_radius * 1.1,) * 2, look.trousers),
        Capsule(np.stack([joints.neck, joints.head]), (0.032,) * 2, look.skin * np.float32(0.85)),
        Capsule(np.stack(chest), (body.girth * 0.85, body.girth), look.shirt),
        Capsule(joints.shoulders, (body.arm_radius * 1.1,) * 2, look.shirt),
        Capsule(np.stack(hair), (body.head,) * 2, look.hair),
        Capsule(np.stack(face), (body.head * 0.84,) * 2, look.skin),
    ]
    legs = leg(far) + leg(near)
    stool = [] if joints.seat is None else _stool(joints.seat, len(joints.hips), look.stool)
    if joints.behind is None:
        return [*stool, *legs, *trunk, *arm(far), *arm(near)]
    return [*stool, *arm(far), *legs, *trunk, *arm(near)]


def _stool(seat: tuple[float, float], count: int, color: Color) -> Capsules:
    """Return a stool that stands still for `count` pictures."""
    x, y = seat

    def bar(start: tuple[float, float], end: tuple[float, float], radius: float) -> Capsule:
        ends = np.array([start, end])[:, None].repeat(count, axis=1)
        return Capsule(ends, (radius, radius), color)

    legs = [bar((x + side, y - 0.02), (x + 1.3 * side, 0.02), 0.017) for side in (-0.07, 0.07)]
    return [*legs, bar((x - 0.085, y - 0.025), (x + 0.085, y - 0.025), 0.024)]
