"""Scales of a Q/DQ graph in half: which of them the half type cannot hold."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import numpy_helper

from fgmclip.export.tensorrt.graph_types import PRODUCTS

Q_DQ = frozenset({"DequantizeLinear", "QuantizeLinear"})

LEAST_ERROR = 0.5 / 127
"""Relative error of a scale that moves the largest int8 value by half a step, as rounding to int8
itself does. Every normal number of fp16 and bf16 is nearer; a subnormal one of fp16 may not be."""


def coarse_outputs(model: onnx.ModelProto, half: int) -> set[str]:
    """Return the outputs of nodes that have to stay fp32 because of their scales.

    A product with such a scale stays fp32 with all of its Q/DQ nodes: a cast between a
    DequantizeLinear and its product would hide from a builder that the product is one of int8.

    Args:
        model: A graph; without Q/DQ nodes nothing is returned.
        half: The ONNX element type of the half precision.
    """
    writers = {name: node for node in model.graph.node for name in node.output}
    weights = {item.name: item for item in model.graph.initializer}
    kind = onnx.helper.tensor_dtype_to_np_dtype(half)

    def coarse(node: onnx.NodeProto) -> bool:
        scale = weights.get(node.input[1])
        if scale is None:
            return True
        values = numpy_helper.to_array(scale).astype(np.float32)
        with np.errstate(over="ignore"):
            error = np.abs(values.astype(kind).astype(np.float32) - values)
        return bool((error > LEAST_ERROR * np.abs(values)).any())

    kept: set[str] = set()
    for node in model.graph.node:
        if node.op_type in PRODUCTS:
            pairs = list(_pairs(node, writers))
            if any(map(coarse, pairs)):
                kept |= {name for item in (node, *pairs) for name in item.output}
    return kept


def _pairs(product: onnx.NodeProto, writers: dict[str, onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """Yield the DequantizeLinear nodes that a product reads, and what quantised their inputs."""
    for name in product.input:
        node = writers.get(name)
        while node is not None and node.op_type in Q_DQ:
            yield node
            node = writers.get(node.input[0])
