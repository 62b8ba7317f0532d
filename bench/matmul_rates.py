"""How fast this machine multiplies matrices: what an engine's arithmetic is held against.

A chain of square products with constant weights, run by OpenVINO, whose products are oneDNN's, on
as many threads as the engines. In int8 each product reads int8 and writes int8 again (Q/DQ between
them, as in the engines' graphs), so that what is measured is products, not conversions.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from fgmclip.model.onnx_graph import OPSET
from fgmclip.serve.runtimes import Runtime, open_runtime

Precision = Literal["fp32", "bf16", "int8"]

PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "int8")

SIZE = 1024
"""Rows and columns; of 768 to 3072 none was more than 3 % faster (two cores with AVX-512)."""

LENGTH = 8
"""Products in the chain; the conversions at its ends are shared by all of them."""

_OPENVINO_PRECISION = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}


@dataclass(frozen=True, slots=True)
class MatmulChain:
    """A chain of products, ready to run.

    Attributes:
        precision: Of the products.
        runtime: Runs the chain.
        x: Input f32 [size,size].
        operations: Of one run; a multiply-add is two.
    """

    precision: Precision
    runtime: Runtime
    x: NDArray[np.float32]
    operations: int

    def repeat(self, times: int, number: int) -> None:
        """Run the chain so many times; the number of the call changes nothing."""
        for _ in range(times):
            self.runtime.run({"X": self.x})


def open_chain(
    precision: Precision, folder: Path, *, size: int = SIZE, length: int = LENGTH
) -> MatmulChain:
    """Write and compile a chain of products.

    Args:
        precision: Of the products.
        folder: Where the graph is written.
        size: Rows and columns of every matrix.
        length: Number of products.
    """
    path = folder / f"matmul-{precision}.onnx"
    onnx.save(chain_graph(size, length, quantized=precision == "int8"), path)
    runtime = open_runtime("openvino", path, {"precision": _OPENVINO_PRECISION[precision]})
    x = np.random.default_rng(0).standard_normal((size, size), dtype=np.float32)
    return MatmulChain(precision, runtime, x, operations=2 * length * size**3)


def chain_graph(size: int, length: int, *, quantized: bool) -> onnx.ModelProto:
    """Return the ONNX graph of a chain: X f32 [N,size] to Y f32 [N,size].

    Args:
        size: Rows and columns of the weights.
        length: Number of products.
        quantized: Whether both sides of each product are int8, signed and symmetric.
    """
    random = np.random.default_rng(1)
    nodes: list[onnx.NodeProto] = []
    constants = [
        # Inputs and every product's outputs have variance 1; 4 deviations fit into int8.
        numpy_helper.from_array(np.array(4 / 127, np.float32), "scale"),
        numpy_helper.from_array(np.array(4 / 127 / np.sqrt(size), np.float32), "weight_scale"),
        numpy_helper.from_array(np.array(0, np.int8), "zero"),
    ]
    name = "X"
    for index in range(length):
        weights = random.standard_normal((size, size), dtype=np.float32)
        weight = f"weight_{index}"
        if quantized:
            whole = np.clip(np.rint(weights / 4 * 127), -127, 127).astype(np.int8)
            constants.append(numpy_helper.from_array(whole, f"{weight}_int8"))
            nodes += [
                helper.make_node("QuantizeLinear", [name, "scale", "zero"], [f"q_{index}"]),
                helper.make_node(
                    "DequantizeLinear", [f"q_{index}", "scale", "zero"], [f"x_{index}"]
                ),
                helper.make_node(
                    "DequantizeLinear", [f"{weight}_int8", "weight_scale", "zero"], [weight]
                ),
            ]
            name = f"x_{index}"
        else:
            weights /= np.sqrt(size, dtype=np.float32)
            constants.append(numpy_helper.from_array(weights, weight))
        output = "Y" if index == length - 1 else f"y_{index}"
        nodes.append(helper.make_node("MatMul", [name, weight], [output]))
        name = output
    graph = helper.make_graph(
        nodes,
        "matmul",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, ["N", size])],
        [helper.make_tensor_value_info("Y", TensorProto.FLOAT, ["N", size])],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
