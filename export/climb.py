"""Climbing the ladder: for each submodule the fastest engine that proved itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fgmclip.export.errors import GateError
from fgmclip.export.gate import (
    GateReport,
    Likeness,
    Thresholds,
    Verdict,
    compare_answers,
    likeness,
)
from fgmclip.export.ladder.bf16 import bf16_candidates
from fgmclip.export.ladder.candidate import RUNGS, Candidate, Precision, Rung
from fgmclip.export.ladder.fp32 import fp32_candidates
from fgmclip.export.ladder.int8 import calibrate, int8_candidates, quantize
from fgmclip.export.ladder.sensitive import sensitive_nodes
from fgmclip.export.names import Part
from fgmclip.export.recording import Recording
from fgmclip.serve.runtimes import Runtime, open_runtime

Array = NDArray[np.float32]
Report = Callable[[str], None]

ROUNDS = (3, 15)
"""Fewest and most timed runs of each engine; engines take turns."""

TIMING_SECONDS = 4.0
"""About how long the engines of one submodule are timed."""


@dataclass(frozen=True, slots=True)
class Tried:
    """A candidate that was run on the gate's clips."""

    candidate: Candidate
    like: Likeness
    milliseconds: float
    reason: str


@dataclass(frozen=True, slots=True)
class Climbed:
    """What the release is to serve, and why.

    Attributes:
        chosen: Engine of each submodule.
        report: What the gate saw.
    """

    chosen: dict[Part, Candidate]
    report: GateReport


