"""What the real ONNX parser refuses is told with node, operator, reason and remedy."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import helper

from fgmclip.export.tensorrt.builder import BuildOptions, build_engine
from fgmclip.export.tensorrt.errors import GraphRefusedError
from fgmclip.export.tensorrt.library import Library
from fgmclip.export.tensorrt.parser import parse_graph, refusal, tell

MakeGraph = Callable[..., onnx.ModelProto]

FP16 = BuildOptions(precision="fp16", max_batch=4)


def test_an_operator_that_is_not_supported(rtx: Library, make_graph: MakeGraph) -> None:
    model = make_graph(helper.make_node("Det", ["X"], ["Y"], "my_det"), shape=("N", 4, 4))
    with pytest.raises(
        GraphRefusedError,
        match=r"refused the graph: Det 'my_det' \(node 0\): operator not supported; this version "
        r"has no such operator: .*--target onnx-gpu",
    ):
        build_engine(rtx, model, FP16)


def test_an_operator_that_nobody_knows(rtx: Library, make_graph: MakeGraph) -> None:
    model = make_graph(helper.make_node("Mystery", ["X"], ["Y"], "who"))
    with pytest.raises(
        GraphRefusedError, match=r"Mystery 'who' \(node 0\): .*Plugin not found.*no such operator"
    ):
        build_engine(rtx, model, FP16)


def test_types_that_do_not_meet(rtx: Library, make_graph: MakeGraph) -> None:
    model = make_graph(
        helper.make_node("Relu", ["X"], ["r"], "first"),
        helper.make_node("MatMul", ["r", "w"], ["Y"], "my_matmul"),
        weights={"w": np.zeros((4, 4), np.float16)},
    )
    with pytest.raises(GraphRefusedError) as caught:
        build_engine(rtx, model, FP16)
    message = str(caught.value)
    assert "MatMul 'my_matmul' (node 1)" in message
    assert "`A` is of type Float and `B` is of type Half" in message
    assert "cast one side in the graph" in message
    assert "driver" not in message


def test_an_asymmetric_quantisation(rtx: Library, make_graph: MakeGraph) -> None:
    model = make_graph(
        helper.make_node("QuantizeLinear", ["X", "s", "z"], ["q"], "my_q"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["Y"], "my_dq"),
        weights={"s": np.float32(0.1), "z": np.int8(3)},
    )
    with pytest.raises(GraphRefusedError, match=r"'my_q' .*quantise signed and symmetric"):
        build_engine(rtx, model, FP16)


def test_bytes_that_are_no_graph(rtx: Library) -> None:
    logger = rtx.logger([])
    with pytest.raises(GraphRefusedError, match="the file is no ONNX model or was cut short"):
        parse_graph(rtx, rtx.builder(logger), logger, b"no graph")


def test_every_error_is_told_and_an_unknown_one_has_a_remedy_too() -> None:
    errors = [
        SimpleNamespace(
            desc=lambda: "Invalid Node - n\nsomething new In fn at /_src/file.cpp:7)",
            node=lambda: 7,
            node_name=lambda: "n",
            node_operator=lambda: "Op",
        ),
        SimpleNamespace(
            desc=lambda: "", node=lambda: -1, node_name=lambda: "", node_operator=lambda: ""
        ),
    ]
    parser = SimpleNamespace(num_errors=2, get_error=lambda index: errors[index])
    first, second = refusal(parser).split(" | ")
    assert first == tell(errors[0])
    assert first.startswith("Op 'n' (node 7): something new); try a newer version")
    assert second.startswith("no reason given; try a newer version")


def test_a_parser_without_errors_still_has_a_remedy() -> None:
    parser = SimpleNamespace(num_errors=0)
    assert refusal(parser).startswith("it gave no reason; try")
