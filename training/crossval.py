"""Cross-validation by group: each video is named by a model that never saw its group."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fgmclip.model.checkpoint import save_checkpoint
from fgmclip.spec import ModelSpec
from fgmclip.training.baseline import baseline
from fgmclip.training.dataset import Dataset, group_folds
from fgmclip.training.evaluate import Evaluation, evaluate
from fgmclip.training.run import Initial, Workshop, train_model
from fgmclip.training.settings import TrainSettings


@dataclass(frozen=True, slots=True)
class CrossValidation:
    """What held-out videos were called, all folds together.

    Attributes:
        folds: The model's answers, fold by fold.
        baseline: The answers of the flow histogram on the same folds; empty without motion.
        checkpoints: The folds' models, in the same order; empty when none were kept.
    """

    folds: tuple[Evaluation, ...]
    baseline: tuple[Evaluation, ...]
    checkpoints: tuple[Path, ...]

    @property
    def total(self) -> Evaluation:
        """The model's answers for all videos."""
        return joined(self.folds)

    def to_dict(self) -> dict[str, Any]:
        """Return all figures and answers as JSON can hold them."""
        return {
            "total": self.total.to_dict(),
            "folds": [fold.top1 for fold in self.folds],
            "baseline": joined(self.baseline).to_dict() if self.baseline else None,
            "checkpoints": [str(path) for path in self.checkpoints],
        }


def joined(folds: Sequence[Evaluation]) -> Evaluation:
    """Return the folds' answers as one evaluation."""
    return Evaluation(folds[0].labels, tuple(item for fold in folds for item in fold.predictions))


def cross_validate(
    spec: ModelSpec,
    dataset: Dataset,
    settings: TrainSettings,
    workshop: Workshop,
    *,
    folds: int = 5,
    split_seed: int = 0,
    initial: Initial | None = None,
    out: Path | None = None,
    say: Callable[[str], None] = print,
) -> CrossValidation:
    """Train once for each fold on the other folds' groups, and name the fold's videos.

    Args:
        spec: What to train.
        dataset: Videos with groups.
        settings: How to train; nothing of a fold is used to choose them.
        workshop: Where rows are computed.
        folds: Number of folds.
        split_seed: Decides which groups come together.
        initial: Weights to begin each fold with.
        out: Where to keep each fold's checkpoint, state and log, and `crossval.json`.
        say: Receives lines for the user.

    Raises:
        DatasetError: There are fewer groups than folds, or the data do not fit the spec.
    """
    results, yardstick, checkpoints = [], [], []
    rows = dict(zip(dataset.videos, workshop.rows(dataset, spec), strict=True))

    def say_initial(line: str) -> None:
        say(f"initial weights {line}")

    for number, split in enumerate(group_folds(dataset, folds, seed=split_seed), start=1):
        stem = None if out is None else out / f"fold{number}"
        trained = train_model(
            spec,
            split.train,
            settings,
            workshop,
            initial=initial,
            say=say_initial if number == 1 else None,
            state_path=None if stem is None else stem.with_suffix(".state.pt"),
            log_path=None if stem is None else stem.with_suffix(".log.jsonl"),
        )
        held_out_rows = [rows[video] for video in split.held_out.videos]
        results.append(evaluate(trained.model, split.held_out, held_out_rows, progress=False))
        note = ""
        if spec.motion is not None:
            train_rows = [rows[video] for video in split.train.videos]
            yardstick.append(
                baseline(spec.labels, split.train, train_rows, split.held_out, held_out_rows)
            )
            note = f", flow histogram {yardstick[-1].top1:.1%}"
        if stem is not None:
            checkpoints.append(stem.with_suffix(".safetensors"))
            save_checkpoint(trained.model, checkpoints[-1])
        groups = ", ".join(sorted({video.group for video in split.held_out.videos}))
        say(f"fold {number} of {folds} ({groups}): {results[-1].top1:.1%}{note}")
    validation = CrossValidation(tuple(results), tuple(yardstick), tuple(checkpoints))
    if out is not None:
        (out / "crossval.json").write_text(
            json.dumps(validation.to_dict(), indent=1), encoding="utf-8"
        )
    return validation
