"""The protocol block: how a run measured, so that somebody else can measure the same."""

from __future__ import annotations

import os
from collections.abc import Sequence

from fgmclip.bench.cost.datasets import DATASETS
from fgmclip.bench.cost.intervals import BETWEEN_RUNS, RESAMPLES
from fgmclip.bench.cost.plan import Plan
from fgmclip.bench.cost.race import MOST_CALLS, QUIET, TRIES, TURN_MS, WAKE_MS, Round
from fgmclip.bench.cost.run import TOGETHER
from fgmclip.bench.machine import describe_machine
from fgmclip.spec import PRESETS


def settings(plan: Plan) -> dict[str, str]:
    """Return what is decided before the race, by name."""
    frames, height, width = plan.clip
    untrained = plan.model in PRESETS and plan.model != "demo"
    return {
        "model": plan.spec.name,
        "weights": "random, of which times do not depend; what is served has those of its release"
        if untrained
        else "trained",
        "release": f"r{plan.release}, {plan.model_tag}",
        "precision": plan.precision,
        "verdict": plan.verdict,
        "device": plan.device,
        "threads": str(plan.threads),
        "batch": f"1 clip; its {frames} frames are the encoders' batch",
        "T": str(frames),
        "resolution": f"{width}x{height}",
        "concurrency": "1: competitors take turns, each in a process of its own",
        "heats": f"{TOGETHER} at most are open beside ours and eager PyTorch, which are in each",
        "warm-up": f"2 clips after the start, and one at the start of a turn of clips below "
        f"{WAKE_MS:g} ms",
        "turn": f"clips for {TURN_MS:g} ms, at least 1 and at most {MOST_CALLS}; taken again, up "
        f"to {TRIES} times in all, if other work took more than {QUIET:.0%} of the processors",
        "intervals": "95 % for the figure of another such run: moving block bootstrap of rounds, "
        f"{RESAMPLES} resamples, ratios paired by round, and {BETWEEN_RUNS:.1%} standard deviation "
        "between runs",
    }


def protocol(
    plan: Plan, rounds: Sequence[Round], *, seconds: float, training: str, left_out: str
) -> dict[str, str]:
    """Return everything about how a run measured, by name.

    Args:
        plan: What was measured.
        rounds: What the race took.
        seconds: How long the run took, this time.
        training: How long an epoch of training took, and on what; empty if none was timed.
        left_out: What a full run would have measured as well; empty for one.
    """
    turns = [turn for competitors in rounds for turn in competitors.values()]
    disturbed = sum(turn.disturbed for turn in turns) / max(1, len(turns))
    facts = settings(plan) | {
        "rounds": str(len(rounds)),
        "repeats": f"{min((len(turn.milliseconds) for turn in turns), default=0)} to "
        f"{max((len(turn.milliseconds) for turn in turns), default=0)} clips a turn",
        "disturbed": f"{disturbed:.0%} of the turns, by other work on this machine",
        "run": f"{seconds:.0f} s",
        "training": training or "not measured: no --dataset",
        **{f"data set {item.key}": item.text for item in DATASETS.values()},
    }
    if plan.device == "cuda":
        facts["GPU"] = "CUDA events and TensorRT: this path was tested on stand-ins only"
    if left_out:
        facts["left out"] = left_out
    return facts | describe_machine() | {"load after": f"{os.getloadavg()[0]:.2f}"}
