"""fp16 and bf16 graphs from an fp32 one, for networks that compute in the types of their graph.

Products, and all between them, in half; norms, softmax and other sums over many values in fp32;
inputs and outputs as they were. Of an int8 graph (explicit Q/DQ nodes) the scales and all that is
not quantised become half: integers and the values of scales stay those of the graph for CPUs.

Own code: `onnxruntime.transformers.float16` and
`onnxconverter-common` know fp16 alone and clip weights that do not fit without a word, and NVIDIA's
AutoCast brings torch, which a target may lack.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx
import onnx.inliner
import onnx.version_converter
from onnx import TensorProto, numpy_helper

from fgmclip.export.tensorrt.errors import GraphRefusedError
from fgmclip.export.tensorrt.graph_types import ONNX_TYPES, Precision, value_types
from fgmclip.export.tensorrt.scales import Q_DQ, coarse_outputs

HALVES: tuple[Precision, ...] = ("fp16", "bf16")
"""Precisions that this module makes."""

FP32_OPS = frozenset(
    {
        "BatchNormalization",
        "CumSum",
        "Exp",
        "GlobalAveragePool",
        "GroupNormalization",
        "InstanceNormalization",
        "LayerNormalization",
        "Log",
        "LogSoftmax",
        "LpNormalization",
        "Pow",
        "Reciprocal",
        "ReduceL1",
        "ReduceL2",
        "ReduceMean",
        "ReduceSum",
        "ReduceSumSquare",
        "Softmax",
        "Sqrt",
    }
)
"""Operators that stay in fp32: their sums and powers leave fp16's range or bf16's precision."""

OPAQUE_INPUTS = {"Resize": (1, 2)}
"""Inputs that ONNX defines as fp32 whatever the rest of the node is."""

BF16_OPSET = 22
"""First operator set whose convolutions and poolings know bf16."""

SCALES_OPSET = 19
"""First operator set whose QuantizeLinear and DequantizeLinear know half inputs and scales."""


def to_half(
    model: onnx.ModelProto, precision: Precision, *, keep: Collection[str] = ()
) -> onnx.ModelProto:
    """Return a graph that computes in half; fp32 inputs and outputs stay fp32.

    Args:
        model: An fp32 graph, with Q/DQ nodes or without; left as it is.
        precision: `fp16` or `bf16`: what all that is not quantised computes in.
        keep: Nodes that stay in fp32, beside `FP32_OPS` and products whose scales half cannot hold.

    Raises:
        GraphRefusedError: The graph has branches, or a weight that fp16 cannot hold.
    """
    if precision not in HALVES:
        raise ValueError(
            f"precision: expected {' or '.join(HALVES)}, got {precision}; give the graph as it is"
        )
    return _Converter(_prepared(model, precision), ONNX_TYPES[precision], keep).convert()


def emulate_half(
    model: onnx.ModelProto, precision: Precision, *, keep: Collection[str] = ()
) -> onnx.ModelProto:
    """Return an fp32 graph that rounds every value which `to_half` stores in half.

    That is what a GPU does: half operands, fp32 sums. ONNX Runtime's CPU kernels can run it for
    bf16 too, and a value beyond fp16's range becomes infinite here as it would there.

    Args:
        model: An fp32 graph; left as it is.
        precision: `fp16` or `bf16`.
        keep: Nodes that stay in fp32, beside `FP32_OPS`.
    """
    prepared = _prepared(model, precision)
    return _Converter(prepared, ONNX_TYPES[precision], keep, emulate=True).convert()


def _prepared(model: onnx.ModelProto, precision: Precision) -> onnx.ModelProto:
    """Return a copy without functions, in an operator set that knows the type."""
    copy = onnx.inliner.inline_local_functions(model) if model.functions else model
    opset = max(item.version for item in copy.opset_import if item.domain in ("", "ai.onnx"))
    quantised = any(node.op_type in Q_DQ for node in copy.graph.node)
    least = BF16_OPSET if precision == "bf16" else SCALES_OPSET if quantised else opset
    if opset < least:
        return onnx.version_converter.convert_version(copy, least)
    prepared = onnx.ModelProto()
    prepared.CopyFrom(copy)
    return prepared


class _Converter:
    """One pass over a graph in order; each value is cast at most once to each type."""

    def __init__(
        self, model: onnx.ModelProto, half: int, keep: Collection[str], *, emulate: bool = False
    ) -> None:
        self._model, self._half, self._emulate = model, half, emulate
        # By output: a name is optional, and an empty one would be everybody's.
        self._keep = {node.output[0] for node in model.graph.node if node.name in keep}
        self._keep |= coarse_outputs(model, half)
        types = value_types(model)
        self._floats = {name for name, kind in types.items() if kind == TensorProto.FLOAT}
        self._weights = {item.name: item for item in model.graph.initializer}
        self._nodes: list[onnx.NodeProto] = []
        # Names of a value in half and in fp32, as far as they exist.
        self._in_half: dict[str, str] = {}
        self._in_fp32: dict[str, str] = {name: name for name in self._floats}

    def convert(self) -> onnx.ModelProto:
        graph = self._model.graph
        outputs = {value.name for value in graph.output}
        for node in graph.node:
            self._convert_node(node, outputs)
        used = {name for node in self._nodes for name in node.input}
        kept = [item for item in self._weights.values() if item.name in used | outputs]
        del graph.node[:], graph.initializer[:], graph.value_info[:]
        graph.node.extend(self._nodes)
        graph.initializer.extend(kept)
        return self._model

    def _convert_node(self, node: onnx.NodeProto, outputs: set[str]) -> None:
        if any(attribute.type == onnx.AttributeProto.GRAPH for attribute in node.attribute):
            raise GraphRefusedError(
                f"graph: expected no branches, got {node.op_type} '{node.name}'; export the model "
                "without control flow"
            )
        if node.op_type == "Constant":
            self._fold_constant(node)
            return
        floats = [name for name in (*node.input, *node.output) if name in self._floats]
        half = bool(floats) and node.op_type not in FP32_OPS and node.output[0] not in self._keep
        opaque = OPAQUE_INPUTS.get(node.op_type, ())
        for index, name in enumerate(node.input):
            if name in self._floats:
                wants_half = half and index not in opaque
                node.input[index] = self._half_of(name) if wants_half else self._fp32_of(name)
        self._nodes.append(node)
        if not half:
            return
        if not self._emulate:
            _retype_attributes(node, self._half)
        for index, name in enumerate(node.output):
            if name not in self._floats:
                continue
            node.output[index] = stored = f"{name}/half"
            del self._in_fp32[name]
            if self._emulate:
                self._in_half[name] = self._round(stored, name if name in outputs else None)
                self._in_fp32[name] = self._in_half[name]
            else:
                self._in_half[name] = stored
                if name in outputs:
                    self._cast(stored, TensorProto.FLOAT, name)
                    self._in_fp32[name] = name

    def _fold_constant(self, node: onnx.NodeProto) -> None:
        value = next((item for item in node.attribute if item.name == "value"), None)
        if value is None:
            raise GraphRefusedError(
                f"graph: expected constants as tensors, got Constant '{node.name}' with "
                f"{', '.join(item.name for item in node.attribute)}; export the model again"
            )
        tensor = onnx.TensorProto()
        tensor.CopyFrom(value.t)
        tensor.name = node.output[0]
        self._weights[tensor.name] = tensor

    def _half_of(self, name: str) -> str:
        if name not in self._in_half:
            if name in self._weights:
                self._in_half[name] = self._half_weight(name)
            elif self._emulate:
                self._in_half[name] = self._round(self._in_fp32[name], None)
            else:
                self._in_half[name] = self._cast(name, self._half, f"{name}/half")
        return self._in_half[name]

    def _fp32_of(self, name: str) -> str:
        if name not in self._in_fp32:
            self._in_fp32[name] = self._cast(
                self._in_half[name], TensorProto.FLOAT, f"{name}/float"
            )
        return self._in_fp32[name]

    def _half_weight(self, name: str) -> str:
        values = numpy_helper.to_array(self._weights[name])
        kind = onnx.helper.tensor_dtype_to_np_dtype(self._half)
        with np.errstate(over="ignore"):
            halved = values.astype(kind)
        if not np.isfinite(halved.astype(np.float32)).all():
            raise GraphRefusedError(
                f"weight '{name}': expected values that fit into the half type, got up to "
                f"{np.abs(values).max():.3g}; ask for bf16, or keep its node in fp32"
            )
        if self._emulate:
            halved = halved.astype(np.float32)
        half = f"{name}/half"
        self._weights[half] = onnx.helper.make_tensor(
            half,
            TensorProto.FLOAT if self._emulate else self._half,
            values.shape,
            np.ascontiguousarray(halved).tobytes(),
            raw=True,
        )
        return half

    def _cast(self, source: str, kind: int, target: str) -> str:
        name = f"cast/{target}"
        self._nodes.append(onnx.helper.make_node("Cast", [source], [target], name, to=kind))
        return target

    def _round(self, source: str, target: str | None) -> str:
        stored = self._cast(source, self._half, f"{source}/stored")
        return self._cast(stored, TensorProto.FLOAT, target or f"{source}/rounded")


def _retype_attributes(node: onnx.NodeProto, half: int) -> None:
    """Change the types that a node's attributes name, where its outputs are half now."""
    for attribute in node.attribute:
        if attribute.name in ("to", "dtype") and attribute.i == TensorProto.FLOAT:
            attribute.i = half
        elif attribute.name == "value" and attribute.t.data_type == TensorProto.FLOAT:
            kind = onnx.helper.tensor_dtype_to_np_dtype(half)
            values = numpy_helper.to_array(attribute.t).astype(kind)
            attribute.t.CopyFrom(
                onnx.helper.make_tensor("", half, values.shape, values.tobytes(), raw=True)
            )
