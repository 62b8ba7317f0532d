"""Engine steps: merged requests get the answers that each would get alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from fgmclip.serve.runtimes import open_runtime
from fgmclip.serve.steps.engine import EngineStep
from fgmclip.serve.steps.step import StepConfig


@pytest.fixture
def config(tmp_path: Path) -> StepConfig:
    """A graph Y = 2 X + Z over rows of two."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            helper.make_node("Add", ["X", "X"], ["double"]),
            helper.make_node("Add", ["double", "Z"], ["Y"]),
        ],
        "graph",
        [value("X", TensorProto.FLOAT, ["N", 2]), value("Z", TensorProto.FLOAT, ["N", 2])],
        [value("Y", TensorProto.FLOAT, ["N", 2])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, tmp_path / "model.onnx")
    parameters = {"runtime": "onnxruntime", "engine": "model.onnx"}
    return StepConfig(tmp_path, parameters, ("X", "Z"), ("Y",))


def test_merged_requests_are_answered_as_if_alone(config: StepConfig) -> None:
    step = EngineStep(config)
    random = np.random.default_rng(0)
    requests = [
        {name: random.standard_normal((rows, 2), np.float32) for name in ("X", "Z")}
        for rows in (3, 1, 2)
    ]
    merged = step.run([(inputs, {}) for inputs in requests])
    for inputs, answer in zip(requests, merged, strict=True):
        np.testing.assert_allclose(answer["Y"], 2 * inputs["X"] + inputs["Z"], rtol=1e-6)
        (alone,) = step.run([(inputs, {})])
        np.testing.assert_array_equal(answer["Y"], alone["Y"])


def test_an_unknown_runtime_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected onnxruntime or openvino or rtx, got 'other'"):
        open_runtime("other", tmp_path / "model.onnx")
