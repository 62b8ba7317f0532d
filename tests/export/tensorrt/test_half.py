"""Half graphs: what is half, what stays fp32, and how far they are from the fp32 graph."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from fgmclip.export.names import PARTS, Part
from fgmclip.export.tensorrt.check_half import centred_cosine, check_half, random_inputs
from fgmclip.export.tensorrt.errors import GraphRefusedError, PrecisionError
from fgmclip.export.tensorrt.graph_types import (
    ONNX_TYPES,
    Precision,
    products,
    value_types,
    weight_bytes,
)
from fgmclip.export.tensorrt.half import FP32_OPS, HALVES, to_half

MakeGraph = Callable[..., onnx.ModelProto]

# Bits of mantissa: 10 in fp16, 7 in bf16.
LEAST: dict[Precision, float] = {"fp16": 0.9999, "bf16": 0.99}


@pytest.mark.parametrize("precision", HALVES)
@pytest.mark.parametrize("part", PARTS)
def test_products_are_half_and_norms_and_the_public_edge_are_not(
    models: dict[Part, onnx.ModelProto], part: Part, precision: Precision
) -> None:
    half = to_half(models[part], precision)
    onnx.checker.check_model(half, full_check=True)
    assert {kind for item in products(half) for kind in item.types} == {precision}
    edges = [*half.graph.input, *half.graph.output]
    assert {edge.type.tensor_type.elem_type for edge in edges} == {TensorProto.FLOAT}
    assert [edge.name for edge in edges] == [
        edge.name for edge in (*models[part].graph.input, *models[part].graph.output)
    ]
    types = value_types(half)
    for node in half.graph.node:
        if node.op_type in FP32_OPS:
            assert ONNX_TYPES[precision] not in {types.get(name) for name in node.input}
    weights = weight_bytes(half)
    assert weights[precision] > 0.9 * sum(weights.values())


@pytest.mark.parametrize("precision", HALVES)
@pytest.mark.parametrize("part", PARTS)
def test_a_half_graph_stays_close_to_its_fp32_graph(
    models: dict[Part, onnx.ModelProto], part: Part, precision: Precision
) -> None:
    cosine = check_half(models[part], precision)
    assert cosine is not None
    assert LEAST[precision] < cosine < 1


@pytest.mark.parametrize("part", PARTS)
def test_onnx_runtime_runs_the_fp16_graph_itself(
    models: dict[Part, onnx.ModelProto], part: Part
) -> None:
    inputs = random_inputs(models[part])
    options = onnxruntime.SessionOptions()
    # At ORT_ENABLE_ALL ONNX Runtime 1.32 dies of a segmentation fault on fp16 attention.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    expected, got = (
        onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        ).run(None, inputs)[0]
        for model in (models[part], to_half(models[part], "fp16"))
    )
    assert got.dtype == np.float32
    assert LEAST["fp16"] < centred_cosine(expected, got) < 1


def test_the_graph_given_is_left_as_it_was(models: dict[Part, onnx.ModelProto]) -> None:
    before = models["fusion_head"].SerializeToString(deterministic=True)
    to_half(models["fusion_head"], "fp16")
    to_half(models["fusion_head"], "bf16")
    assert models["fusion_head"].SerializeToString(deterministic=True) == before


def test_a_node_can_stay_in_fp32(models: dict[Part, onnx.ModelProto]) -> None:
    name = products(models["motion_encoder"])[3].node
    half = to_half(models["motion_encoder"], "fp16", keep=[name])
    types = {item.node: set(item.types) for item in products(half)}
    assert types.pop(name) == {"fp32"}
    assert all(kinds == {"fp16"} for kinds in types.values())


def test_a_value_is_cast_once_however_many_read_it(make_graph: MakeGraph) -> None:
    model = make_graph(
        helper.make_node("MatMul", ["X", "w"], ["a"], "one"),
        helper.make_node("MatMul", ["X", "w"], ["b"], "two"),
        helper.make_node("Add", ["a", "b"], ["Y"], "sum"),
        weights={"w": np.eye(4, dtype=np.float32)},
    )
    half = to_half(model, "fp16")
    casts = [node.output[0] for node in half.graph.node if node.op_type == "Cast"]
    assert casts == ["X/half", "Y"]
    assert len(half.graph.initializer) == 1


def test_constants_become_weights_and_types_in_attributes_follow(make_graph: MakeGraph) -> None:
    value = helper.make_tensor("v", TensorProto.FLOAT, [4], np.ones(4, np.float32))
    model = make_graph(
        helper.make_node("Constant", [], ["c"], "constant", value=value),
        helper.make_node("Cast", ["X"], ["d"], "double_cast", to=TensorProto.DOUBLE),
        helper.make_node("Cast", ["d"], ["f"], "float_cast", to=TensorProto.FLOAT),
        helper.make_node("Mul", ["f", "c"], ["Y"], "product"),
    )
    half = to_half(model, "fp16")
    onnx.checker.check_model(half, full_check=True)
    assert weight_bytes(half) == {"fp16": 8}
    assert all(node.op_type != "Constant" for node in half.graph.node)


def test_scales_of_a_resize_stay_fp32(make_graph: MakeGraph) -> None:
    model = make_graph(
        helper.make_node("Resize", ["X", "", "scales"], ["Y"], "resize"),
        weights={"scales": np.array([1, 1, 2, 2], np.float32)},
        shape=("N", 3, 4, 4),
    )
    half = to_half(model, "fp16")
    onnx.checker.check_model(half, full_check=True)
    assert value_types(half)["scales"] == TensorProto.FLOAT
    assert value_types(half)["X/half"] == TensorProto.FLOAT16


def test_a_weight_beyond_fp16_is_refused_by_name_and_fits_bf16(make_graph: MakeGraph) -> None:
    model = make_graph(
        helper.make_node("MatMul", ["X", "w"], ["Y"], "large"),
        weights={"w": np.full((4, 4), 1e5, np.float32)},
    )
    with pytest.raises(GraphRefusedError, match=r"weight 'w'.*got up to 1e\+05; ask for bf16"):
        to_half(model, "fp16")
    assert weight_bytes(to_half(model, "bf16")) == {"bf16": 32}


def test_an_activation_beyond_fp16_is_found_before_the_build(make_graph: MakeGraph) -> None:
    weights = {"w": np.full((4, 4), 6e4, np.float32), "v": np.full((4, 4), 1e-4, np.float32)}
    model = make_graph(
        helper.make_node("MatMul", ["X", "w"], ["a"], "large"),
        helper.make_node("MatMul", ["a", "v"], ["Y"], "small"),
        weights=weights,
    )
    with pytest.raises(PrecisionError, match=r"Y: expected finite values in fp16.*ask for bf16"):
        check_half(model, "fp16")
    assert check_half(model, "bf16") is not None


def test_a_graph_that_half_turns_into_noise_is_refused(make_graph: MakeGraph) -> None:
    # Adding and taking away 4096 leaves steps of 4 in fp16, larger than the input.
    model = make_graph(
        helper.make_node("Add", ["X", "large"], ["a"], "up"),
        helper.make_node("Sub", ["a", "large"], ["Y"], "down"),
        weights={"large": np.full(4, 4096, np.float32)},
    )
    with pytest.raises(PrecisionError, match="expected a centred cosine to fp32 of at least"):
        check_half(model, "fp16")


def test_branches_are_refused(make_graph: MakeGraph) -> None:
    empty = helper.make_graph([], "branch", [], [])
    node = helper.make_node("If", ["c"], ["Y"], "choice", then_branch=empty, else_branch=empty)
    constant = helper.make_tensor("v", TensorProto.BOOL, [], [True])
    model = make_graph(helper.make_node("Constant", [], ["c"], "c", value=constant), node)
    with pytest.raises(GraphRefusedError):
        to_half(model, "fp16")


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_what_is_no_half_is_refused(
    models: dict[Part, onnx.ModelProto], precision: Precision
) -> None:
    with pytest.raises(ValueError, match=f"expected fp16 or bf16, got {precision}"):
        to_half(models["fusion_head"], precision)


def test_rows_that_differ_only_by_their_mean_have_no_cosine() -> None:
    rows = np.random.default_rng(0).standard_normal((4, 8)) + 100
    shuffled = rows[[1, 2, 3, 0]]
    assert centred_cosine(rows, rows) == pytest.approx(1)
    assert centred_cosine(rows, shuffled) < 0.9
