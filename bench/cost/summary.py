"""From rounds to a report: times, ratios, and a row for each data set."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from itertools import chain

import numpy as np

from fgmclip.bench.cost.competitor import EAGER, SERVED
from fgmclip.bench.cost.datasets import DATASETS, for_dataset
from fgmclip.bench.cost.intervals import LEAST_ROUNDS, RESAMPLES, interval, paired
from fgmclip.bench.cost.peers.ablations import ablations
from fgmclip.bench.cost.race import Round
from fgmclip.bench.cost.report import Entry, Latency, Ratio
from fgmclip.spec import ModelSpec

HALF_WIDTH = 0.10
"""What the interval of a ratio may reach to each side, relative to the ratio."""

_MARGIN = 0.97
"""Of that, where a run looks whether it may end: it looks with fewer resamples than it reports."""


def latency_of(rounds: Sequence[Round], key: str) -> Latency | None:
    """Return the times of one competitor; None if it took too few turns for an interval."""
    turns = [turns[key] for turns in rounds if key in turns]
    if len(turns) < LEAST_ROUNDS:
        return None
    calls = np.concatenate([turn.milliseconds for turn in turns])
    p50, p90, p99 = (float(value) for value in np.percentile(calls, (50, 90, 99)))
    within = interval([float(np.median(turn.milliseconds)) for turn in turns])
    return Latency(
        p50=p50,
        p90=p90,
        p99=p99 if len(calls) >= 100 else float(calls.max()),
        low=min(p50, within.low),
        high=max(p50, within.high),
        repeats=len(calls),
        rounds=len(turns),
        disturbed=sum(turn.disturbed for turn in turns) / len(turns),
    )


def ratios_of(
    rounds: Sequence[Round], *, without: Collection[str] = (), resamples: int = RESAMPLES
) -> tuple[Ratio, ...]:
    """Return how everything compares with eager PyTorch and with what we serve.

    Args:
        rounds: Of the race; two competitors are compared over those that they shared.
        without: Keys of competitors that are not compared.
        resamples: How often rounds are drawn again for the intervals.
    """
    keys = [key for key in dict.fromkeys(chain(*rounds)) if key not in without]
    pairs = [(EAGER, key) for key in keys if key != EAGER]
    pairs += [(key, SERVED) for key in keys if key not in (EAGER, SERVED)]
    ratios = []
    for longer, shorter in pairs:
        shared = [turns for turns in rounds if longer in turns and shorter in turns]
        if len(shared) >= LEAST_ROUNDS:
            medians = (
                [float(np.median(turns[key].milliseconds)) for turns in shared]
                for key in (longer, shorter)
            )
            found = interval(paired(*medians), resamples=resamples)
            ratios.append(Ratio(longer, shorter, found.value, found.low, found.high, len(shared)))
    return tuple(ratios)


def settled(ratios: Sequence[Ratio]) -> bool:
    """Return whether every ratio is known well enough for a run to end."""
    widest = _MARGIN * HALF_WIDTH
    return all((ratio.high - ratio.low) / 2 <= widest * ratio.value for ratio in ratios)


def timed_entries(
    entries: Sequence[Entry], rounds: Sequence[Round], failed: Mapping[str, str]
) -> list[Entry]:
    """Return the entries with their times, or with why they have none.

    Args:
        entries: As they entered.
        rounds: Of the race.
        failed: Why some could not run, by key.
    """
    done = []
    for entry in entries:
        if entry.key in failed:
            done.append(replace(entry, latency=None, why=failed[entry.key]))
            continue
        latency = latency_of(rounds, entry.key)
        why = entry.why or ("" if latency else f"ran in fewer than {LEAST_ROUNDS} rounds")
        done.append(replace(entry, latency=latency, why=why))
    return done


def with_datasets(
    entries: Sequence[Entry], spec: ModelSpec, *, trained_on: str = ""
) -> tuple[Entry, ...]:
    """Return the entries and, for FGM-CLIP and its ablations, a row for each data set as well.

    Args:
        entries: Of the common clip.
        spec: Of the model.
        trained_on: Key of the data set that an epoch of training was timed on: no other's row has
            that time.
    """
    ours = [entry for entry in entries if entry.key == SERVED or entry.group == "ablation"]
    changed = {item.key: item.spec for item in ablations(spec)}
    rows = []
    for dataset in DATASETS.values():
        for entry in ours:
            row = for_dataset(entry, changed.get(entry.key, spec), dataset)
            trained = dataset.key == trained_on
            rows.append(row if trained else replace(row, training_seconds=None))
    return (*entries, *rows)
