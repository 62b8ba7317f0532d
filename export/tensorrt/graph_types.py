"""The types that a graph itself carries: what a strongly typed network will compute in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, get_args

import onnx
from onnx import TensorProto

from fgmclip.export.tensorrt.errors import GraphRefusedError, PrecisionError

Precision = Literal["fp32", "fp16", "bf16", "int8"]
"""What an engine is asked for; `int8` asks for a graph that carries its own Q/DQ nodes."""

PRECISIONS: tuple[Precision, ...] = get_args(Precision)

ONNX_TYPES: dict[str, int] = {
    "fp32": TensorProto.FLOAT,
    "fp16": TensorProto.FLOAT16,
    "bf16": TensorProto.BFLOAT16,
}

PRODUCTS = frozenset({"Conv", "ConvTranspose", "Einsum", "Gemm", "MatMul"})
"""Operators that hold nearly all arithmetic; their operands' type is the graph's precision."""

# Integers that a graph computes shapes with are no weights.
_WEIGHT_TYPES: dict[int, str] = {
    TensorProto.FLOAT: "fp32",
    TensorProto.DOUBLE: "fp64",
    TensorProto.FLOAT16: "fp16",
    TensorProto.BFLOAT16: "bf16",
    TensorProto.INT8: "int8",
    TensorProto.UINT8: "uint8",
    TensorProto.INT4: "int4",
    TensorProto.UINT4: "uint4",
    TensorProto.FLOAT8E4M3FN: "fp8",
    TensorProto.FLOAT8E5M2: "fp8",
}


@dataclass(frozen=True)
class Product:
    """A matrix product or convolution.

    Attributes:
        node: Its node's name.
        op: Its operator.
        types: Types of its operands; of a dequantised one, the type before.
    """

    node: str
    op: str
    types: tuple[str, ...]

    @property
    def quantised(self) -> bool:
        """Whether both factors were quantised to signed bytes."""
        return set(self.types[:2]) == {"int8"}


def value_types(model: onnx.ModelProto) -> dict[str, int]:
    """Return the ONNX element type of every value that has one, weights included.

    Raises:
        GraphRefusedError: The graph contradicts itself.
    """
    try:
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    except onnx.shape_inference.InferenceError as error:
        reason = str(error).strip().splitlines()[-1]
        raise GraphRefusedError(
            f"graph: expected types and shapes that fit together, got '{reason}'; export the "
            "checkpoint again, or mend the file"
        ) from error
    graph = inferred.graph
    types = {
        value.name: value.type.tensor_type.elem_type
        for value in (*graph.input, *graph.value_info, *graph.output)
    }
    return types | {tensor.name: tensor.data_type for tensor in graph.initializer}


def weight_bytes(model: onnx.ModelProto) -> dict[str, int]:
    """Return how many bytes of weights a graph has in each type, largest first."""
    count: Counter[str] = Counter()
    for tensor in model.graph.initializer:
        name = _WEIGHT_TYPES.get(tensor.data_type)
        if name is not None:
            elements = 1
            for size in tensor.dims:
                elements *= size
            bits = (
                4
                if name.endswith("int4")
                else 8 * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
            )
            count[name] += (elements * bits + 7) // 8
    return dict(count.most_common())


def products(model: onnx.ModelProto) -> list[Product]:
    """Return every product of a graph with its operands' types."""
    types = value_types(model)
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear":
            # The engine multiplies what was quantised; the scale comes after.
            types[node.output[0]] = types.get(node.input[0], 0)
    return [
        Product(
            node.name,
            node.op_type,
            tuple(type_name(types.get(value, 0)) for value in node.input if value),
        )
        for node in model.graph.node
        if node.op_type in PRODUCTS
    ]


def weight_types() -> frozenset[int]:
    """Return the ONNX element types that weights have; integers of shapes are none."""
    return frozenset(_WEIGHT_TYPES)


def type_name(element: int) -> str:
    """Return our name of an ONNX element type."""
    return _WEIGHT_TYPES.get(element, "another type")


def require_precision(
    model: onnx.ModelProto, precision: Precision, *, keep: Collection[str] = ()
) -> list[Product]:
    """Refuse a graph that would not compute in the precision asked for.

    A strongly typed network computes in the types of its graph; nothing else decides.

    Args:
        model: The graph as the builder will get it.
        precision: What was asked for.
        keep: Nodes that stay in fp32 on purpose.

    Returns:
        The graph's products in that precision.

    Raises:
        PrecisionError: A product has operands of another type, or weights have a third type. Of
            an int8 graph: no product is quantised; which ones are is the ladder's choice.
    """
    found = products(model)
    if precision == "int8":
        return _quantised(found)
    right = [item for item in found if set(item.types) == {precision}]
    wrong = [item for item in found if item not in right and item.node not in keep]
    weights = weight_bytes(model)
    foreign = {name: size for name, size in weights.items() if name not in (precision, "fp32")}
    if not wrong and not foreign:
        return right
    evidence = ", ".join(f"{size:,} bytes in {name}" for name, size in weights.items()) or "none"
    reasons = [f"{item.op} '{item.node}' multiplies {' by '.join(item.types)}" for item in wrong]
    more = [f"and {len(reasons) - 3} more"] if len(reasons) > 3 else []
    reasons = reasons[:3] + more or [f"weights in {', '.join(foreign)}"]
    raise PrecisionError(
        f"graph: expected products in {precision}, got {len(wrong)} of {len(found)} in other "
        f"types ({'; '.join(reasons)}); weights: {evidence}; ask for the precision that the graph "
        "has, or give the fp32 graph, which is converted"
    )


def _quantised(found: list[Product]) -> list[Product]:
    right = [item for item in found if item.quantised]
    if not right:
        raise PrecisionError(
            f"graph: expected products between DequantizeLinear nodes of int8, got none among "
            f"{len(found)}; quantise it first ('fgmclip export --precision int8'), or ask for fp16"
        )
    return right
