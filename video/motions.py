"""Motion programs: what the joints of a figure do in each action.

A direction pair has one program: the second action of the pair is the first's in reverse order, so
that single pictures, and any set of pictures without their order, say nothing about the direction.
Units and axes are those of `figures`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fgmclip.video.figures import SIDES, Array, Body, Random, Skeleton, Trunk, direction


@dataclass(frozen=True, slots=True)
class Stage:
    """What a motion program may use.

    Attributes:
        body: Whose motion.
        time: Seconds [N], starting at 0.
        room: Width and height that the figure may fill, in body heights.
        rng: Decides speed, amplitude, phase and the like.
    """

    body: Body
    time: Array
    room: float
    rng: Random

    @property
    def progress(self) -> Array:
        """Time from 0 to 1 [N]."""
        return np.asarray(self.time / self.time[-1])

    def once(self) -> Array:
        """Return a movement from 0 to 1 [N] that never rests, a little slower at both ends."""
        u, ease = self.progress, self.rng.uniform(0.1, 0.5)
        low, high = self.rng.uniform(0, 0.06), self.rng.uniform(0.94, 1)
        return low + (high - low) * ((1 - ease) * u + ease * u * u * (3 - 2 * u))

    def cycles(self, slow: float, fast: float) -> Array:
        """Return the phase [N] in turns of something that repeats `slow` to `fast` times a second.

        The phase at the start is random.
        """
        return np.asarray(self.rng.uniform(0, 1) + self.rng.uniform(slow, fast) * self.time)

    def sway(self, size: float = 0.012) -> Array:
        """Return a small slow movement [N]: nobody stands quite still."""
        size *= self.rng.uniform(0, 1)
        return np.asarray(size * np.sin(2 * np.pi * self.cycles(0.3, 0.8)))

    def standing(self, bow: Array) -> Trunk:
        """Return a trunk seen from the front, standing and bowed to the right by an angle [N]."""
        x = self.sway()
        return Trunk.build(self.body, x, np.full_like(x, self.body.stand - 0.01), bow, 1.0)

    def ground(self, apart: float) -> Array:
        """Return feet [2,N,2] on the ground, each `apart` from the middle."""
        feet = np.zeros((2, len(self.time), 2))
        feet[..., 0] = SIDES * apart
        feet[..., 1] = self.body.foot
        return feet

    def hanging(self) -> tuple[Array, Array]:
        """Return angles of upper and fore arms [2,N] that hang."""
        upper = SIDES * self.rng.uniform(0.08, 0.35) + self.sway(0.05)
        return upper, upper - SIDES * self.rng.uniform(0, 0.2)

    def side(self) -> int:
        """Return -1 or 1."""
        return int(self.rng.choice([-1, 1]))


def _walk(stage: Stage) -> Skeleton:
    """Walk to the left; the figure looks the same from both sides."""
    body, rng = stage.body, stage.rng
    distance = rng.uniform(0.6, 0.97) * max(stage.room - 0.62, 0.3)
    speed = distance / stage.time[-1]
    x = distance * (0.5 - stage.progress)
    frequency = rng.uniform(0.85, 1.15)
    step = speed / (4 * frequency)
    gait = frequency * stage.time + rng.uniform(0, 1)
    phase = (gait + np.array([[0.0], [0.5]])) % 1
    swing = np.clip(2 * phase - 1, 0, 1)
    carried = step - 2 * step * swing * swing * (3 - 2 * swing)
    feet = stage.ground(0.0)
    feet[..., 0] = x + np.where(phase < 0.5, 4 * step * phase - step, carried)
    feet[..., 1] += rng.uniform(0.04, 0.09) * np.sin(np.pi * swing)
    drop = 0.01 + 2 * body.leg - np.sqrt(4 * body.leg**2 - step**2)
    bob = rng.uniform(0.004, 0.012) * np.cos(4 * np.pi * gait)
    trunk = Trunk.build(body, x, body.stand - drop + bob, 0.0, rng.uniform(0.45, 0.7))
    angle = rng.uniform(0.3, 0.6) * np.sin(2 * np.pi * gait)
    arms = np.stack([angle, -angle])
    return trunk.finish(trunk.arms_by_angles(arms, arms), feet, 0.0, behind=int(rng.integers(2)))


def _sit(stage: Stage) -> Skeleton:
    """Sit down on a stool, seen from the side."""
    body, rng, facing = stage.body, stage.rng, stage.side()
    down = stage.once()
    back, low = rng.uniform(0.13, 0.19), body.leg * 1.02 + body.foot
    x = -facing * back * down
    y = body.stand - 0.012 + (low - body.stand) * down
    bow = facing * (rng.uniform(0, 0.08) + rng.uniform(0.25, 0.5) * np.sin(np.pi * down))
    trunk = Trunk.build(body, x, y, bow, 0.25)
    reach = facing * (0.1 + rng.uniform(0.35, 0.6) * down + 0.2 * np.sin(np.pi * down))
    upper = reach + np.array([[-0.06], [0.06]])
    fore = upper + facing * (0.1 + rng.uniform(0.3, 0.6) * down)
    feet = stage.ground(rng.uniform(0.01, 0.035))
    feet[..., 0] += facing * rng.uniform(0.02, 0.05)
    seat = (-facing * back, low - body.leg_radius - 0.01)
    arms = trunk.arms_by_angles(upper, fore)
    behind = int(rng.integers(2))
    return trunk.finish(arms, feet, float(facing), facing=facing, behind=behind, seat=seat)


def _raise_arms(stage: Stage) -> Skeleton:
    """Raise both arms sideways above the head."""
    rng = stage.rng
    first, last = rng.uniform(0.15, 0.4), rng.uniform(2.45, 2.85)
    angle = first + (last - first) * stage.once()
    uneven = np.array([[0.0], [rng.uniform(-0.15, 0.15)]])
    upper = SIDES * (angle + uneven)
    fore = upper + SIDES * rng.uniform(-0.1, 0.35)
    trunk = stage.standing(stage.sway(0.03))
    feet = stage.ground(rng.uniform(0.06, 0.13))
    return trunk.finish(trunk.arms_by_angles(upper, fore), feet, SIDES * 0.15)


def _circle(stage: Stage) -> Skeleton:
    """Circle one arm clockwise as the viewer sees it."""
    rng = stage.rng
    upper, fore = (np.array(angles) for angles in stage.hanging())
    arm = int(rng.integers(2))
    upper[arm] = -2 * np.pi * stage.cycles(0.5, 0.8)
    fore[arm] = upper[arm] + rng.uniform(-0.35, 0.35)
    trunk = stage.standing(0.04 * rng.uniform(0, 1) * np.sin(upper[arm]))
    feet = stage.ground(rng.uniform(0.06, 0.13))
    return trunk.finish(trunk.arms_by_angles(upper, fore), feet, SIDES * 0.15)


def _jump(stage: Stage) -> Skeleton:
    """Jump in place, again and again."""
    body, rng = stage.body, stage.rng
    phase = stage.cycles(1.1, 1.45) % 1
    ground = rng.uniform(0.4, 0.5)
    crouch = np.sin(np.pi * np.clip(phase / ground, 0, 1)) ** 2
    flight = np.clip((phase - ground) / (1 - ground), 0, 1)
    lift = rng.uniform(0.11, 0.19) * 4 * flight * (1 - flight)
    x = stage.sway()
    y = body.stand - 0.012 + lift - rng.uniform(0.07, 0.13) * crouch
    trunk = Trunk.build(body, x, y, 0.0, 1.0)
    feet = stage.ground(rng.uniform(0.06, 0.1))
    feet[..., 1] += lift
    swing = rng.uniform(0.5, 1.5) * np.sin(np.pi * flight) - 0.15 * crouch
    upper = SIDES * (rng.uniform(0.3, 0.5) + swing)
    fore = upper + SIDES * rng.uniform(-0.3, 0.2)
    bend = SIDES * rng.uniform(0.55, 0.85)
    return trunk.finish(trunk.arms_by_angles(upper, fore), feet, bend)


def _wave(stage: Stage) -> Skeleton:
    """Wave one hand beside the head."""
    rng = stage.rng
    upper, fore = (np.array(angles) for angles in stage.hanging())
    arm = int(rng.integers(2))
    outward = SIDES[arm]
    wag = np.sin(2 * np.pi * stage.cycles(1.3, 1.9))
    upper[arm] = outward * (rng.uniform(1.6, 2.1) + 0.12 * wag)
    fore[arm] = outward * (np.pi - 0.2 + rng.uniform(0.5, 0.75) * wag)
    trunk = stage.standing(stage.sway(0.03))
    feet = stage.ground(rng.uniform(0.05, 0.12))
    return trunk.finish(trunk.arms_by_angles(upper, fore), feet, SIDES * 0.15)


def _kick(stage: Stage) -> Skeleton:
    """Kick forward with one leg, seen from the side."""
    body, rng, facing = stage.body, stage.rng, stage.side()
    wave = np.sin(2 * np.pi * stage.cycles(0.85, 1.2))
    low, high = rng.uniform(-0.55, -0.3), rng.uniform(1.15, 1.6)
    angle = facing * (low + (high - low) * (0.5 + 0.5 * wave))
    x = stage.sway() - facing * 0.02 * wave
    y = body.stand - 0.02 + 0 * x
    trunk = Trunk.build(body, x, y, -facing * (0.05 + 0.1 * wave), 0.3)
    leg = int(rng.integers(2))
    feet = stage.ground(0.01)
    stretch = 1.85 + 0.12 * wave
    feet[leg] = trunk.sockets[leg] + stretch[:, None] * body.leg * direction(angle)
    swing = facing * rng.uniform(0.3, 0.6) * wave
    upper = np.stack([swing, swing]) * np.where(np.arange(2) == leg, -1, 1)[:, None]
    fore = upper + facing * rng.uniform(0.3, 0.8)
    arms = trunk.arms_by_angles(upper, fore)
    return trunk.finish(arms, feet, float(facing), facing=facing, behind=1 - leg)


def _clap(stage: Stage) -> Skeleton:
    """Clap both hands before the chest, the forearms swinging up and out between claps."""
    body, rng = stage.body, stage.rng
    apart = 0.5 - 0.5 * np.cos(2 * np.pi * stage.cycles(1.2, 1.8))
    upper = rng.uniform(0, 0.25) + rng.uniform(0.1, 0.35) * apart
    # Together, the palms meet in the middle: that fixes how far the forearms lean inward.
    elbow = body.shoulder + body.upper_arm * np.sin(upper[apart.argmin()])
    inward = np.arcsin(min((elbow - 0.02) / body.fore_arm, 0.97))
    fore = np.pi + inward - (inward + rng.uniform(0.5, 0.95)) * apart
    trunk = stage.standing(stage.sway(0.03))
    feet = stage.ground(rng.uniform(0.06, 0.13))
    return trunk.finish(trunk.arms_by_angles(SIDES * upper, SIDES * fore), feet, SIDES * 0.15)


@dataclass(frozen=True, slots=True)
class Motion:
    """How an action is made.

    Attributes:
        program: Gives the joints over time.
        backward: Whether the pictures are shown in reverse order.
    """

    program: Callable[[Stage], Skeleton]
    backward: bool = False


MOTIONS: dict[str, Motion] = {
    "walk_left": Motion(_walk),
    "walk_right": Motion(_walk, backward=True),
    "sit_down": Motion(_sit),
    "stand_up": Motion(_sit, backward=True),
    "raise_arms": Motion(_raise_arms),
    "lower_arms": Motion(_raise_arms, backward=True),
    "circle_clockwise": Motion(_circle),
    "circle_counterclockwise": Motion(_circle, backward=True),
    "jump": Motion(_jump),
    "wave": Motion(_wave),
    "kick": Motion(_kick),
    "clap": Motion(_clap),
}
"""One motion for each of `fgmclip.spec.presets.DEMO_ACTIONS`, in that order."""
