"""One run: heat by heat opened, and raced round by round until it is known well enough."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from fgmclip.bench.cost.competitor import EAGER, SERVED, Competitor, CompetitorError
from fgmclip.bench.cost.race import TRIES, Round, Starter, take_round
from fgmclip.bench.cost.report import Entry
from fgmclip.bench.cost.state import RaceState
from fgmclip.bench.cost.summary import ratios_of, settled, timed_entries

FEW_RESAMPLES = 400
"""For looking, after a round, whether intervals are narrow enough."""

TOGETHER = 10
"""Competitors of a heat, beside the two that others are compared with: each keeps its weights in
memory, up to a gigabyte."""

Tell = Callable[[str], None]
Tick = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Effort:
    """How long is measured.

    Attributes:
        seconds: From the start of the run until its last round has to end.
        least: Rounds that are taken in any case.
        most: Rounds after which it ends, however wide the intervals are.
    """

    seconds: float
    least: int
    most: int


QUICK = Effort(seconds=165, least=3, most=60)
FULL = Effort(seconds=36 * 60, least=10, most=60)


@dataclass(frozen=True, slots=True)
class Raced:
    """How a race ended.

    Attributes:
        entries: With times, or why there are none.
        state: The rounds.
        failed: Why some competitors could not run, by key.
    """

    entries: tuple[Entry, ...]
    state: RaceState
    failed: Mapping[str, str]


def heats_of(competitors: Sequence[Competitor]) -> list[list[Competitor]]:
    """Return what is open at the same time: what others are compared with is in every heat.

    Args:
        competitors: What takes part; what says why it cannot run is in no heat.
    """
    able = [item for item in competitors if not item.entry.why]
    common = [item for item in able if item.entry.key in (SERVED, EAGER)]
    others = [item for item in able if item.entry.key not in (SERVED, EAGER)]
    count = max(1, -(-len(others) // TOGETHER))
    size = -(-len(others) // count)
    return [[*common, *others[heat * size : (heat + 1) * size]] for heat in range(count)]


def race(
    competitors: Sequence[Competitor],
    state: RaceState,
    *,
    effort: Effort,
    started: float,
    path: Path,
    tell: Tell,
    tick: Tick,
) -> Raced:
    """Open the competitors and let them take turns, heat by heat.

    Args:
        competitors: What takes part.
        state: Rounds so far; new ones are added and kept at `path`.
        effort: How long.
        started: When the run began, by `time.monotonic`.
        path: Of the state.
        tell: Called with what is done next.
        tick: Called after each round with the number of rounds of its heat and how many are
            expected.

    Raises:
        CompetitorError: What others are compared with cannot run.
    """
    failed = {item.entry.key: item.entry.why for item in competitors if item.entry.why}
    heats = heats_of(competitors)
    for number, heat in enumerate(heats):
        now = time.monotonic()
        until = now + (started + effort.seconds - now) / (len(heats) - number)
        say = _named(tell, f"heat {number + 1} of {len(heats)}, " if len(heats) > 1 else "")
        with ExitStack() as stack:
            starters: dict[str, Starter] = {}
            for item in heat:
                key = item.entry.key
                say(f"start {item.entry.name}")
                try:
                    starters[key] = Starter.warmed(stack.enter_context(item.open()))
                except CompetitorError as error:
                    failed[key] = str(error)
            _require(starters, failed)
            _take_rounds(
                starters,
                state,
                failed,
                clock=_Clock(effort, until),
                keep=lambda: state.save(path),
                tell=say,
                tick=tick,
            )
    entries = timed_entries([item.entry for item in competitors], state.rounds, failed)
    return Raced(tuple(entries), state, failed)


def utc_now() -> str:
    """Return the time as ISO 8601, UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _named(tell: Tell, name: str) -> Tell:
    return lambda what: tell(f"{name}{what}")


@dataclass(slots=True)
class _Clock:
    """How long a heat goes on.

    Attributes:
        effort: Of the run.
        until: When its last round has to end, by `time.monotonic`.
        longest: What the longest round so far took, seconds.
    """

    effort: Effort
    until: float
    longest: float = 0.0

    def goes_on(self, rounds: Sequence[Round], failed: Collection[str]) -> bool:
        """Return whether another round is taken."""
        if len(rounds) < self.effort.least:
            return True
        if len(rounds) >= self.effort.most or time.monotonic() + self.longest > self.until:
            return False
        return not settled(ratios_of(rounds, without=failed, resamples=FEW_RESAMPLES))

    @property
    def late(self) -> bool:
        """Whether a busy machine must not make the next round longer."""
        return time.monotonic() + 3 * self.longest > self.until

    def expected(self, done: int) -> int:
        """Return how many rounds there will be at most."""
        more = int((self.until - time.monotonic()) / self.longest) if self.longest else 0
        return max(self.effort.least, min(self.effort.most, done + max(0, more)))


def _take_rounds(
    starters: dict[str, Starter],
    state: RaceState,
    failed: dict[str, str],
    *,
    clock: _Clock,
    keep: Callable[[], None],
    tell: Tell,
    tick: Tick,
) -> None:
    """Take the rounds of one heat that are missing; what ends meanwhile goes into `failed`."""
    # A resumed state has rounds of other heats as well.
    mine = starters.keys() - {SERVED, EAGER} or set(starters)
    rounds = [turns for turns in state.rounds if mine & turns.keys()]
    while mine & starters.keys() and clock.goes_on(rounds, failed):
        tell(f"round {len(rounds) + 1}")
        begun = time.monotonic()
        turns, ended = take_round(starters, len(rounds), tries=1 if clock.late else TRIES)
        failed |= ended
        for key in ended:
            del starters[key]
        _require(starters, failed)
        rounds.append(turns)
        state.rounds.append(turns)
        keep()
        clock.longest = max(clock.longest, time.monotonic() - begun)
        tick(len(rounds), clock.expected(len(rounds)))


def _require(starters: Mapping[str, Starter], failed: Mapping[str, str]) -> None:
    for key in (SERVED, EAGER):
        if key not in starters:
            raise CompetitorError(
                f"{key}: expected to run, as others are compared with it, got: "
                f"{failed.get(key, 'no such competitor')}"
            )
