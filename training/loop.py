"""The training loop (paper 4.2, Algorithm 1, its classification part): epochs, steps, state."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor, nn

from fgmclip.model.network import FgmClip
from fgmclip.storage.atomic import write_text
from fgmclip.training.augment import augment, mirror
from fgmclip.training.batches import Batch, Example, epoch_batches
from fgmclip.training.embeddings import FrozenVisual, normalised
from fgmclip.training.losses import classification_loss
from fgmclip.training.settings import TrainSettings
from fgmclip.training.state import RunState, fingerprint


@dataclass(frozen=True, slots=True)
class EpochRecord:
    """What one epoch did; one line of the training log.

    Attributes:
        epoch: From 1.
        loss: Mean training loss, augmented.
        accuracy: Share of training windows that were right, augmented.
        learning_rate: At the epoch's last step.
    """

    epoch: int
    loss: float
    accuracy: float
    learning_rate: float


def fit(
    model: FgmClip,
    examples: Sequence[Example],
    settings: TrainSettings,
    *,
    state_path: Path | None = None,
    log_path: Path | None = None,
    progress: bool = True,
    after_epoch: Callable[[EpochRecord], None] = lambda record: None,
) -> list[EpochRecord]:
    """Train `model` in place and leave it in eval mode.

    Every epoch's draws follow from the seed and the epoch's number, so a run that was stopped and
    taken up again from its state ends with the same weights as one that was not.

    Args:
        model: Where to begin; on return, the trained model.
        examples: What to learn from.
        settings: How.
        state_path: Where the run's state is kept after each epoch, and taken up from.
        log_path: Where to write a JSON line an epoch.
        progress: Show a progress bar.
        after_epoch: Called with each epoch's record, once its state is safe.

    Raises:
        ResumeError: The state at `state_path` belongs to another run.
    """
    torch_state = torch.get_rng_state()
    # Convolutions on a CPU are up to twice as fast with the channels innermost.
    model.to(memory_format=torch.channels_last)
    try:
        return _fit(model, examples, settings, state_path, log_path, progress, after_epoch)
    finally:
        torch.set_rng_state(torch_state)
        model.to(memory_format=torch.contiguous_format)
        model.eval()


def _fit(
    model: FgmClip,
    examples: Sequence[Example],
    settings: TrainSettings,
    state_path: Path | None,
    log_path: Path | None,
    progress: bool,
    after_epoch: Callable[[EpochRecord], None],
) -> list[EpochRecord]:
    frozen = None
    if settings.freeze_image:
        model.image_encoder.requires_grad_(False)
        model.eval()
        frozen = FrozenVisual.of(model.image_encoder, model.spec.visual)
        frozen.embed(
            model.image_encoder,
            model.spec.visual,
            [item.video for item in examples],
            mirror=settings.mirror,
            progress=progress,
        )
    optimizer = _optimizer(model, settings)
    state = RunState(fingerprint(model, examples, settings))
    if state_path is not None and state_path.is_file():
        state = RunState.load(state_path, expected=state.fingerprint)
        model.load_state_dict(state.model)
        optimizer.load_state_dict(state.optimizer)
    records = [EpochRecord(**record) for record in state.records]
    with _bar(progress) as bar:
        task = bar.add_task("Training", total=settings.epochs, completed=len(records), note="")
        for epoch in range(len(records), settings.epochs):
            record = _epoch(model, optimizer, examples, settings, frozen, epoch)
            records.append(record)
            state = RunState(
                state.fingerprint,
                model=model.state_dict(),
                optimizer=optimizer.state_dict(),
                records=[asdict(item) for item in records],
            )
            if state_path is not None:
                state.save(state_path)
            if log_path is not None:
                write_text(log_path, "".join(json.dumps(line) + "\n" for line in state.records))
            note = f"loss {record.loss:.3f}  accuracy {record.accuracy:.1%}"
            bar.update(task, advance=1, note=note)
            after_epoch(record)
    return records


def _epoch(
    model: FgmClip,
    optimizer: torch.optim.Optimizer,
    examples: Sequence[Example],
    settings: TrainSettings,
    frozen: FrozenVisual | None,
    epoch: int,
) -> EpochRecord:
    random = np.random.default_rng([settings.seed, epoch])
    generator = torch.Generator().manual_seed(int(random.integers(1 << 62)))
    torch.manual_seed(int(random.integers(1 << 62)))
    model.train()
    if frozen is not None:
        # Running statistics of a frozen encoder stay as they are.
        model.image_encoder.eval()
    steps = max(1, len(examples) // settings.batch)
    losses, right, rate = 0.0, 0, 0.0
    batches = epoch_batches(
        examples,
        frames=model.spec.clip.frames,
        size=settings.batch,
        mirror=settings.mirror,
        frozen=frozen,
        random=random,
    )
    for step, batch in enumerate(batches):
        rate = learning_rate(settings, epoch + step / steps)
        for group in optimizer.param_groups:
            group["lr"] = rate
        logits = _logits(model, batch, settings, generator)
        loss = classification_loss(logits, batch.targets)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm)
        optimizer.step()
        losses += loss.item() * len(batch.targets)
        right += int((logits.argmax(dim=1) == batch.targets).sum())
    return EpochRecord(epoch + 1, losses / len(examples), right / len(examples), rate)


def _logits(
    model: FgmClip, batch: Batch, settings: TrainSettings, generator: torch.Generator
) -> Tensor:  # [B,C]
    pixels, motion = batch.pixels, batch.motion
    if settings.augmentation is None:
        pixels, motion = mirror(pixels, motion, batch.mirrored)
    else:
        pixels, motion = augment(pixels, motion, batch.mirrored, settings.augmentation, generator)
    visual = batch.visual
    if visual is None:
        assert pixels is not None  # a batch has one of the two
        pixels = normalised(pixels, model.spec.visual)
        visual = model.image_encoder(pixels.flatten(0, 1)).unflatten(0, pixels.shape[:2])
    if settings.visual_dropout:
        kept = torch.rand(len(visual), 1, 1, generator=generator) >= settings.visual_dropout
        visual = visual * kept
    features = [visual]
    if model.motion_encoder is not None and motion is not None:
        features.append(model.motion_encoder(motion.flatten(0, 1)).unflatten(0, motion.shape[:2]))
    logits: Tensor = model.classifier(model.fusion_head(*features))
    return logits


def learning_rate(settings: TrainSettings, epoch: float) -> float:
    """Return the rate at a point in time: linear warm-up, then a cosine down to zero.

    Args:
        settings: Peak, warm-up and length.
        epoch: Epochs done, with fraction.
    """
    if epoch < settings.warmup_epochs:
        # The first step is not lost to a rate of zero.
        return settings.learning_rate * max(epoch / settings.warmup_epochs, 0.01)
    rest = settings.epochs - settings.warmup_epochs
    done = (epoch - settings.warmup_epochs) / rest if rest else 1.0
    return settings.learning_rate * (1 + math.cos(math.pi * done)) / 2


def _optimizer(model: nn.Module, settings: TrainSettings) -> torch.optim.AdamW:
    trained = [tensor for tensor in model.parameters() if tensor.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [item for item in trained if item.ndim > 1]},
        # Decay would pull scales and offsets to zero, where they mean nothing special.
        {"params": [item for item in trained if item.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, weight_decay=settings.weight_decay)


def _bar(progress: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f}  {task.fields[note]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        disable=not progress,
    )
