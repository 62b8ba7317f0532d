"""Competitors take turns, round after round, until their ratios are known well enough.

A turn that other work on the machine disturbed is repeated at once; which of its tries counts
depends on what others computed meanwhile, not on how long it took.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fgmclip.bench.cost.competitor import CompetitorError
from fgmclip.bench.overhead_race import Load

TURN_MS = 800.0
"""What a turn takes at least: long enough for the kernel's counters to see a neighbour, and for the
median of a few clips where one clip by itself may be a fifth off."""

MOST_CALLS = 20
"""Clips of a turn at most."""

WAKE_MS = 1000.0
"""A clip that takes less is run once unseen at the start of a turn: caches and clocks have changed
hands meanwhile, and threads wake up."""

QUIET = 0.05
"""Share of this machine's processors that others may take in a turn."""

TRIES = 3
"""How often a turn is taken at most."""

_PAUSE = 0.05
"""What is waited after a disturbed turn, seconds: neighbours work in bursts."""

Run = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Turn:
    """What one competitor did in one round.

    Attributes:
        milliseconds: Of each clip that counts.
        foreign: Share of the processors that others took meanwhile.
    """

    milliseconds: tuple[float, ...]
    foreign: float

    @property
    def disturbed(self) -> bool:
        """Whether others took more than is allowed."""
        return self.foreign > QUIET


Round = dict[str, Turn]
"""The turns of all competitors, by key."""


@dataclass(frozen=True, slots=True)
class Starter:
    """A competitor that was opened.

    Attributes:
        run: Runs one clip.
        calls: Clips of a turn that count.
        wakes: Whether a turn begins with one that does not.
    """

    run: Run
    calls: int
    wakes: bool

    @classmethod
    def warmed(cls, run: Run) -> Starter:
        """Run it once more unseen, and derive from that how many clips a turn has.

        Raises:
            CompetitorError: It cannot run.
        """
        took = run()
        return cls(run, calls_of(took), took < WAKE_MS)

    def turn(self, load: Callable[[], Load] = Load.now) -> Turn:
        """Take a turn.

        Raises:
            CompetitorError: It cannot run any more.
        """
        if self.wakes:
            self.run()
        before = load()
        times = tuple(self.run() for _ in range(self.calls))
        return Turn(times, load().foreign(before))


def calls_of(milliseconds: float) -> int:
    """Return how many clips of this length a turn has."""
    return min(MOST_CALLS, max(1, round(TURN_MS / max(milliseconds, 1e-3))))


def take_round(
    starters: Mapping[str, Starter],
    number: int,
    *,
    tries: int = TRIES,
    load: Callable[[], Load] = Load.now,
) -> tuple[Round, dict[str, str]]:
    """Let every competitor take a turn.

    Args:
        starters: By key.
        number: Of the round; each starts with another competitor.
        tries: How often a disturbed turn is taken at most.
        load: Reads how busy the processors were.

    Returns:
        The turns, and why those that could not run any more could not.
    """
    keys = list(starters)
    start = number % len(keys)
    turns: Round = {}
    failed: dict[str, str] = {}
    for key in keys[start:] + keys[:start]:
        try:
            turns[key] = _best_turn(starters[key], tries, load)
        except CompetitorError as error:
            failed[key] = str(error)
    return {key: turns[key] for key in keys if key in turns}, failed


def _best_turn(starter: Starter, tries: int, load: Callable[[], Load]) -> Turn:
    turn = starter.turn(load)
    for _ in range(tries - 1):
        if not turn.disturbed:
            break
        time.sleep(_PAUSE)
        turn = min(turn, starter.turn(load), key=lambda one: one.foreign)
    return turn