class Ladder:
    """The rungs of one model for CPUs, judged on clips."""

    def __init__(
        self,
        calibration: Recording,
        judged: Recording,
        *,
        thresholds: Thresholds,
        classify: Callable[[Array], Array],
        names: tuple[str, ...],
        trained: bool,
        folder: Path,
        report: Report,
    ) -> None:
        """Hold what every submodule is judged by.

        Args:
            calibration: PyTorch on the clips that scales come from.
            judged: PyTorch on the gate's clips.
            thresholds: What engines must reach.
            classify: EMBEDDING [B,H] to LOGITS [B,C], as the server computes it.
            names: Of the classes.
            trained: Whether answers mean something.
            folder: Where graphs of higher rungs are written.
            report: Called with what is done next.
        """
        self._calibration = calibration
        self._judged = judged
        self._thresholds = thresholds
        self._classify = classify
        self._names = names
        self._trained = trained
        self._folder = folder
        self._report = report

    def climb(self, graphs: Mapping[Part, Path], asked: Precision, source: str) -> Climbed:
        """Choose an engine for each submodule.

        Args:
            graphs: The fp32 graphs, which were held to PyTorch.
            asked: A rung for all submodules, or `auto`.
            source: Where the clips are from, for the report.

        Raises:
            GateError: A submodule or the chain does not pass on the rung that was asked for.
        """
        rungs = RUNGS if asked == "auto" else tuple(dict.fromkeys(("fp32", asked)))
        tried = {part: self.try_part(part, graph, rungs) for part, graph in graphs.items()}
        faults = [fault for part, items in tried.items() if (fault := _fault(part, items, asked))]
        if faults:
            raise GateError(f"{'; '.join(faults)}; nothing was published", _verdicts(tried, {}))
        chosen = {part: _fastest(items, asked) for part, items in tried.items()}
        chains: list[Verdict] = []
        while not chains or chains[-1].reason:
            self._report("chain " + _rungs(chosen))
            chains.append(self._chain(chosen))
            if chains[-1].reason:
                lower = self._step_down(tried, chosen) if asked == "auto" else None
                if lower is None:
                    raise GateError(
                        f"chain: {chains[-1].reason}; nothing was published",
                        [*_verdicts(tried, {}), *chains],
                    )
                chosen = lower
        report = GateReport(
            clips=len(self._judged.clips.pixels),
            frames=len(self._judged.clips.pixels) * self._judged.frames,
            calibration=source,
            trained=self._trained,
            thresholds=self._thresholds,
            pytorch_milliseconds=self._judged.milliseconds,
            verdicts=(
                *_verdicts(tried, chosen),
                *chains[:-1],
                chains[-1].replace(taken=True),
            ),
        )
        return Climbed({part: item.candidate for part, item in chosen.items()}, report)

    def _step_down(
        self, tried: Mapping[Part, list[Tried]], chosen: Mapping[Part, Tried]
    ) -> dict[Part, Tried] | None:
        """Return the choice with the least faithful submodule a rung lower, or None."""
        high = [part for part, item in chosen.items() if item.candidate.rung != "fp32"]
        if not high:
            return None
        weakest = min(high, key=lambda part: chosen[part].like.cosine)
        rung = RUNGS.index(chosen[weakest].candidate.rung)
        below = [item for item in tried[weakest] if RUNGS.index(item.candidate.rung) < rung]
        return {**chosen, weakest: _fastest(below, "auto")}

    def try_part(self, part: Part, graph: Path, rungs: tuple[Rung, ...]) -> list[Tried]:
        """Run every engine of a submodule on the gate's clips, then time them in turn."""
        candidates = fp32_candidates(graph)
        if "bf16" in rungs:
            candidates += bf16_candidates(graph)
        if "int8" in rungs:
            candidates += self._int8(part, graph)
        batches = self._judged.batches(part)
        runtimes: list[Runtime] = []
        likes: list[Likeness] = []
        for item in candidates:
            self._report(f"{part}: {item.rung} in {item.runtime}")
            runtimes.append(open_runtime(item.runtime, item.graph, item.options))
            likes.append(likeness(self._judged.outputs[part], _outputs(runtimes[-1], batches)))
        self._report(f"{part}: time {len(candidates)} engines")
        times = _interleaved(runtimes, batches[0])
        return _judge(candidates, likes, times, self._thresholds)

    def _int8(self, part: Part, graph: Path) -> list[Candidate]:
        self._report(f"{part}: calibrate int8")
        batches = self._calibration.batches(part)
        calibrated = calibrate(graph, batches)
        path = self._folder / f"{part}.int8.onnx"

        def loss(nodes: Sequence[str]) -> float:
            self._report(f"{part}: {len(nodes)} nodes in int8")
            quantize(calibrated, path, nodes=nodes)
            came = _outputs(open_runtime("openvino", path, {"precision": "f32"}), batches)
            return likeness(self._calibration.outputs[part], came).loss(self._thresholds)

        kept = sensitive_nodes(calibrated.nodes, loss)
        nodes = [node for node in calibrated.nodes if node not in kept]
        quantize(calibrated, path, nodes=nodes)
        return int8_candidates(path, kept)

    def _chain(self, chosen: Mapping[Part, Tried]) -> Verdict:
        """Run the gate's clips through the chosen engines as the server chains them."""
        runtimes = {
            part: open_runtime(item.candidate.runtime, item.candidate.graph, item.candidate.options)
            for part, item in chosen.items()
        }
        encoders = {part: self._judged.batches(part) for part in runtimes if part != "fusion_head"}
        windows = tuple(self._judged.inputs["fusion_head"])
        embeddings, times = [], []
        for index in range(len(self._judged.clips.pixels)):
            start = time.perf_counter()
            features = [
                _output(runtimes[part], batches[index])[None] for part, batches in encoders.items()
            ]
            window = dict(zip(windows, features, strict=True))
            embeddings.append(_output(runtimes["fusion_head"], window))
            times.append(time.perf_counter() - start)
        came = np.concatenate(embeddings)
        like = likeness(self._judged.outputs["fusion_head"], came)
        reason = like.fault(self._thresholds)
        agreement = drift = recall = None
        if like.finite:
            answers = compare_answers(
                self._judged.logits, self._classify(came), self._judged.clips.labels, self._names
            )
            agreement, drift, recall = answers.agreement, answers.drift, answers.recall_change
            if not reason and self._trained and agreement < self._thresholds.agreement:
                expected = f"{self._thresholds.agreement:.1%}"
                reason = f"top-1 agreement {agreement:.1%}, expected {expected}"
        return Verdict(
            part="chain",
            rung=_rungs(chosen),
            runtime=" ".join(dict.fromkeys(item.candidate.runtime for item in chosen.values())),
            milliseconds=1000 * float(np.median(times)),
            size=sum(item.candidate.graph.stat().st_size for item in chosen.values()),
            finite=like.finite,
            max_abs=like.max_abs,
            cosine=like.cosine,
            identity=like.identity,
            agreement=agreement,
            drift=drift,
            recall_change=recall,
            reason=reason,
        )


