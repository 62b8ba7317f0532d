"""A graph's own types against the precision asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from fgmclip.export.names import Part
from fgmclip.export.tensorrt.errors import GraphRefusedError, PrecisionError
from fgmclip.export.tensorrt.graph_types import products, require_precision, weight_bytes
from fgmclip.export.tensorrt.half import to_half

MakeGraph = Callable[..., onnx.ModelProto]


def test_weights_are_counted_by_type_and_shapes_are_not_weights(make_graph: MakeGraph) -> None:
    model = make_graph(
        helper.make_node("Identity", ["X"], ["Y"], "same"),
        weights={
            "a": np.zeros((3, 4), np.float32),
            "b": np.zeros(4, np.float16),
            "shape": np.zeros(9, np.int64),
        },
    )
    assert weight_bytes(model) == {"fp32": 48, "fp16": 8}


def test_a_half_graph_is_refused_as_fp32_with_node_and_bytes(
    models: dict[Part, onnx.ModelProto],
) -> None:
    half = to_half(models["motion_encoder"], "fp16")
    count = len(products(half))
    name = products(half)[0].node
    with pytest.raises(PrecisionError) as caught:
        require_precision(half, "fp32")
    message = str(caught.value)
    assert caught.value.exit_code == 4
    assert f"expected products in fp32, got {count} of {count} in other types" in message
    assert f"Conv '{name}' multiplies fp16 by fp16" in message
    assert f"{weight_bytes(half)['fp16']:,} bytes in fp16" in message


def test_an_fp32_product_in_half_surroundings_is_refused(
    models: dict[Part, onnx.ModelProto],
) -> None:
    name = products(models["motion_encoder"])[3].node
    half = to_half(models["motion_encoder"], "fp16", keep=[name])
    with pytest.raises(PrecisionError, match=f"got 1 of .*'{name}' multiplies fp32 by fp32"):
        require_precision(half, "fp16")
    assert require_precision(half, "fp16", keep=[name])


def test_the_other_half_type_is_refused(models: dict[Part, onnx.ModelProto]) -> None:
    half = to_half(models["fusion_head"], "bf16")
    with pytest.raises(PrecisionError, match="bytes in bf16"):
        require_precision(half, "fp16")


def test_weights_of_a_third_type_are_refused_though_no_product_reads_them(
    make_graph: MakeGraph,
) -> None:
    model = make_graph(
        helper.make_node("Cast", ["w"], ["c"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Add", ["X", "c"], ["Y"], "sum"),
        weights={"w": np.zeros(4, np.int8)},
    )
    with pytest.raises(PrecisionError, match="weights in int8"):
        require_precision(model, "fp32")


def test_a_graph_whose_shapes_contradict_themselves_is_refused(make_graph: MakeGraph) -> None:
    model = make_graph(
        helper.make_node("MatMul", ["X", "w"], ["Y"], "wrong"),
        weights={"w": np.zeros((5, 4), np.float32)},
    )
    with pytest.raises(GraphRefusedError, match="expected types and shapes that fit together"):
        products(model)


def test_quantised_products_are_int8_whatever_the_types_around_them(quantised: Path) -> None:
    model = onnx.load(quantised)
    found = require_precision(model, "int8")
    assert {item.op for item in found} == {"Conv"}
    assert {item.op for item in products(model) if item not in found} == {"Gemm"}
    for precision in ("fp32", "fp16"):
        with pytest.raises(PrecisionError, match=f"expected products in {precision}.*int8 by int8"):
            require_precision(model, precision)


def test_a_graph_without_quantised_products_is_no_int8(
    models: dict[Part, onnx.ModelProto],
) -> None:
    with pytest.raises(PrecisionError, match="between DequantizeLinear nodes of int8, got none"):
        require_precision(models["motion_encoder"], "int8")
