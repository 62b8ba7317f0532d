"""ONNX graphs against PyTorch at two batch sizes, and their multiply-adds against the formula."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from fgmclip.model.build import build_model
from fgmclip.model.errors import GraphError
from fgmclip.model.network import FgmClip
from fgmclip.model.onnx_graph import (
    OPSET,
    Part,
    export_graph,
    multiply_adds,
    signature,
    to_onnx,
)
from fgmclip.spec import ModelSpec

SpecFactory = Callable[..., ModelSpec]

HEADS: dict[str, dict[str, Any]] = {
    "attention of two layers, mvsm": {"align": {"method": "attention", "heads": 2, "layers": 2}},
    "dtw, mvsm, prompts": {
        "align": {"method": "dtw", "projection_width": 8},
        "context": {"source": "prompts", "prompts": ["a gym", "a field"]},
    },
    "unaligned, concat, scenes": {
        "align": {"method": "none"},
        "fusion": {"method": "concat", "width": 12},
        "context": {"source": "classifier", "classes": 4},
    },
    "frames alone, tcn": {
        "motion": None,
        "align": {"method": "none"},
        "fusion": {"temporal": "tcn", "width": 12},
    },
}


def assert_equal_to_torch(model: FgmClip, part: Part, graph: onnx.ModelProto) -> None:
    of = signature(model, part)
    session = onnxruntime.InferenceSession(
        graph.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    assert [item.name for item in session.get_inputs()] == list(of.inputs)
    assert [item.name for item in session.get_outputs()] == [of.output]
    assert all(item.shape == [of.axis, *of.inputs[item.name]] for item in session.get_inputs())
    for batch in (1, 3):
        random = np.random.default_rng(batch)
        inputs = {
            name: random.standard_normal((batch, *shape), dtype=np.float32)
            for name, shape in of.inputs.items()
        }
        with torch.inference_mode():
            expected = of.module(*map(torch.from_numpy, inputs.values())).numpy()
        came = session.run(None, inputs)[0]
        assert came.shape == expected.shape
        np.testing.assert_allclose(came, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("head", HEADS)
def test_every_fusion_head_is_equal_to_pytorch(tiny: SpecFactory, head: str) -> None:
    model = build_model(tiny(**HEADS[head]), seed=1)
    assert_equal_to_torch(model, "fusion_head", to_onnx(model, "fusion_head"))


@pytest.mark.parametrize("part", ["clip_image_encoder", "motion_encoder"])
def test_encoders_are_equal_to_pytorch(tiny: SpecFactory, part: Part) -> None:
    model = build_model(tiny(), seed=1)
    graph = to_onnx(model, part)
    onnx.checker.check_model(graph)
    assert_equal_to_torch(model, part, graph)
    assert graph.opset_import[0].version == OPSET
    # Neither paths of the exporting machine nor weights outside the graph.
    assert b".py" not in graph.SerializeToString()
    assert not any(item.external_data for item in graph.graph.initializer)


def test_equal_models_give_equal_graphs(tiny: SpecFactory) -> None:
    one, other = (
        to_onnx(build_model(tiny(align={"method": "none"}), seed=1), "fusion_head")
        for _ in range(2)
    )
    assert one.SerializeToString(deterministic=True) == other.SerializeToString(deterministic=True)


def test_multiply_adds_follow_from_the_layers(tiny: SpecFactory) -> None:
    spec = tiny(motion=None, align={"method": "none"}, fusion={"method": "concat", "width": 12})
    model = build_model(spec, seed=1)
    assert multiply_adds(to_onnx(model, "fusion_head")) == 5 * 16 * 12
    # One 16-pixel patch grid of 2x2 and a class token: 5 tokens of width 16, one head of width 8.
    tokens, width = 5, 16
    patches = 4 * 3 * 16 * 16 * width
    attention = 4 * tokens * width * width + 2 * tokens * tokens * width
    feed_forward = 8 * tokens * width * width
    expected = patches + attention + feed_forward + width * 16
    assert multiply_adds(export_graph(signature(model, "clip_image_encoder"))) == expected


def test_what_does_not_export_is_refused(tiny: SpecFactory) -> None:
    model = build_model(tiny(motion=None, align={"method": "none"}), seed=1)
    with pytest.raises(GraphError, match="frames only"):
        to_onnx(model, "motion_encoder")
    with pytest.raises(GraphError, match=r"model\.eval"):
        to_onnx(model.train(), "fusion_head")


@pytest.mark.parametrize(
    ("equation", "left", "right", "expected"),
    [
        ("bhqd,bhkd->bhqk", [1, 2, 5, 7], [1, 2, 6, 7], 2 * 5 * 6 * 7),
        ("ij,jk->ik", [3, 4], [4, 5], 60),
    ],
)
def test_products_written_as_einsum_are_counted(
    equation: str, left: list[int], right: list[int], expected: int
) -> None:
    inputs = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in (("left", left), ("right", right))
    ]
    output = onnx.helper.make_tensor_value_info("out", onnx.TensorProto.FLOAT, None)
    node = onnx.helper.make_node("Einsum", ["left", "right"], ["out"], equation=equation)
    graph = onnx.helper.make_graph([node], "einsum", inputs, [output])
    opset = [onnx.helper.make_opsetid("", OPSET)]
    assert multiply_adds(onnx.helper.make_model(graph, opset_imports=opset)) == expected
