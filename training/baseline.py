"""A yardstick without a network: a histogram of the flow, and logistic regression on it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from fgmclip.training.cache import CachedVideo
from fgmclip.training.dataset import Dataset
from fgmclip.training.errors import DatasetError
from fgmclip.training.evaluate import Evaluation, Prediction

DIRECTIONS = 8
CELLS = 4
"""Cells along each side of the frame."""
PARTS = 3
"""Parts of the video's length."""
PENALTY = 0.01
"""Weight of the squared coefficients."""


def flow_histogram(video: CachedVideo) -> npt.NDArray[np.float32]:  # [PARTS*CELLS*CELLS*DIRECTIONS]
    """Return how much moves where, when and in which direction, summing to one, as square roots.

    Raises:
        DatasetError: The rows hold no motion.
    """
    motion = video.motion()
    if motion is None:
        raise DatasetError(f"{video.folder}: no motion in its rows; use a spec with motion")
    rows = motion[: video.first_grid]
    u, v = rows[:, 1].astype(np.float32), rows[:, 2].astype(np.float32)
    side = u.shape[-1]
    direction = ((np.arctan2(v, u) / (2 * np.pi) + 0.5 / DIRECTIONS) % 1 * DIRECTIONS).astype(int)
    cell = np.arange(side) * CELLS // side
    part = np.arange(len(u)) * PARTS // len(u)
    place = (part[:, None, None] * CELLS + cell[:, None]) * CELLS + cell
    bins = place * DIRECTIONS + np.minimum(direction, DIRECTIONS - 1)
    total = np.bincount(
        bins.ravel(), np.hypot(u, v).ravel(), minlength=PARTS * CELLS * CELLS * DIRECTIONS
    )
    share: npt.NDArray[np.float32] = np.sqrt(total / max(total.sum(), 1e-6)).astype(np.float32)
    return share


def baseline(
    labels: Sequence[str],
    train: Dataset,
    train_rows: Sequence[CachedVideo],
    held_out: Dataset,
    held_out_rows: Sequence[CachedVideo],
) -> Evaluation:
    """Fit multinomial logistic regression on one part and name the videos of the other."""
    index = {label: position for position, label in enumerate(labels)}
    known = torch.from_numpy(np.stack([flow_histogram(rows) for rows in train_rows]))
    mean, spread = known.mean(dim=0), known.std(dim=0) + 1e-3
    targets = torch.tensor([index[item.label] for item in train.videos])
    weight = torch.zeros(known.shape[1], len(labels), requires_grad=True)
    bias = torch.zeros(len(labels), requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> float:
        optimizer.zero_grad()
        logits = (known - mean) / spread @ weight + bias
        value = F.cross_entropy(logits, targets) + PENALTY * weight.square().sum()
        torch.autograd.backward(value)
        return value.item()

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    asked = torch.from_numpy(np.stack([flow_histogram(rows) for rows in held_out_rows]))
    with torch.inference_mode():
        probabilities = ((asked - mean) / spread @ weight + bias).softmax(dim=1)
    return Evaluation(
        tuple(labels),
        tuple(
            Prediction(
                item.path,
                item.label,
                labels[int(row.argmax())],
                float(row.max()),
                1,
                rows.frames_lost,
            )
            for item, row, rows in zip(held_out.videos, probabilities, held_out_rows, strict=True)
        ),
    )
