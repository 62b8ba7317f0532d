"""One run: everything opened, raced round by round until it is known well enough, and reported."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from fgmclip.bench.cost.competitor import EAGER, SERVED, Competitor, CompetitorError
from fgmclip.bench.cost.race import TRIES, Starter, take_round
from fgmclip.bench.cost.report import Entry
from fgmclip.bench.cost.state import RaceState
from fgmclip.bench.cost.summary import ratios_of, settled, timed_entries

FEW_RESAMPLES = 400
"""For looking, after a round, whether intervals are narrow enough."""

Tell = Callable[[str], None]


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


QUICK = Effort(seconds=165, least=4, most=12)
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


def race(
    competitors: Sequence[Competitor],
    state: RaceState,
    *,
    effort: Effort,
    started: float,
    path: Path,
    tell: Tell,
    tick: Callable[[int, int], None],
) -> Raced:
    """Open the competitors and let them take turns.

    Args:
        competitors: What takes part.
        state: Rounds so far; new ones are added and kept at `path`.
        effort: How long.
        started: When the run began, by `time.monotonic`.
        path: Of the state.
        tell: Called with what is done next.
        tick: Called after each round with the number of rounds and how many are expected.

    Raises:
        CompetitorError: What others are compared with cannot run.
    """
    failed: dict[str, str] = {}
    with ExitStack() as stack:
        starters: dict[str, Starter] = {}
        for item in competitors:
            key = item.entry.key
            if item.entry.why:
                continue
            tell(f"start {item.entry.name}")
            try:
                starters[key] = Starter.warmed(stack.enter_context(item.open()))
            except CompetitorError as error:
                failed[key] = str(error)
        _require(starters, failed)
        longest = 0.0
        while _goes_on(state, failed, effort, started, longest):
            tell(f"round {len(state.rounds) + 1}")
            begun = time.monotonic()
            # A busy machine must not make a late run later.
            late = begun - started + 3 * longest > effort.seconds
            turns, ended = take_round(starters, len(state.rounds), tries=1 if late else TRIES)
            failed |= ended
            for key in ended:
                del starters[key]
            _require(starters, failed)
            state.rounds.append(turns)
            state.save(path)
            longest = max(longest, time.monotonic() - begun)
            tick(len(state.rounds), _expected(state, effort, started, longest))
    entries = timed_entries([item.entry for item in competitors], state.rounds, failed)
    return Raced(tuple(entries), state, failed)


def utc_now() -> str:
    """Return the time as ISO 8601, UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _goes_on(
    state: RaceState, failed: Collection[str], effort: Effort, started: float, longest: float
) -> bool:
    done = len(state.rounds)
    if done < effort.least:
        return True
    if done >= effort.most or time.monotonic() - started + longest > effort.seconds:
        return False
    return not settled(ratios_of(state.rounds, without=failed, resamples=FEW_RESAMPLES))


def _expected(state: RaceState, effort: Effort, started: float, longest: float) -> int:
    """Return how many rounds there will be at most."""
    left = effort.seconds - (time.monotonic() - started)
    more = int(left / longest) if longest else 0
    return max(effort.least, min(effort.most, len(state.rounds) + max(0, more)))


def _require(starters: Mapping[str, Starter], failed: Mapping[str, str]) -> None:
    for key in (SERVED, EAGER):
        if key not in starters:
            raise CompetitorError(
                f"{key}: expected to run, as others are compared with it, got: "
                f"{failed.get(key, 'no such competitor')}"
            )
