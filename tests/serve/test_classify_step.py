"""`classify`: the heads of a class file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fgmclip.serve.steps.classify import ClassifyStep, class_logits, softmax
from fgmclip.serve.steps.step import StepConfig

LINEAR: dict[str, NDArray[Any]] = {
    "linear_weight": np.array([[1, 0], [0, 1], [1, 1]], np.float32),
    "linear_bias": np.array([0, 0, -1], np.float32),
}
TEXT: dict[str, NDArray[Any]] = {
    "text_weight": np.eye(2, dtype=np.float32),
    "text_embeddings": np.array([[1, 0], [0, 1], [-1, 0]], np.float32),
    "temperature": np.array(0.5, np.float32),
}


def test_the_linear_head_is_a_product_and_a_bias() -> None:
    logits = class_logits(np.array([[2, 3]], np.float32), LINEAR)
    np.testing.assert_allclose(logits, [[2, 3, 4]])


def test_the_text_head_is_a_cosine_over_the_temperature() -> None:
    logits = class_logits(np.array([[3, 4]], np.float32), TEXT)
    np.testing.assert_allclose(logits, [[1.2, 1.6, -1.2]], rtol=1e-6)


def test_both_heads_add_up() -> None:
    embedding = np.array([[3, 4]], np.float32)
    np.testing.assert_allclose(
        class_logits(embedding, LINEAR | TEXT),
        class_logits(embedding, LINEAR) + class_logits(embedding, TEXT),
    )


def test_a_zero_embedding_gives_finite_logits() -> None:
    assert np.isfinite(class_logits(np.zeros((1, 2), np.float32), TEXT)).all()


@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=2, max_size=6))
def test_probabilities_sum_to_one_however_large_the_logits(values: list[float]) -> None:
    probabilities = softmax(np.array([values], np.float32))
    assert probabilities.sum() == pytest.approx(1, abs=1e-5)
    likeliest = int(np.argmax(np.array(values, np.float32)))
    assert probabilities[0, likeliest] == probabilities.max()


def test_the_class_file_can_be_replaced_by_one_with_other_classes(tmp_path: Path) -> None:
    parameters = {"classes": "classes.npz", "model_tag": "0123abcd"}
    config = StepConfig(tmp_path, parameters, ("EMBEDDING",), ("LOGITS",))
    embedding = {"EMBEDDING": np.array([[2, 3]], np.float32)}
    for count in (3, 2):
        arrays = {name: value[:count] for name, value in LINEAR.items()}
        np.savez(tmp_path / "classes.npz", **arrays)
        answer = ClassifyStep(config).answer(embedding, {})
        assert answer["PROBABILITIES"].shape == (1, count)
        np.testing.assert_array_equal(answer["EMBEDDING_COPY"], embedding["EMBEDDING"])


@pytest.mark.parametrize("tracks", [1, 3])
def test_one_tag_names_the_release_for_all_tracks(tmp_path: Path, tracks: int) -> None:
    np.savez(tmp_path / "classes.npz", **LINEAR)
    parameters = {"classes": "classes.npz", "model_tag": "0123abcd"}
    step = ClassifyStep(StepConfig(tmp_path, parameters, ("EMBEDDING",), ("MODEL_TAG",)))
    answer = step.answer({"EMBEDDING": np.ones((tracks, 2), np.float32)}, {})
    assert answer["MODEL_TAG"].tolist() == [b"0123abcd"]
