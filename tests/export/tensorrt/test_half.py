"""Half graphs: what is half, what stays fp32, and how far they are from the fp32 graph."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from fgmclip.export.names import PARTS, Part
from fgmclip.export.tensorrt.builder import BuildOptions, build_engine
from fgmclip.export.tensorrt.check_half import (
    LEAST_COSINE,
    centred_cosine,
    check_half,
    random_inputs,
)
from fgmclip.export.tensorrt.errors import GraphRefusedError, PrecisionError
from fgmclip.export.tensorrt.graph_types import (
    ONNX_TYPES,
    Precision,
    products,
    require_precision,
    value_types,
    weight_bytes,
)
from fgmclip.export.tensorrt.half import FP32_OPS, HALVES, to_half
from fgmclip.export.tensorrt.library import Library
from fgmclip.export.tensorrt.scales import Q_DQ, coarse_outputs

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


def q_dq(scale: float, weight_scales: list[float]) -> tuple[list[Any], dict[str, Any]]:
    """Return the nodes and constants of Y = X W with both quantised, W [4,4] by column."""
    nodes = [
        helper.make_node("QuantizeLinear", ["X", "s", "z"], ["x8"], "quantize"),
        helper.make_node("DequantizeLinear", ["x8", "s", "z"], ["x"], "dequantize"),
        helper.make_node("DequantizeLinear", ["w8", "t", "y"], ["w"], "weights", axis=1),
        helper.make_node("MatMul", ["x", "w"], ["Y"], "product"),
    ]
    constants = {
        "s": np.float32(scale),
        "z": np.int8(0),
        "w8": np.arange(-8, 8, dtype=np.int8).reshape(4, 4),
        "t": np.array(weight_scales, np.float32),
        "y": np.zeros(4, np.int8),
    }
    return nodes, constants


@pytest.mark.parametrize("precision", HALVES)
def test_a_graph_with_q_dq_nodes_keeps_its_integers_and_gets_scales_in_half(
    quantised: Path, rtx: Library, precision: Precision
) -> None:
    given = onnx.load(quantised)
    half = to_half(given, precision)
    onnx.checker.check_model(half, full_check=True)
    found = require_precision(half, "int8")
    assert {item.types[:2] for item in found} == {("int8", "int8")}
    # The same integers, and as many of them.
    before, after = weight_bytes(given), weight_bytes(half)
    assert after["int8"] == before["int8"]
    assert after[precision] == before["fp32"] / 2
    types = value_types(half)
    pairs = [node for node in half.graph.node if node.op_type in Q_DQ]
    assert pairs
    assert {types[node.input[1]] for node in pairs} == {ONNX_TYPES[precision]}
    # Parsed, typed and built: TensorRT for RTX refuses types that do not fit.
    assert build_engine(rtx, half, BuildOptions("int8")).data[:4] == b"vtrt"


@pytest.mark.parametrize("precision", HALVES)
def test_a_q_dq_graph_in_half_stays_close_to_the_one_for_cpus(
    quantised: Path, precision: Precision
) -> None:
    cosine = check_half(onnx.load(quantised), precision)
    assert cosine is not None
    assert LEAST_COSINE < cosine < 1


@pytest.mark.parametrize(
    ("scale", "weight_scales", "kept"),
    [
        (0.1, [0.1] * 4, False),
        # Subnormal in fp16, and near enough to a number that it has.
        (0.1, [0.1, 2.0**-20, 0.1, 0.1], False),
        (0.1, [0.1, 1.1 * 2.0**-23, 0.1, 0.1], True),
        (1e-9, [0.1] * 4, True),
        (1e5, [0.1] * 4, True),
    ],
)
def test_a_product_with_a_scale_that_fp16_does_not_hold_stays_fp32_and_int8(
    make_graph: MakeGraph, scale: float, weight_scales: list[float], kept: bool
) -> None:
    nodes, constants = q_dq(scale, weight_scales)
    half = to_half(make_graph(*nodes, weights=constants), "fp16")
    onnx.checker.check_model(half, full_check=True)
    assert [item.types for item in require_precision(half, "int8")] == [("int8", "int8")]
    types = value_types(half)
    pairs = [node for node in half.graph.node if node.op_type in Q_DQ]
    expected = TensorProto.FLOAT if kept else TensorProto.FLOAT16
    assert {types[node.input[1]] for node in pairs} == {expected}
    # No cast between a DequantizeLinear and its product: a builder looks for the pair.
    product = next(node for node in half.graph.node if node.op_type == "MatMul")
    writers = {name: node.op_type for node in half.graph.node for name in node.output}
    assert [writers[name] for name in product.input] == ["DequantizeLinear"] * 2


def test_bf16_holds_every_scale(make_graph: MakeGraph) -> None:
    nodes, constants = q_dq(1e-9, [1e-30, 0.1, 7.3, 1e30])
    half = to_half(make_graph(*nodes, weights=constants), "bf16")
    assert coarse_outputs(half, TensorProto.BFLOAT16) == set()
    assert weight_bytes(half)["bf16"] == 2 * 5


def test_keeping_a_node_by_name_does_not_keep_those_without_one(make_graph: MakeGraph) -> None:
    model = make_graph(
        helper.make_node("MatMul", ["X", "w"], ["a"]),
        helper.make_node("MatMul", ["a", "w"], ["Y"], "kept"),
        weights={"w": np.eye(4, dtype=np.float32)},
    )
    kinds = [item.types for item in products(to_half(model, "fp16", keep=["kept"]))]
    assert kinds == [("fp16", "fp16"), ("fp32", "fp32")]


def test_rows_that_differ_only_by_their_mean_have_no_cosine() -> None:
    rows = np.random.default_rng(0).standard_normal((4, 8)) + 100
    shuffled = rows[[1, 2, 3, 0]]
    assert centred_cosine(rows, rows) == pytest.approx(1)
    assert centred_cosine(rows, shuffled) < 0.9