def _output(runtime: Runtime, inputs: Mapping[str, Array]) -> Array:
    (output,) = runtime.run(inputs).values()
    return output


def _outputs(runtime: Runtime, batches: Sequence[Mapping[str, Array]]) -> Array:
    return np.concatenate([_output(runtime, batch) for batch in batches])


def _interleaved(runtimes: list[Runtime], inputs: Mapping[str, Array]) -> list[float]:
    """Return the median milliseconds of each runtime; they take turns, so noise meets all alike."""
    for runtime in runtimes:
        runtime.run(inputs)
    times: list[list[float]] = [[] for _ in runtimes]
    fewest, most = ROUNDS
    begin = time.perf_counter()
    for done in range(most):
        if done >= fewest and time.perf_counter() - begin > TIMING_SECONDS:
            break
        for runtime, taken in zip(runtimes, times, strict=True):
            start = time.perf_counter()
            runtime.run(inputs)
            taken.append(time.perf_counter() - start)
    return [1000 * float(np.median(taken)) for taken in times]


def _judge(
    candidates: list[Candidate],
    likes: list[Likeness],
    times: list[float],
    thresholds: Thresholds,
) -> list[Tried]:
    """Refuse what is not close enough, or not faster than the best of the rungs below it."""
    tried: list[Tried] = []
    for item, like, milliseconds in zip(candidates, likes, times, strict=True):
        reason = like.fault(thresholds)
        below = [
            other
            for other in tried
            if not other.reason and RUNGS.index(other.candidate.rung) < RUNGS.index(item.rung)
        ]
        if below and not reason:
            best = min(below, key=lambda other: other.milliseconds)
            if milliseconds * thresholds.speedup >= best.milliseconds:
                reason = (
                    f"{milliseconds:.2f} ms, not faster than {best.candidate.rung}'s "
                    f"{best.milliseconds:.2f} ms"
                )
        tried.append(Tried(item, like, milliseconds, reason))
    return tried


def _fault(part: Part, tried: list[Tried], asked: Precision) -> str:
    """Return why nothing of what was asked for can be taken; empty if something can."""
    wanted = [item for item in tried if asked in ("auto", item.candidate.rung)]
    if not wanted:
        return f"{part}: this CPU has no instructions for {asked}; ask for auto"
    if any(not item.reason for item in wanted):
        return ""
    reasons = "; ".join(
        f"{item.candidate.rung} in {item.candidate.runtime}: {item.reason}" for item in wanted
    )
    return f"{part} refused: {reasons}"


def _fastest(tried: list[Tried], asked: Precision) -> Tried:
    """Return the fastest that passes, of the rung that was asked for."""
    passed = [item for item in tried if not item.reason and asked in ("auto", item.candidate.rung)]
    return min(passed, key=lambda item: item.milliseconds)


def _rungs(chosen: Mapping[Part, Tried]) -> str:
    return "/".join(item.candidate.rung for item in chosen.values())


def _verdicts(tried: Mapping[Part, list[Tried]], chosen: Mapping[Part, Tried]) -> list[Verdict]:
    return [
        Verdict(
            part=part,
            rung=item.candidate.rung,
            runtime=item.candidate.runtime,
            options=dict(item.candidate.options),
            kept=item.candidate.kept,
            milliseconds=item.milliseconds,
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
