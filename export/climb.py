"""Climbing the ladder: for each submodule the fastest engine that proved itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fgmclip.export.chain import Chain, Judge
from fgmclip.export.eager import EagerProcess
from fgmclip.export.errors import GateError
from fgmclip.export.gate import GateReport, Tuned, Verdict
from fgmclip.export.ladder.candidate import RUNGS, Candidate, Precision, Rung
from fgmclip.export.ladder.rungs import Rungs
from fgmclip.export.names import Part
from fgmclip.export.recording import Recording
from fgmclip.export.trial import Tried, try_candidates
from fgmclip.export.tuning import tune

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Climbed:
    """What the release is to serve, and why.

    Attributes:
        chosen: Engine of each submodule.
        report: What the gate saw.
        judged: PyTorch on the gate's clips.
    """

    chosen: dict[Part, Candidate]
    report: GateReport
    judged: Recording


class Ladder:
    """The rungs of one model, judged on clips."""

    def __init__(self, rungs: Rungs, judge: Judge, *, source: str, report: Report) -> None:
        """Hold what every submodule is judged by.

        Args:
            rungs: Makes the candidates.
            judge: What they are judged by.
            source: Where the clips are from, for the report.
            report: Called with what is done next.
        """
        self._rungs = rungs
        self._judge = judge
        self._source = source
        self._report = report

    def climb(
        self, graphs: Mapping[Part, Path], asked: Precision, eager: EagerProcess | None
    ) -> Climbed:
        """Choose an engine for each submodule.

        Args:
            graphs: The fp32 graphs, which were held to PyTorch.
            asked: A rung for all submodules, or `auto`.
            eager: PyTorch, to take turns with the chain; None where nothing is to be timed.

        Raises:
            GateError: A submodule or the chain does not pass on the rung that was asked for.
        """
        wanted = RUNGS if asked == "auto" else tuple(dict.fromkeys(("fp32", asked)))
        tried = {part: self.try_part(part, graph, wanted) for part, graph in graphs.items()}
        faults = [fault for part, items in tried.items() if (fault := _fault(part, items, asked))]
        if faults:
            raise GateError(f"{'; '.join(faults)}; nothing was published", _verdicts(tried, {}))
        chosen, chains = self._chain(tried, asked)
        tuning: list[Tuned] = []
        served, comparison = _candidates(chosen), None
        if eager is not None:
            for part, item in chosen.items():
                inputs = self._judge.judged.batches(part)[0]
                served[part], ways = tune(part, item, inputs, self._report)
                tuning += ways
            self._report("chain and PyTorch in turn")
            milliseconds, comparison = Chain(self._judge, served).against(eager)
            chains[-1] = chains[-1].replace(milliseconds=milliseconds)
        report = GateReport(
            clips=len(self._judge.judged.clips.pixels),
            frames=len(self._judge.judged.clips.pixels) * self._judge.judged.frames,
            calibration=self._source,
            trained=self._judge.trained,
            emulated=any(item.emulation is not None for item in served.values()),
            thresholds=self._judge.thresholds,
            eager=comparison,
            verdicts=(
                *_verdicts(tried, chosen),
                *chains[:-1],
                chains[-1].replace(taken=True),
            ),
            tuning=tuple(tuning),
        )
        return Climbed(served, report, self._judge.judged)

    def try_part(self, part: Part, graph: Path, rungs: tuple[Rung, ...]) -> list[Tried]:
        """Run every engine of a submodule on the gate's clips."""
        return try_candidates(
            self._rungs(part, graph, rungs),
            self._judge.judged.batches(part),
            self._judge.judged.outputs[part],
            self._judge.thresholds,
            lambda what: self._report(f"{part}: {what}"),
        )

    def _chain(
        self, tried: Mapping[Part, list[Tried]], asked: Precision
    ) -> tuple[dict[Part, Tried], list[Verdict]]:
        """Step down, least faithful submodule first, until the chain as a whole passes."""
        chosen = {part: _fastest(items, asked) for part, items in tried.items()}
        verdicts: list[Verdict] = []
        while True:
            chain = Chain(self._judge, _candidates(chosen))
            self._report(f"chain {chain.rungs}")
            verdicts.append(chain.verdict())
            if not verdicts[-1].reason:
                return chosen, verdicts
            lower = _step_down(tried, chosen) if asked == "auto" else None
            if lower is None:
                raise GateError(
                    f"chain: {verdicts[-1].reason}; nothing was published",
                    [*_verdicts(tried, {}), *verdicts],
                )
            chosen = lower


def _step_down(
    tried: Mapping[Part, list[Tried]], chosen: Mapping[Part, Tried]
) -> dict[Part, Tried] | None:
    """Return the choice with the least faithful submodule a rung lower, or None."""
    high = [part for part, item in chosen.items() if item.candidate.rung != "fp32"]
    if not high:
        return None
    weakest = min(high, key=lambda part: chosen[part].like.cosine)
    rung = RUNGS.index(chosen[weakest].candidate.rung)
    below = [item for item in tried[weakest] if RUNGS.index(item.candidate.rung) < rung]
    return {**chosen, weakest: _fastest(below, "auto")}


def _fault(part: Part, tried: list[Tried], asked: Precision) -> str:
    """Return why nothing of what was asked for can be taken; empty if something can."""
    wanted = [item for item in tried if asked in ("auto", item.candidate.rung)]
    if not wanted:
        return f"{part}: this CPU has no instructions for {asked}; ask for auto"
    if any(not item.reason for item in wanted):
        return ""
    reasons = "; ".join(f"{item.candidate.title}: {item.reason}" for item in wanted)
    return f"{part} refused: {reasons}"


def _fastest(tried: list[Tried], asked: Precision) -> Tried:
    """Return the fastest that passes, of the rung that was asked for."""
    passed = [item for item in tried if not item.reason and asked in ("auto", item.candidate.rung)]
    return min(passed, key=lambda item: item.cost)


def _candidates(chosen: Mapping[Part, Tried]) -> dict[Part, Candidate]:
    return {part: item.candidate for part, item in chosen.items()}


def _verdicts(tried: Mapping[Part, list[Tried]], chosen: Mapping[Part, Tried]) -> list[Verdict]:
    return [
        Verdict(
            part=part,
            rung=item.candidate.rung,
            runtime=item.candidate.runtime,
            options=dict(item.candidate.options),
            kept=item.candidate.kept,
            milliseconds=item.milliseconds,
            single_milliseconds=item.single_milliseconds,
            size=item.candidate.graph.stat().st_size,
            finite=item.like.finite,
            max_abs=item.like.max_abs,
            cosine=item.like.cosine,
            identity=item.like.identity,
            reason=item.reason,
            taken=item is chosen.get(part),
        )
        for part, items in tried.items()
        for item in items
    ]
