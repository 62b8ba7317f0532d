"""Engines of a submodule against each other and against what the machine's products could do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from rich.table import Table

from fgmclip.bench.bars import Bar
from fgmclip.bench.engine_lineup import Lineup
from fgmclip.bench.matmul_rates import MatmulChain, Precision
from fgmclip.bench.racing import Ratio, Timing, race
from fgmclip.export.graphs import part_inputs
from fgmclip.spec import ModelSpec

BASELINE = "torch fp32"
"""What the others are compared with."""

PATIENCE = 1
"""As `race` has it; a round takes half a minute where eager torch takes part."""

WINDOW_SHARE, SINGLE_SHARE = 80.0, 65.0
"""Percent of the int8 rate that the image encoder must reach at batch T and at batch
1."""


@dataclass(frozen=True, slots=True)
class Row:
    """One engine at one batch size.

    Attributes:
        part: The submodule.
        batch: Rows at once.
        engine: Its runtime and precision.
        rate: The machine's rate that it is held against.
        operations: Of one run, G(FL)OP; a multiply-add is two.
        timing: Of one run.
        speedup: Over `BASELINE`.
        share: Of the machine's rate that is reached, 1 being all of it.
    """

    part: str
    batch: int
    engine: str
    rate: Precision
    operations: float
    timing: Timing
    speedup: Ratio
    share: Ratio

    @property
    def giga_per_second(self) -> float:
        """G(FL)OP/s."""
        return self.operations / self.timing.median * 1e3

    def to_json(self) -> dict[str, object]:
        """Return all fields and the rate."""
        return {
            "part": self.part,
            "batch": self.batch,
            "engine": self.engine,
            **self.timing.to_json(),
            "giga_operations": self.operations,
            "giga_operations_per_second": self.giga_per_second,
            "held_against": self.rate,
            "speedup": self.speedup.to_json(),
            "share": self.share.to_json(),
        }


@dataclass(frozen=True, slots=True)
class Rate:
    """How fast the machine multiplied beside one submodule's engines.

    Attributes:
        precision: Of the products.
        part: The submodule whose engines took turns with it.
        batch: Their batch size.
        operations: Of one run, G(FL)OP.
        timing: Of one run.
    """

    precision: Precision
    part: str
    batch: int
    operations: float
    timing: Timing

    @property
    def giga_per_second(self) -> float:
        """G(FL)OP/s."""
        return self.operations / self.timing.median * 1e3

    def to_json(self) -> dict[str, object]:
        """Return all fields and the rate."""
        return {
            "precision": self.precision,
            "beside": f"{self.part}, batch {self.batch}",
            **self.timing.to_json(),
            "giga_operations": self.operations,
            "giga_operations_per_second": self.giga_per_second,
        }


def race_engines(
    lineup: Lineup,
    chains: Mapping[Precision, MatmulChain],
    spec: ModelSpec,
    *,
    batch: int,
    rounds: int,
    calls: int,
    tick: Callable[[], None],
) -> tuple[list[Row], list[Rate]]:
    """Let the engines of a submodule and the machine's products take turns.

    Args:
        lineup: The engines.
        chains: Products by precision.
        spec: The model's.
        batch: Rows at once.
        rounds: Turns of each.
        calls: Calls of a turn that count.
        tick: Called after each round.
    """
    inputs = part_inputs(spec, lineup.part, batch, seed=0)
    competitors: dict[str, Callable[[int], object]] = {
        engine.name: lambda number, run=engine.run: run(inputs)  # type: ignore[misc]
        for engine in lineup.engines.values()
    }
    operations = 2 * lineup.multiply_adds * batch / 1e9
    # As much work as the engine's: what takes as long is disturbed as often.
    repeats = {
        name: max(1, round(operations * 1e9 / chain.operations)) for name, chain in chains.items()
    }
    competitors |= {
        f"products {name}": partial(chain.repeat, repeats[name]) for name, chain in chains.items()
    }
    times = race(competitors, rounds=rounds, calls=calls, patience=PATIENCE, tick=tick)
    rates = [
        Rate(
            name,
            lineup.part,
            batch,
            repeats[name] * chain.operations / 1e9,
            times[f"products {name}"],
        )
        for name, chain in chains.items()
    ]
    products = {rate.precision: rate for rate in rates}
    rows = [
        Row(
            lineup.part,
            batch,
            engine.name,
            engine.rate,
            operations,
            times[engine.name],
            Ratio.of(times[BASELINE], times[engine.name]),
            share_of(operations, times[engine.name], products[engine.rate]),
        )
        for engine in lineup.engines.values()
    ]
    return rows, rates


def share_of(operations: float, timing: Timing, rate: Rate) -> Ratio:
    """Return which share of a rate an engine reached, round by round.

    Args:
        operations: Of one run of the engine, G(FL)OP.
        timing: Of the engine.
        rate: The machine's, from the same race.
    """
    ratio = Ratio.of(rate.timing, timing)
    scale = operations / rate.operations
    return Ratio(ratio.median * scale, ratio.low * scale, ratio.high * scale, ratio.fastest * scale)


def share_bars(rows: Sequence[Row], part: str, window: int) -> list[Bar]:
    """Return what the fastest int8 engine of the image encoder must reach.

    Args:
        rows: Of all engines.
        part: The image encoder's name.
        window: T, the larger batch.
    """
    bars = []
    for batch, percent in ((window, WINDOW_SHARE), (1, SINGLE_SHARE)):
        int8 = [row for row in rows if (row.part, row.batch, row.rate) == (part, batch, "int8")]
        if int8:
            best = max(int8, key=lambda row: row.share.median)
            low, high, fastest = (
                100 * value for value in (best.share.low, best.share.high, best.share.fastest)
            )
            bars.append(
                Bar(
                    f"{part}, batch {batch}: share of the int8 rate",
                    percent,
                    100 * best.share.median,
                    at_least=True,
                    unit=" %",
                    detail=f"{best.engine}, quartiles {low:.0f} to {high:.0f}, "
                    f"fastest calls {fastest:.0f} %",
                )
            )
    return bars


def engine_table(rows: Sequence[Row], model: str) -> Table:
    """Return milliseconds, rates and shares of every engine."""
    table = Table(title=f"{model}: engines, two threads", title_justify="left")
    table.add_column("submodule, batch", no_wrap=True)
    table.add_column("engine", no_wrap=True)
    for column in ("ms", "fastest", f"faster than {BASELINE}", "G(FL)OP/s", "of the rate of"):
        table.add_column(column, justify="right")
    before = None
    for row in rows:
        group = f"{row.part}, {row.batch}"
        if before not in (None, group):
            table.add_section()
        table.add_row(
            "" if group == before else group,
            row.engine,
            f"{row.timing.median:.2f}",
            f"{row.timing.fastest:.2f}",
            str(row.speedup),
            f"{row.giga_per_second:.0f}",
            f"{row.share.median:.0%} {row.rate}",
        )
        before = group
    return table


def rate_table(rates: Sequence[Rate]) -> Table:
    """Return the machine's rates, beside the engines that they were measured among."""
    table = Table(title="Matrix products of this machine, G(FL)OP/s", title_justify="left")
    table.add_column("measured beside", no_wrap=True)
    precisions = list(dict.fromkeys(rate.precision for rate in rates))
    for precision in precisions:
        table.add_column(precision, justify="right")
    for part, batch in dict.fromkeys((rate.part, rate.batch) for rate in rates):
        mine = {rate.precision: rate for rate in rates if (rate.part, rate.batch) == (part, batch)}
        cells = (f"{mine[precision].giga_per_second:.0f}" for precision in precisions)
        table.add_row(f"{part}, {batch}", *cells)
    return table
