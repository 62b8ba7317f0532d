"""Runtimes: the same graph gives the same numbers, whatever runs it, at every batch size."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from fgmclip.model.build import build_model
from fgmclip.model.onnx_graph import to_onnx
from fgmclip.serve.runtimes import open_runtime
from fgmclip.serve.runtimes.runtime import Runtime
from fgmclip.spec import preset


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The motion encoder of the demo's shape."""
    path = tmp_path_factory.mktemp("graph") / "model.onnx"
    onnx.save(to_onnx(build_model(preset("demo"), seed=0), "motion_encoder"), path)
    return path


@pytest.fixture(scope="module")
def openvino(graph: Path) -> Runtime:
    return open_runtime("openvino", graph, {"precision": "f32"})


def motion(batch: int) -> dict[str, NDArray[np.float32]]:
    random = np.random.default_rng(batch)
    return {"MOTION": random.standard_normal((batch, 3, 64, 64), np.float32)}


def test_f32_equals_onnx_runtime_at_every_batch(graph: Path, openvino: Runtime) -> None:
    other = open_runtime("onnxruntime", graph)
    for batch in (1, 3, 8, 2):
        ours, theirs = openvino.run(motion(batch)), other.run(motion(batch))
        assert ours.keys() == theirs.keys() == {"MOTION_FEATURES"}
        np.testing.assert_allclose(
            ours["MOTION_FEATURES"], theirs["MOTION_FEATURES"], rtol=0, atol=1e-4
        )


def test_precision_is_what_was_asked_for(graph: Path, openvino: Runtime) -> None:
    exact = openvino.run(motion(2))["MOTION_FEATURES"]
    half = open_runtime("openvino", graph, {"precision": "bf16"}).run(motion(2))["MOTION_FEATURES"]
    # bf16 holds 8 bits of a number; a CPU without it computes fp32 instead.
    np.testing.assert_allclose(half, exact, rtol=0, atol=0.05 * np.abs(exact).max())
    default = open_runtime("openvino", graph).run(motion(2))["MOTION_FEATURES"]
    np.testing.assert_array_equal(default, exact)


@pytest.mark.parametrize("options", [{"threads": "1"}, {"streams": "2"}, {"streams": "64"}])
def test_how_cores_are_used_changes_no_answer(
    graph: Path, openvino: Runtime, options: dict[str, str]
) -> None:
    other = open_runtime("openvino", graph, {"precision": "f32", **options})
    for batch in (1, 2, 5):
        ours, theirs = other.run(motion(batch)), openvino.run(motion(batch))
        np.testing.assert_allclose(
            ours["MOTION_FEATURES"], theirs["MOTION_FEATURES"], rtol=0, atol=1e-4
        )


@pytest.mark.parametrize("option", ["threads", "streams"])
@pytest.mark.parametrize("value", ["0", "-1", "two"])
def test_a_number_that_is_none_is_refused(graph: Path, option: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"option {option}: expected a whole number above 0"):
        open_runtime("openvino", graph, {"precision": "f32", option: value})


def test_answers_outlive_the_next_run(openvino: Runtime) -> None:
    first = openvino.run(motion(2))["MOTION_FEATURES"]
    before = first.copy()
    openvino.run(motion(3))
    np.testing.assert_array_equal(first, before)


def test_inputs_that_are_not_contiguous_are_read_right(openvino: Runtime) -> None:
    inputs = motion(4)
    every_other = {"MOTION": inputs["MOTION"][::2]}
    expected = openvino.run({"MOTION": np.ascontiguousarray(every_other["MOTION"])})
    came = openvino.run(every_other)
    np.testing.assert_array_equal(came["MOTION_FEATURES"], expected["MOTION_FEATURES"])


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("openvino", {"precision": "f16"}, "precision: expected f32 or bf16, got 'f16'"),
        ("openvino", {"layout": "2"}, "options of openvino: expected precision or .*, got layout"),
        (
            "onnxruntime",
            {"precision": "f32"},
            "options of onnxruntime: expected threads, got precision",
        ),
        ("tflite", {}, "expected onnxruntime or openvino or rtx, got 'tflite'; export"),
    ],
)
def test_what_a_runtime_does_not_know_is_refused(
    graph: Path, name: str, options: dict[str, str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        open_runtime(name, graph, options)


def test_a_signal_after_engines_were_closed_is_handled(graph: Path) -> None:
    script = f"""
import signal
from pathlib import Path
from fgmclip.serve.runtimes import open_runtime

first, second = (open_runtime("openvino", Path({str(graph)!r})) for _ in range(2))
del first
del second
signal.signal(signal.SIGUSR1, lambda *_: print("handled"))
signal.raise_signal(signal.SIGUSR1)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, encoding="utf-8")
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr
