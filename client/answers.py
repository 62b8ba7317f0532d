"""What the client answers: a `Decision` on one window, a `VideoResult` on a whole video."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgmclip.client.errors import ManifestError, ServerError, TagMismatchError
from fgmclip.client.messages import Tensors
from fgmclip.spec import PublicManifest

UNKNOWN = "unknown"
"""The label of an answer whose top probability is below the model's `head.unknown_threshold`."""

TOP = 5
"""How many actions an answer names."""

ANSWERS = ("LOGITS", "PROBABILITIES", "EMBEDDING", "MODEL_TAG")
"""Outputs of every public model from which decisions are made."""

ATTEMPTS = 3
"""How often one question is asked while releases change under it."""

Top = tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Decision:
    """The answer for one window of one track.

    Attributes:
        label: The likeliest action, or `unknown` below the model's `head.unknown_threshold`.
        probability: Of the likeliest action, also when that is reported as unknown.
        top: The five likeliest actions with their probabilities, likeliest first.
        logits: LOGITS f32 [C].
        probabilities: PROBABILITIES f32 [C], in the order of the manifest's labels.
        embedding: EMBEDDING f32 [H].
    """

    label: str
    probability: float
    top: Top
    logits: NDArray[np.float32]
    probabilities: NDArray[np.float32]
    embedding: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class VideoResult:
    """The answer for one video: probabilities averaged over its windows.

    Attributes:
        video: The file.
        label: The likeliest action, or `unknown` below the model's `head.unknown_threshold`.
        probability: Of the likeliest action, also when that is reported as unknown.
        top: The five likeliest actions with their probabilities, likeliest first.
        windows: How many windows were answered.
        latency_ms: Median time from sending a window to its answer, milliseconds; decoding is
            not in it.
        frames: How many frames of the file were read.
        frames_lost: How many more it should have, damaged or missing; 0 for a whole file.
    """

    video: Path
    label: str
    probability: float
    top: Top
    windows: int
    latency_ms: float
    frames: int
    frames_lost: int

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return {
            "video": str(self.video),
            "label": self.label,
            "probability": self.probability,
            "top": [[label, probability] for label, probability in self.top],
            "windows": self.windows,
            "latency_ms": self.latency_ms,
            "frames": self.frames,
            "frames_lost": self.frames_lost,
        }


def tag_in(value: NDArray[Any]) -> str:
    """Return the text of a TAG or MODEL_TAG [1]."""
    return bytes(value.reshape(-1)[0]).decode(errors="replace")


def name_action(
    probabilities: NDArray[np.floating[Any]], manifest: PublicManifest
) -> tuple[str, Top]:
    """Return the label and the likeliest actions.

    Args:
        probabilities: [C].
        manifest: Names the classes and the threshold below which an answer is `unknown`.
    """
    labels = manifest.spec.labels
    order = np.argsort(-probabilities, kind="stable")[:TOP]
    top = tuple((labels[index], float(probabilities[index])) for index in order)
    label, probability = top[0]
    return (UNKNOWN if probability < manifest.spec.head.unknown_threshold else label), top


def decisions(
    outputs: Tensors, manifest: PublicManifest, rows: Sequence[int] | slice = slice(None)
) -> list[Decision]:
    """Return one decision a track; no answer is named by another release's labels.

    Args:
        outputs: LOGITS, PROBABILITIES [R,C], EMBEDDING [R,H] and MODEL_TAG [1].
        manifest: What the server publishes.
        rows: Of the tracks to decide; all by default.

    Raises:
        TagMismatchError: Another release answered than the manifest's.
        ManifestError: The answer has another number of classes than the manifest.
        ServerError: A probability is not finite.
    """
    came = tag_in(outputs["MODEL_TAG"])
    if came != manifest.model_tag:
        raise TagMismatchError(
            f"MODEL_TAG: expected {manifest.model_tag} as in the manifest, got {came}: the server "
            "changed to another release; read the manifest again"
        )
    probabilities = outputs["PROBABILITIES"][rows]
    expected = len(manifest.spec.labels)
    if probabilities.ndim != 2 or probabilities.shape[1] != expected:
        raise ManifestError(
            f"PROBABILITIES: expected [R,{expected}] for the {expected} labels of the manifest, "
            f"got {list(probabilities.shape)}; the release's class file was replaced: export the "
            "checkpoint again"
        )
    if not np.isfinite(probabilities).all():
        raise ServerError(
            "PROBABILITIES: expected finite values, got NaN or infinity; the release was exported "
            "from broken weights, activate an earlier one"
        )
    answers = []
    for logits, row, embedding in zip(
        outputs["LOGITS"][rows], probabilities, outputs["EMBEDDING"][rows], strict=True
    ):
        label, top = name_action(row, manifest)
        answers.append(Decision(label, top[0][1], top, logits, row, embedding))
    return answers
