"""Layers against the precision asked for, with a GPU that is pretended."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fgmclip.export.tensorrt.errors import EngineFileError, PrecisionError
from fgmclip.export.tensorrt.graph_types import Product
from fgmclip.export.tensorrt.inspector import (
    Inspection,
    assert_precision,
    explain_refusal,
    inspect_engine,
)
from fgmclip.export.tensorrt.library import Library

PRODUCTS = [
    Product("node_MatMul_1", "MatMul", ("fp16", "fp16")),
    Product("node_MatMul_12", "MatMul", ("fp16", "fp16")),
    Product("node_Conv_3", "Conv", ("fp16", "fp16", "fp16")),
]


def layer(name: str, kind: str, *, field: str = "Format/Datatype", **more: Any) -> dict[str, Any]:
    return {"Name": name, "Inputs": [{"Name": "x", field: kind}], **more}


TYPES_OF_10 = {
    "Layers": [
        layer("node_MatMul_1", "Row major linear FP16 format"),
        layer("__myl_Fused", "Half", Metadata="[ONNX Layer: node_MatMul_12]"),
        layer("node_Conv_3 + node_relu", "Row major linear FP32", Weights={"Type": "Half"}),
        "a layer of which only the name is known",
    ]
}
TYPES_OF_11 = {
    "Layers": [
        layer("node_MatMul_1", "Half", field="DataType"),
        layer("fused", "Half", field="DataType", Metadata="[ONNX Layer: node_MatMul_12]"),
        layer("node_Conv_3", "Half", field="DataType"),
    ]
}


@pytest.mark.parametrize("information", [TYPES_OF_10, TYPES_OF_11], ids=["10", "11"])
def test_every_product_in_the_precision_asked_for_is_proved(information: dict[str, Any]) -> None:
    assert assert_precision(information, PRODUCTS, "fp16") == Inspection(proved=3, unnamed=0)


def test_a_product_in_fp32_is_refused_by_name_and_a_longer_name_is_another() -> None:
    information = {
        "Layers": [
            layer("node_MatMul_1", "Row major linear FP32"),
            layer("node_MatMul_12", "Half"),
        ]
    }
    with pytest.raises(PrecisionError) as caught:
        assert_precision(information, PRODUCTS, "fp16")
    assert "expected products in fp16" in str(caught.value)
    assert "MatMul 'node_MatMul_1' in fp32;" in str(caught.value)
    assert "node_MatMul_12" not in str(caught.value)
    assert caught.value.exit_code == 4


def test_products_that_no_layer_names_are_counted_and_not_claimed() -> None:
    information = {"Layers": [layer("node_Conv_3", "BFloat16"), "node_MatMul_1"]}
    assert assert_precision(information, PRODUCTS, "bf16") == Inspection(proved=1, unnamed=2)


def test_the_inspector_of_a_loaded_engine_is_asked(noting_library: Library, noting: Any) -> None:
    noting.information = json.dumps(TYPES_OF_10)
    assert inspect_engine(noting_library, b"engine") == TYPES_OF_10


@pytest.mark.parametrize(
    ("says", "remedy"),
    [
        (
            "The engine plan file is generated on an incompatible device, expecting compute 8.9 "
            "got compute 8.6, please rebuild.",
            "it was built for another GPU",
        ),
        (
            "The engine plan file is not compatible with this version of TensorRT, expecting "
            "library version 10.13.0 got 10.9.0, please rebuild.",
            "it was built by another version",
        ),
        ("CUDA driver version is insufficient for CUDA runtime version", "a GPU and a driver"),
        ("something else", "build it again here with 'fgmclip engine build'"),
    ],
)
def test_a_refused_engine_is_told_with_the_reason_and_the_remedy(
    noting_library: Library, noting: Any, says: str, remedy: str
) -> None:
    noting.says = says
    with pytest.raises(
        EngineFileError, match=r"TensorRT 10\.13\.0\.35 refused the engine"
    ) as caught:
        inspect_engine(noting_library, b"engine")
    assert f"'{says}'; {remedy}" in str(caught.value)


def test_a_refusal_without_a_word_still_has_a_remedy() -> None:
    assert explain_refusal([]).startswith("'nothing was logged'; build it again")


def test_the_real_library_refuses_an_engine_where_no_gpu_is(rtx: Library) -> None:
    with pytest.raises(EngineFileError, match=r"TensorRT for RTX .* refused the engine"):
        inspect_engine(rtx, b"no engine" * 100)
