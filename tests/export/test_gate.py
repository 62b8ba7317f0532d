"""The gate's measures: what they see, and what they are blind to on purpose."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from fgmclip.export.gate import (
    Eager,
    GateReport,
    Thresholds,
    Verdict,
    compare_answers,
    likeness,
)
from fgmclip.export.gate_table import gate_markdown, verdict_rows
from fgmclip.spec import SpecError


@pytest.fixture
def rows() -> NDArray[np.float32]:
    """Embeddings as real ones are: a large common part, small differences."""
    random = np.random.default_rng(0)
    common = 10 * random.standard_normal(32)
    return (common + random.standard_normal((64, 32))).astype(np.float32)


def verdict(**changes: object) -> Verdict:
    fields = {
        "part": "motion_encoder",
        "rung": "int8",
        "runtime": "openvino",
        "options": {"precision": "f32"},
        "milliseconds": 1.5,
        "size": 2_000_000,
        "finite": True,
        "max_abs": 0.1,
        "cosine": 0.99,
        "identity": 1.0,
    }
    return Verdict.of(**(fields | changes))


def test_equal_rows_pass(rows: NDArray[np.float32]) -> None:
    like = likeness(rows, rows.copy())
    assert like.cosine == pytest.approx(1)
    assert like.identity == 1
    assert like.fault(Thresholds()) == ""
    assert like.loss(Thresholds()) == pytest.approx(0, abs=1e-6)


def test_rows_that_only_the_common_part_makes_alike_are_refused(rows: NDArray[np.float32]) -> None:
    random = np.random.default_rng(1)
    mean = rows.mean(axis=0)
    other = (mean + random.standard_normal(rows.shape)).astype(np.float32)
    raw = (rows * other).sum(1) / np.linalg.norm(rows, axis=1) / np.linalg.norm(other, axis=1)
    assert np.median(raw) > 0.97
    like = likeness(rows, other)
    assert like.cosine < 0.3
    assert like.identity < 0.3
    assert "centred cosine" in like.fault(Thresholds())
    assert like.loss(Thresholds()) > 1


def test_rows_that_changed_places_are_refused_for_identity(rows: NDArray[np.float32]) -> None:
    other = rows.copy()
    other[[0, 1]] = other[[1, 0]]
    like = likeness(rows, other)
    assert like.cosine == pytest.approx(1)
    assert like.fault(Thresholds()) == "identity 96.88%, expected 99.00%"


def test_one_picture_shown_twice_is_no_mistake(rows: NDArray[np.float32]) -> None:
    twice = np.concatenate([rows, rows])
    assert likeness(twice, np.roll(twice, len(rows), axis=0)).identity == 1


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_no_numbers_are_refused(rows: NDArray[np.float32], value: float) -> None:
    other = rows.copy()
    other[3, 5] = value
    like = likeness(rows, other)
    assert like.fault(Thresholds(cosine=-1, identity=0)) == "NaN or infinite values"
    assert like.loss(Thresholds()) == float("inf")


def test_answers_are_counted_by_clip_and_by_class() -> None:
    expected = np.array([[4, 0], [4, 0], [0, 4], [0, 4]], np.float32)
    came = np.array([[4, 0], [0, 4], [0, 4], [0, 4]], np.float32)
    answers = compare_answers(expected, came, ["a", "a", "b", "b"], ["a", "b"])
    assert answers.agreement == 0.75
    assert answers.recall_change == 0.5
    assert answers.drift == pytest.approx(0.964, abs=1e-3)
    # Clips of other labels than the model's still agree or not, but there is no recall.
    assert compare_answers(expected, came, ["x"] * 4, ["a", "b"]).recall_change is None


def test_a_threshold_out_of_range_is_usage() -> None:
    with pytest.raises(SpecError) as caught:
        Thresholds.of(identity=99)
    assert caught.value.exit_code == 2


def test_the_report_names_what_was_kept_and_why_an_engine_was_refused() -> None:
    verdicts = (
        verdict(kept=("node_Conv_3",), taken=True),
        verdict(reason="1.50 ms, not faster than bf16's 1.40 ms"),
        verdict(part="chain", agreement=1.0, drift=0.01, recall_change=0.0, taken=True),
    )
    report = GateReport(
        clips=8,
        frames=64,
        calibration="generated",
        trained=True,
        thresholds=Thresholds(),
        eager=Eager(milliseconds=15.0, speedup=10.0, low=9.0, high=11.0),
        verdicts=verdicts,
    )
    assert verdict_rows(verdicts)[0][-1] == "taken; kept higher: node_Conv_3"
    page = gate_markdown(report, "Gate")
    assert "refused: 1.50 ms, not faster than bf16's 1.40 ms" in page
    assert "10.0 times faster" in page
    assert GateReport.from_json(report.to_json()) == report


@pytest.mark.parametrize(("distance", "identity"), [(0.005, 1.0), (0.05, 0.0)])
def test_how_far_apart_two_pictures_must_be(
    rows: NDArray[np.float32], distance: float, identity: float
) -> None:
    random = np.random.default_rng(1)
    spread = np.sqrt(((rows - rows.mean(axis=0)) ** 2).sum(axis=1).mean())
    step = random.standard_normal(rows.shape)
    step *= distance * spread / np.linalg.norm(step, axis=1, keepdims=True)
    pairs = np.concatenate([rows, rows + step]).astype(np.float32)
    swapped = np.roll(pairs, len(rows), axis=0)
    assert likeness(pairs, swapped).identity == identity
