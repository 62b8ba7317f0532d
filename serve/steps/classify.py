"""`classify`: EMBEDDING to LOGITS and PROBABILITIES, from a class file that can be replaced.

It is the last step of each release, and the one in which releases with the same encoders differ,
so it is the one that names the release.

The class file `classes.npz` holds `linear_weight` [C,H] and `linear_bias` [C], or `text_weight`
[D,H], `text_embeddings` [C,D] (unit length) and `temperature` [], or all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgmclip.serve.steps.step import RequestParameters, StepConfig, Tensors, TritonStep, each

Array = NDArray[np.float32]


def class_logits(embedding: Array, classes: Mapping[str, NDArray[Any]]) -> Array:
    """Return LOGITS [R,C]: the linear head, the text head, or their sum.

    Args:
        embedding: EMBEDDING [R,H].
        classes: Arrays of the class file.
    """
    logits: list[Array] = []
    if "linear_weight" in classes:
        logits.append(embedding @ classes["linear_weight"].T + classes["linear_bias"])
    if "text_weight" in classes:
        projected = embedding @ classes["text_weight"].T
        length = np.linalg.norm(projected, axis=1, keepdims=True)
        cosine = (projected / np.maximum(length, 1e-12)) @ classes["text_embeddings"].T
        logits.append(cosine / classes["temperature"])
    total: Array = np.sum(logits, axis=0, dtype=np.float32)
    return total


def softmax(logits: Array) -> Array:
    """Return PROBABILITIES [R,C]; each row sums to 1."""
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: Array = exponentials / exponentials.sum(axis=1, keepdims=True)
    return probabilities


class ClassifyStep:
    """Names the action from the class file beside it, and the release that it belongs to."""

    def __init__(self, config: StepConfig) -> None:
        """Load the class file that the parameter `classes` names, and read `model_tag`."""
        self._tag = config.parameters["model_tag"].encode()
        with np.load(config.directory / config.parameters["classes"], allow_pickle=False) as file:
            self._classes = dict(file)

    def run(self, batch: Sequence[tuple[Tensors, RequestParameters]]) -> list[Any]:
        """Answer each request by itself: the whole step is one small product."""
        return each(self, batch)

    def answer(self, inputs: Tensors, parameters: RequestParameters) -> Mapping[str, NDArray[Any]]:
        """Return LOGITS, PROBABILITIES [R,C], a copy of EMBEDDING [R,H] and MODEL_TAG [1].

        The copy is what the ensembles publish: an ensemble's output that is also a step's input
        deadlocks Triton when only other outputs are requested.
        """
        embedding = inputs["EMBEDDING"]
        logits = class_logits(embedding, self._classes)
        return {
            "LOGITS": logits,
            "PROBABILITIES": softmax(logits),
            "EMBEDDING_COPY": embedding.copy(),
            "MODEL_TAG": np.array([self._tag], dtype=object),
        }


class TritonPythonModel(TritonStep):
    """What Triton loads."""

    def build(self, config: StepConfig) -> ClassifyStep:
        """Return the classify step."""
        return ClassifyStep(config)
