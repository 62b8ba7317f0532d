"""`Recipe`: a competitor before its graphs are made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

from fgmclip.bench.cost.competitor import Competitor, CompetitorError
from fgmclip.bench.cost.peers.graphs import Definition, Graph
from fgmclip.bench.cost.report import Entry, Group

Graphs = Mapping[Definition, Graph]


@dataclass(frozen=True, slots=True)
class Counted:
    """What a model consists of.

    Attributes:
        runs: How often each graph runs for one clip.
        idle: Parts that count as parameters and do not run.
    """

    runs: Mapping[Definition, int]
    idle: tuple[Definition, ...] = ()

    def entry(self, entry: Entry, graphs: Graphs) -> Entry:
        """Return the entry with its counts, or with why there are none."""
        whys = [graphs[one].why for one in (*self.runs, *self.idle) if graphs[one].why]
        if whys:
            return replace(entry, why=entry.why or whys[0])
        served = sum(graphs[one].parameters for one in self.runs)
        return replace(
            entry,
            served_parameters=served,
            parameters=served + sum(graphs[one].parameters for one in self.idle),
            multiply_adds=sum(graphs[one].multiply_adds * runs for one, runs in self.runs.items()),
        )


@dataclass(frozen=True, slots=True)
class Recipe:
    """A competitor before its graphs are made.

    Attributes:
        entry: Without counts.
        counted: What its counts are of.
        make: Returns it, given the entry with its counts and the graphs.
        quick: Whether it takes part in a quick run.
        needs: Graphs that it runs beside those that are counted.
    """

    entry: Entry
    counted: Counted
    make: Callable[[Entry, Graphs], Competitor]
    quick: bool
    needs: tuple[Definition, ...] = ()

    @property
    def definitions(self) -> tuple[Definition, ...]:
        """Everything that has to be made or counted first."""
        return (*self.counted.runs, *self.counted.idle, *self.needs)

    def competitor(self, graphs: Graphs) -> Competitor:
        """Return the competitor.

        Args:
            graphs: Of all `definitions`.
        """
        entry = self.counted.entry(self.entry, graphs)
        failed = next((graphs[one].why for one in self.needs if graphs[one].why), "")
        if entry.why or failed:
            return Absent(replace(entry, why=entry.why or failed))
        return self.make(entry, graphs)


@dataclass(frozen=True, slots=True)
class Absent:
    """A competitor that cannot run here; its entry says why."""

    entry: Entry

    def open(self) -> AbstractContextManager[Callable[[], float]]:
        """Refuse; see `Competitor`."""
        raise CompetitorError(self.entry.why)


def blank_entry(
    key: str,
    name: str,
    group: Group,
    clip: tuple[int, int, int],
    *,
    precision: str,
    includes: str,
    verdict: str = "",
    why: str = "",
) -> Entry:
    """Return an entry of the common clip that has neither counts nor times yet."""
    return Entry(
        key, name, group, None, clip, None, None, None, precision, verdict, includes, None, why
    )
