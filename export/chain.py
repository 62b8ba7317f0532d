"""The chosen engines as the server chains them: their answers, and their speed against PyTorch."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fgmclip.export.eager import EagerProcess
from fgmclip.export.gate import Eager, Likeness, Thresholds, Verdict, compare_answers, likeness
from fgmclip.export.ladder.candidate import Candidate
from fgmclip.export.names import Part
from fgmclip.export.recording import Recording
from fgmclip.export.trial import open_judge, output_of

Array = NDArray[np.float32]

TURNS = 7
"""Clips that the chain and PyTorch run in turn."""


@dataclass(frozen=True, slots=True)
class Judge:
    """What a chain is judged by.

    Attributes:
        judged: PyTorch on the gate's clips.
        thresholds: What is asked.
        classify: EMBEDDING [B,H] to LOGITS [B,C], as the server computes it.
        names: Of the classes.
        trained: Whether answers mean something.
    """

    judged: Recording
    thresholds: Thresholds
    classify: Callable[[Array], Array]
    names: tuple[str, ...]
    trained: bool


class Chain:
    """An engine of each submodule, loaded."""

    def __init__(self, judge: Judge, chosen: Mapping[Part, Candidate]) -> None:
        """Load the engines."""
        self._judge = judge
        self._chosen = chosen
        self._runtimes = {part: open_judge(item) for part, item in chosen.items()}
        self._encoders = {
            part: judge.judged.batches(part) for part in chosen if part != "fusion_head"
        }
        self._windows = tuple(judge.judged.inputs["fusion_head"])

    @property
    def rungs(self) -> str:
        """Rung of each submodule, for example `int8/bf16/fp32`."""
        return "/".join(item.rung for item in self._chosen.values())

    def run(self, index: int) -> Array:
        """Return the EMBEDDING [1,H] of one of the gate's clips."""
        features = [
            output_of(self._runtimes[part], batches[index])[None]
            for part, batches in self._encoders.items()
        ]
        window = dict(zip(self._windows, features, strict=True))
        return output_of(self._runtimes["fusion_head"], window)

    def verdict(self) -> Verdict:
        """Run all of the gate's clips and hold the answers to PyTorch's."""
        judge = self._judge
        came = np.concatenate([self.run(index) for index in range(len(judge.judged.clips.pixels))])
        like = likeness(judge.judged.outputs["fusion_head"], came)
        reason = like.fault(judge.thresholds)
        agreement = drift = recall = None
        if like.finite:
            answers = compare_answers(
                judge.judged.logits, judge.classify(came), judge.judged.clips.labels, judge.names
            )
            agreement, drift, recall = answers.agreement, answers.drift, answers.recall_change
            if not reason and judge.trained and agreement < judge.thresholds.agreement:
                expected = f"{judge.thresholds.agreement:.1%}"
                reason = f"top-1 agreement {agreement:.1%}, expected {expected}"
        return _verdict(self._chosen, self.rungs, like, (agreement, drift, recall), reason)

    def against(self, eager: EagerProcess) -> tuple[float, Eager]:
        """Take turns with PyTorch on single clips.

        Returns:
            Median milliseconds of the chain, and how PyTorch compares.
        """
        own: list[float] = []
        other: list[float] = []
        self.run(0)
        for _ in range(TURNS):
            other.append(eager.milliseconds())
            start = time.perf_counter()
            self.run(0)
            own.append(1000 * (time.perf_counter() - start))
        low, median, high = np.percentile(np.divide(other, own), (25, 50, 75))
        return float(np.median(own)), Eager(
            milliseconds=float(np.median(other)),
            speedup=float(median),
            low=float(low),
            high=float(high),
        )


def _verdict(
    chosen: Mapping[Part, Candidate],
    rungs: str,
    like: Likeness,
    answers: Sequence[float | None],
    reason: str,
) -> Verdict:
    agreement, drift, recall = answers
    return Verdict(
        part="chain",
        rung=rungs,
        runtime=" ".join(dict.fromkeys(item.runtime for item in chosen.values())),
        size=sum(item.graph.stat().st_size for item in chosen.values()),
        finite=like.finite,
        max_abs=like.max_abs,
        cosine=like.cosine,
        identity=like.identity,
        agreement=agreement,
        drift=drift,
        recall_change=recall,
        reason=reason,
    )
