"""`window`: history and new rows become windows; anything foreign is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fgmclip.serve.steps.step import StepConfig, StepError
from fgmclip.serve.steps.window import WindowStep

T, D, DM, R = 4, 3, 2, 3
TAG = "0123456789abcdef"


def step(*, motion: bool = True) -> WindowStep:
    inputs = ("TRACKS", "VISUAL", "MOTION_FEATURES") if motion else ("TRACKS", "VISUAL")
    return WindowStep(
        StepConfig(
            Path(),
            {"window": str(T), "max_tracks": str(R), "embedding_tag": TAG},
            inputs,
            ("TAG",),
        )
    )


def request(tracks: int, new: int, *, seed: int = 0) -> dict[str, NDArray[Any]]:
    random = np.random.default_rng(seed)
    inputs: dict[str, NDArray[Any]] = {
        "TRACKS": np.array([tracks], np.int32),
        "VISUAL": random.standard_normal((tracks * new, D), np.float32),
        "MOTION_FEATURES": random.standard_normal((tracks * new, DM), np.float32),
    }
    if new < T:
        inputs["VISUAL_HISTORY"] = random.standard_normal((tracks, T - new, D), np.float32)
        inputs["MOTION_HISTORY"] = random.standard_normal((tracks, T - new, DM), np.float32)
        inputs["HISTORY_TAG"] = np.array([TAG.encode()], object)
    return inputs


def without_tracks(inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {name: value for name, value in inputs.items() if name != "TRACKS"}


def refusal(inputs: dict[str, NDArray[Any]]) -> str:
    (answer,) = step().run([(inputs, {})])
    assert isinstance(answer, StepError)
    return str(answer)


@given(tracks=st.integers(1, 3), new=st.integers(1, T))
def test_a_window_is_history_then_new_rows(tracks: int, new: int) -> None:
    inputs = request(tracks, new)
    answer = step().answer(inputs, {})
    assert answer["VISUAL_WINDOW"].shape == (tracks, T, D)
    np.testing.assert_array_equal(answer["VISUAL_WINDOW"][:, T - new :], answer["VISUAL_NEW"])
    np.testing.assert_array_equal(answer["MOTION_NEW"].reshape(-1, DM), inputs["MOTION_FEATURES"])
    if new < T:
        np.testing.assert_array_equal(
            answer["MOTION_WINDOW"][:, : T - new], inputs["MOTION_HISTORY"]
        )
    assert answer["TAG"].tolist() == [TAG.encode()]


def test_sliding_by_any_stride_gives_the_rows_of_the_whole_sequence() -> None:
    rows = np.arange(12 * D, dtype=np.float32).reshape(12, D)
    motion = np.arange(12 * DM, dtype=np.float32).reshape(12, DM)
    for stride in range(1, T + 1):
        history = (rows[:0], motion[:0])
        for end in range(T, 13, stride):
            new = T if end == T else stride
            inputs: dict[str, NDArray[Any]] = {
                "TRACKS": np.array([1], np.int32),
                "VISUAL": rows[end - new : end],
                "MOTION_FEATURES": motion[end - new : end],
                "VISUAL_HISTORY": history[0][None],
                "MOTION_HISTORY": history[1][None],
                "HISTORY_TAG": np.array([TAG], object),
            }
            answer = step().answer(inputs, {})
            np.testing.assert_array_equal(answer["VISUAL_WINDOW"][0], rows[end - T : end])
            keep = slice(stride, None)
            history = (answer["VISUAL_WINDOW"][0][keep], answer["MOTION_WINDOW"][0][keep])


def test_a_model_without_motion_has_no_motion_tensors() -> None:
    inputs = {key: value for key, value in request(1, 2).items() if "MOTION" not in key}
    answer = step(motion=False).answer(inputs, {})
    assert set(answer) == {"VISUAL_WINDOW", "VISUAL_NEW", "TAG"}


def test_a_foreign_tag_is_refused() -> None:
    inputs = request(1, 2) | {"HISTORY_TAG": np.array([b"other"], object)}
    assert f"expected {TAG}, got other" in refusal(inputs)


def test_a_history_without_its_tag_is_refused() -> None:
    inputs = request(1, 2)
    del inputs["HISTORY_TAG"]
    assert "HISTORY_TAG: expected the TAG that came with the history" in refusal(inputs)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_history_that_is_not_finite_is_refused(value: float) -> None:
    inputs = request(1, 2)
    inputs["MOTION_HISTORY"][0, 1, 1] = value
    assert "MOTION_HISTORY: expected finite values" in refusal(inputs)


@pytest.mark.parametrize("shape", [(1, 3, D), (2, 2, D), (1, 2, D + 1)])
def test_a_history_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    inputs = request(1, 2) | {"VISUAL_HISTORY": np.zeros(shape, np.float32)}
    assert f"VISUAL_HISTORY: expected [1, 2, {D}]" in refusal(inputs)


def test_too_few_samples_without_a_history_are_refused() -> None:
    inputs = request(1, 2)
    del inputs["VISUAL_HISTORY"]
    assert "got no history" in refusal(inputs)


def test_a_refused_request_spares_the_others() -> None:
    good = request(1, T)
    bad = request(1, 2) | {"HISTORY_TAG": np.array([b"other"], object)}
    first, second, third = step().run([(good, {}), (bad, {}), (good, {})])
    assert isinstance(second, StepError)
    np.testing.assert_array_equal(first["VISUAL_NEW"], third["VISUAL_NEW"])


def test_new_rows_are_a_copy_of_their_own() -> None:
    inputs = request(1, T)
    answer = step().answer(inputs, {})
    assert not np.shares_memory(answer["VISUAL_NEW"], answer["VISUAL_WINDOW"])
    assert not np.shares_memory(answer["VISUAL_NEW"], inputs["VISUAL"])


@given(tracks=st.integers(1, 3), new=st.integers(1, T))
def test_tracks_follow_from_the_history_or_from_full_windows(tracks: int, new: int) -> None:
    inputs = request(tracks, new)
    told, implied = step().answer(inputs, {}), step().answer(without_tracks(inputs), {})
    for name, value in told.items():
        np.testing.assert_array_equal(implied[name], value)


def test_rows_that_are_no_whole_windows_are_refused() -> None:
    inputs = without_tracks(request(1, T))
    inputs = {name: value[:-1] for name, value in inputs.items()}
    assert "expected a multiple of 4 samples without a history" in refusal(inputs)
    inputs = without_tracks(request(2, 1))
    inputs["VISUAL"] = np.concatenate([inputs["VISUAL"], inputs["VISUAL"][:1]])
    assert "expected a multiple of 2 samples, as many for each track" in refusal(inputs)


@pytest.mark.parametrize("new", [1, T])
def test_more_tracks_than_the_limit_are_refused_where_the_history_says_how_many(new: int) -> None:
    assert f"expected 1 to {R} tracks, got {R + 1}" in refusal(without_tracks(request(R + 1, new)))
    step().answer(without_tracks(request(R, new)), {})
