"""The gate: how close an engine is to PyTorch, what it costs, and whether that is good enough.

Raw cosine says nothing here: embeddings of different frames already reach 0.97. So the mean over
all frames is subtracted first, and each frame must be nearer to its own embedding than to any
other's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fgmclip.serve.steps.classify import softmax
from fgmclip.spec.base import FrozenSpec

Array = NDArray[np.float32]

_SAME = 1e-4
"""Rows of PyTorch's own output whose squared distance, relative to their spread, is below this are
one picture shown twice, and taking one for the other is no mistake: a hundredth of the usual
distance. Real videos repeat frames (UT-Interaction: 6e-6 through a ViT-B-32, other neighbours in
time 4e-4 and more), and then bf16 of any model would be refused for one pair in 64."""

_LEAST_ALLOWED = 1e-6
"""A threshold of 1 allows for rounding."""


class Thresholds(FrozenSpec):
    """What an engine must reach.

    Attributes:
        cosine: Median of the mean-centred cosine to PyTorch.
        identity: Part of the rows that are nearest to their own.
        agreement: Part of the clips that get PyTorch's answer; asked of trained weights alone.
        speedup: Time of the best of the rungs below over the engine's own, over a clip's rows and
            one row, must be above this: near ties go to the more exact rung.
    """

    cosine: float = Field(default=0.98, ge=-1, le=1)
    identity: float = Field(default=0.99, ge=0, le=1)
    agreement: float = Field(default=0.99, ge=0, le=1)
    speedup: float = Field(default=1.05, ge=0)


class Verdict(FrozenSpec):
    """One engine of one submodule, or the chain, as the gate saw it.

    Attributes:
        part: The submodule, or `chain`.
        rung: Of the ladder; for the chain those of its parts.
        runtime: What ran it.
        options: What the runtime was told.
        kept: Nodes that stayed in higher precision.
        milliseconds: Median time: a clip's T rows for an encoder, one window for the head, one clip
            for the chain; None where it was not timed.
        single_milliseconds: Median time of one row, a new frame of a stream; None where it was not
            timed.
        size: Of the engine's file, bytes.
        finite: Whether every value was a number.
        max_abs: Largest difference from PyTorch; 0 if not finite.
        cosine: Median centred cosine; 0 if not finite.
        identity: Part of the rows that are nearest to their own.
        agreement: Part of the clips that get PyTorch's answer; None for a submodule.
        drift: Largest change of a probability; None for a submodule.
        recall_change: Largest change of a class's recall; None without known labels.
        reason: Why it was refused; empty if it passes.
        taken: Whether the release serves it.
    """

    part: str
    rung: str
    runtime: str
    options: dict[str, str] = Field(default_factory=dict)
    kept: tuple[str, ...] = ()
    milliseconds: float | None = None
    single_milliseconds: float | None = None
    size: int
    finite: bool
    max_abs: float
    cosine: float
    identity: float
    agreement: float | None = None
    drift: float | None = None
    recall_change: float | None = None
    reason: str = ""
    taken: bool = False

    @property
    def engine(self) -> str:
        """Rung, runtime and options in words, for example `int8 in openvino f32`."""
        return " ".join((self.rung, "in", self.runtime, *self.options.values()))

    @property
    def answer(self) -> str:
        """`taken`, `passes`, or why it was refused."""
        if self.reason:
            return f"refused: {self.reason}"
        return "taken" if self.taken else "passes"


class Tuned(FrozenSpec):
    """One way of using the cores, as the search saw it.

    Attributes:
        part: The submodule.
        options: Of its runtime.
        milliseconds: Median time of a clip's rows.
        single_milliseconds: Median time of one row.
        faster: Than the way tried first, turn by turn, over both.
        taken: Whether the release uses it.
    """

    part: str
    options: dict[str, str] = Field(default_factory=dict)
    milliseconds: float
    single_milliseconds: float
    faster: float
    taken: bool = False


class Eager(FrozenSpec):
    """The chosen chain against eager PyTorch fp32, which took turns with it.

    Attributes:
        milliseconds: Median time of a clip in PyTorch.
        speedup: How many times faster the chain is: median over turns.
        low: Lower quartile of the turns.
        high: Upper quartile of the turns.
    """

    milliseconds: float
    speedup: float
    low: float
    high: float


class GateReport(FrozenSpec):
    """All that the gate saw of a release.

    Attributes:
        clips: How many clips judged.
        frames: How many frames they have.
        calibration: Where the clips are from.
        trained: Whether answers were held to PyTorch's, not only embeddings.
        emulated: Whether the engines run elsewhere, and graphs that round as they will were judged.
        thresholds: What was asked.
        eager: Speed against PyTorch; None where nothing was timed.
        verdicts: By submodule and rung, the chain last.
        tuning: Ways of using the cores that were tried.
    """

    clips: int
    frames: int
    calibration: str
    trained: bool
    emulated: bool = False
    thresholds: Thresholds
    eager: Eager | None = None
    verdicts: tuple[Verdict, ...]
    tuning: tuple[Tuned, ...] = ()


@dataclass(frozen=True, slots=True)
class Likeness:
    """How far rows are from PyTorch's; the fields are `Verdict`'s."""

    finite: bool
    max_abs: float
    cosine: float
    identity: float

    def loss(self, thresholds: Thresholds) -> float:
        """Return how much of what is allowed this uses up; above 1 it is not good enough."""
        if not self.finite:
            return float("inf")
        allowed = np.maximum([1 - thresholds.cosine, 1 - thresholds.identity], _LEAST_ALLOWED)
        return float(np.max([1 - self.cosine, 1 - self.identity] / allowed))

    def fault(self, thresholds: Thresholds) -> str:
        """Return why this is not good enough; empty if it is."""
        if not self.finite:
            return "NaN or infinite values"
        if self.cosine < thresholds.cosine:
            return f"centred cosine {self.cosine:.4f}, expected {thresholds.cosine:g}"
        if self.identity < thresholds.identity:
            return f"identity {self.identity:.2%}, expected {thresholds.identity:.2%}"
        return ""


def likeness(expected: Array, came: Array) -> Likeness:
    """Compare rows.

    Args:
        expected: PyTorch's output [N,D].
        came: The engine's output [N,D].
    """
    if not np.isfinite(came).all():
        return Likeness(False, 0.0, 0.0, 0.0)
    mean = expected.mean(axis=0, dtype=np.float64)
    own, other = expected - mean, came - mean
    lengths = np.linalg.norm(own, axis=1) * np.linalg.norm(other, axis=1)
    cosine = (own * other).sum(axis=1) / np.maximum(lengths, np.finfo(np.float64).tiny)
    distance = _squared_distances(other, own)
    twins = _squared_distances(own, own) <= _SAME * (own**2).sum(axis=1).mean()
    nearest = distance.argmin(axis=1)
    identity = twins[np.arange(len(own)), nearest] | (nearest == np.arange(len(own)))
    return Likeness(
        True,
        float(np.abs(expected - came).max()),
        float(np.median(cosine)),
        float(identity.mean()),
    )


@dataclass(frozen=True, slots=True)
class Answers:
    """How far answers are from PyTorch's; the fields are `Verdict`'s."""

    agreement: float
    drift: float
    recall_change: float | None


def compare_answers(
    expected: Array, came: Array, truth: Sequence[str], names: Sequence[str]
) -> Answers:
    """Compare LOGITS.

    Args:
        expected: PyTorch's [B,C].
        came: The chain's [B,C].
        truth: Label of each clip.
        names: Name of each class.
    """
    theirs, ours = expected.argmax(axis=1), came.argmax(axis=1)
    change: float | None = None
    if set(truth) <= set(names):
        right = np.array([names.index(label) for label in truth])
        gained = (ours == right).astype(np.float64) - (theirs == right)
        change = max(abs(float(gained[right == label].mean())) for label in np.unique(right))
    return Answers(
        float((theirs == ours).mean()),
        float(np.abs(softmax(expected) - softmax(came)).max()),
        change,
    )


def _squared_distances(
    left: NDArray[np.float64], right: NDArray[np.float64]
) -> NDArray[np.float64]:
    squares = (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1)[None]
    distances: NDArray[np.float64] = squares - 2 * left @ right.T
    return distances
