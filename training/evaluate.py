"""How right a model is on whole videos, decided as a client decides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.progress import track
from rich.table import Table
from torch import Tensor

from fgmclip.model.network import FgmClip
from fgmclip.training.batches import motion_tensor, pixels_tensor
from fgmclip.training.cache import CachedVideo
from fgmclip.training.dataset import Dataset
from fgmclip.training.embeddings import normalised

ROWS_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class Prediction:
    """One video's answer.

    Attributes:
        path: The file.
        label: What it is.
        predicted: What the model says.
        probability: Of `predicted`, averaged over windows.
        windows: Windows that were averaged.
        frames_lost: Frames of the video that are damaged or missing.
    """

    path: Path
    label: str
    predicted: str
    probability: float
    windows: int
    frames_lost: int


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Answers for a data set.

    Attributes:
        labels: Classes, in the order of LOGITS.
        predictions: One a video, in the data set's order.
    """

    labels: tuple[str, ...]
    predictions: tuple[Prediction, ...]

    @property
    def top1(self) -> float:
        """Share of videos that were named right, 0..1."""
        return _share(self.predictions)

    @property
    def recall(self) -> dict[str, float]:
        """Share of each label's videos that were named right; labels without videos are absent."""
        return {
            label: _share([item for item in self.predictions if item.label == label])
            for label in self.labels
            if any(item.label == label for item in self.predictions)
        }

    @property
    def confusion(self) -> npt.NDArray[np.int64]:  # [C,C]
        """Videos by label (row) and answer (column)."""
        index = {label: position for position, label in enumerate(self.labels)}
        table = np.zeros((len(index), len(index)), np.int64)
        for item in self.predictions:
            table[index[item.label], index[item.predicted]] += 1
        return table

    def to_dict(self) -> dict[str, Any]:
        """Return all figures and answers as JSON can hold them."""
        return {
            "videos": len(self.predictions),
            "top1": self.top1,
            "recall": self.recall,
            "labels": list(self.labels),
            "confusion": self.confusion.tolist(),
            "predictions": [
                {
                    "video": str(item.path),
                    "label": item.label,
                    "predicted": item.predicted,
                    "probability": item.probability,
                    "windows": item.windows,
                    "frames_lost": item.frames_lost,
                }
                for item in self.predictions
            ],
        }

    def to_table(self) -> Table:
        """Return the confusion table with each label's recall, to be printed."""
        title = f"top-1 {self.top1:.1%} of {len(self.predictions)} videos"
        damaged = [item.frames_lost for item in self.predictions if item.frames_lost]
        caption = f"frames lost: {sum(damaged)}, in {len(damaged)} of them" if damaged else None
        table = Table("label", title=title, caption=caption)
        for position in range(len(self.labels)):
            table.add_column(str(position + 1), justify="right")
        table.add_column("recall", justify="right")
        recall = self.recall
        for position, (label, row) in enumerate(zip(self.labels, self.confusion, strict=True)):
            cells = [str(count) if count else "" for count in row]
            share = f"{recall[label]:.0%}" if label in recall else ""
            table.add_row(f"{position + 1} {label}", *cells, share)
        return table


def evaluate(
    model: FgmClip,
    dataset: Dataset,
    videos: Sequence[CachedVideo],
    *,
    progress: bool = True,
) -> Evaluation:
    """Name every video: probabilities are averaged over the windows that a client would send.

    Args:
        model: The model; put in eval mode.
        dataset: The videos with their labels.
        videos: Their rows, in the same order.
        progress: Show a progress bar.
    """
    model.eval()
    labels = model.spec.labels
    predictions = []
    pairs = list(zip(dataset.videos, videos, strict=True))
    for item, video in track(pairs, "Evaluating", disable=not progress):
        probabilities = video_probabilities(model, video)
        best = int(probabilities.argmax())
        predictions.append(
            Prediction(
                item.path,
                item.label,
                labels[best],
                float(probabilities[best]),
                len(video.served),
                video.frames_lost,
            )
        )
    return Evaluation(labels, tuple(predictions))


@torch.inference_mode()
def video_probabilities(model: FgmClip, video: CachedVideo) -> Tensor:  # [C]
    """Return PROBABILITIES averaged over the video's served windows.

    Each row is encoded once, however many windows share it, as in a stream.
    """
    frames = model.spec.clip.frames
    used = max(video.served) + frames
    all_pixels, all_motion = video.pixels()[:used], video.motion()
    visual, motion = [], []
    for start in range(0, used, ROWS_AT_ONCE):
        rows = slice(start, min(start + ROWS_AT_ONCE, used))
        pixels = pixels_tensor([all_pixels[rows]])[0]
        visual.append(model.image_encoder(normalised(pixels, model.spec.visual)))
        stacked = motion_tensor([] if all_motion is None else [all_motion[rows]])
        if stacked is not None and model.motion_encoder is not None:
            motion.append(model.motion_encoder(stacked[0]))
    spans = torch.tensor(video.served)[:, None] + torch.arange(frames)  # [W,T]
    windows = [torch.cat(parts)[spans] for parts in (visual, motion) if parts]
    logits: Tensor = model.classifier(model.fusion_head(*windows))
    return logits.softmax(dim=1).mean(dim=0)


def _share(predictions: Sequence[Prediction]) -> float:
    right = sum(item.label == item.predicted for item in predictions)
    return right / len(predictions) if predictions else 0.0
