"""A whole training run: cache, initial weights, epochs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fgmclip.model.activation import check_same_activation
from fgmclip.model.build import build_model
from fgmclip.model.checkpoint import load_checkpoint
from fgmclip.model.network import FgmClip
from fgmclip.model.towers import load_image_weights
from fgmclip.spec import ModelSpec
from fgmclip.storage.cache import cache_folder
from fgmclip.training.batches import Example
from fgmclip.training.cache import CachedVideo, CacheRecipe, cache_videos
from fgmclip.training.dataset import Dataset, check_labels
from fgmclip.training.evaluate import Evaluation, evaluate
from fgmclip.training.initial import take_weights
from fgmclip.training.loop import EpochRecord, fit
from fgmclip.training.settings import TrainSettings


def default_cache() -> Path:
    """Return the folder for caches of this user: `$XDG_CACHE_HOME/fgmclip/training`."""
    return cache_folder("training")


@dataclass(frozen=True, slots=True)
class Workshop:
    """Where and how rows are computed; shared by all runs over the same videos.

    Attributes:
        cache: The cache folder.
        phases: Time grids that training windows are cut from (`CacheRecipe.phases`).
        workers: Processes that decode.
        progress: Show progress bars.
    """

    cache: Path
    phases: int = 1
    workers: int = 2
    progress: bool = True

    def rows(self, dataset: Dataset, spec: ModelSpec) -> list[CachedVideo]:
        """Return the rows of a data set's videos.

        Raises:
            DatasetError: A video cannot be decoded.
        """
        return cache_videos(
            [video.path for video in dataset.videos],
            CacheRecipe.from_spec(spec, phases=self.phases),
            self.cache,
            workers=self.workers,
            progress=self.progress,
        )


@dataclass(frozen=True, slots=True)
class Initial:
    """Weights to begin with.

    Attributes:
        checkpoint: Every tensor that fits is taken over from it.
        image_weights: Plain weights of the image encoder.
    """

    checkpoint: Path | None = None
    image_weights: Path | None = None


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """What a run gives.

    Attributes:
        model: The model after the last epoch, in eval mode.
        records: One an epoch.
        seconds: Wall-clock seconds by stage, `rows` and `epochs`.
    """

    model: FgmClip
    records: tuple[EpochRecord, ...]
    seconds: dict[str, float]


def train_model(
    spec: ModelSpec,
    dataset: Dataset,
    settings: TrainSettings,
    workshop: Workshop,
    *,
    initial: Initial | None = None,
    state_path: Path | None = None,
    log_path: Path | None = None,
    say: Callable[[str], None] | None = None,
) -> TrainedModel:
    """Train a model of `spec` on a data set.

    Args:
        spec: What to train; its classes are those of the data set, or more.
        dataset: What to learn from.
        settings: How.
        workshop: Where rows are computed.
        initial: Weights to begin with; random where it says nothing.
        state_path: Keeps the run after each epoch and takes it up again.
        log_path: Where to write a JSON line an epoch.
        say: Receives lines for the user about initial weights, before the epochs.

    Raises:
        CheckpointError: Initial weights are refused.
        DatasetError: A label is unknown to the spec, or a video cannot be decoded.
        ResumeError: The state at `state_path` belongs to another run.
    """
    check_labels(dataset, spec)
    initial = initial or Initial()
    model = build_model(spec, seed=settings.seed)
    if initial.checkpoint is not None:
        source = load_checkpoint(initial.checkpoint, say=say)
        if initial.image_weights is None:
            check_same_activation(model, source, initial.checkpoint)
        for line in take_weights(model, source).summary():
            if say is not None:
                say(line)
    if initial.image_weights is not None:
        load_image_weights(model, initial.image_weights, say=say)
    begun = time.monotonic()
    rows = workshop.rows(dataset, spec)
    decoded = time.monotonic()
    targets = {label: index for index, label in enumerate(spec.labels)}
    records = fit(
        model,
        [
            Example(video, targets[item.label])
            for item, video in zip(dataset.videos, rows, strict=True)
        ],
        settings,
        state_path=state_path,
        log_path=log_path,
        progress=workshop.progress,
    )
    seconds = {"rows": decoded - begun, "epochs": time.monotonic() - decoded}
    return TrainedModel(model, tuple(records), seconds)


def evaluate_model(model: FgmClip, dataset: Dataset, workshop: Workshop) -> Evaluation:
    """Name the videos of a data set as a client would, and compare with their labels.

    Raises:
        DatasetError: A label is unknown to the model, or a video cannot be decoded.
    """
    check_labels(dataset, model.spec)
    rows = workshop.rows(dataset, model.spec)
    return evaluate(model, dataset, rows, progress=workshop.progress)
