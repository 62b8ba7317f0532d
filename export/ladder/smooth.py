"""Smoothing: what makes activations hard to quantise moves into the weights that read them.

SmoothQuant (Xiao et al., 2023): channel j of an activation is divided by s_j and the weights that
read it are multiplied by it, s_j = max|X_j|^a / max|W_j|^(1-a). Division goes into the layer that
writes the channel, a norm or a convolution (as in cross-layer equalisation, Nagel et al., 2019), so
the graph computes the same function with the same nodes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime

from fgmclip.export.ladder.graph import Array, Graph, attribute

STRENGTH = 0.5
"""a: 0 leaves all difficulty with the activations, 1 moves all of it into the weights."""

_SAME_CHANNELS = ("Relu", "MaxPool", "AveragePool", "Identity")
"""Operators that let a positive factor of a channel through."""


@dataclass(frozen=True, slots=True)
class Smoothable:
    """An activation whose channels can be scaled.

    Attributes:
        tensor: Its name.
        source: The node that writes it.
        axis: Of its channels.
        readers: Nodes that read it, through nothing but layout, ReLU and pooling.
    """

    tensor: str
    source: onnx.NodeProto
    axis: int
    readers: tuple[onnx.NodeProto, ...]


def smoothable(graph: Graph) -> list[Smoothable]:
    """Return the activations of a graph whose channels can be scaled, in order."""
    ranks = _ranks(graph.model)
    found = []
    for node in graph.nodes:
        if node.op_type not in ("LayerNormalization", "Conv"):
            continue
        if any(graph.constant(name) is None for name in node.input[1:]):
            continue
        tensor = node.output[0]
        axis = 1 if node.op_type == "Conv" else ranks.get(tensor, 0) - 1
        readers = _readers(graph, tensor, axis, ranks)
        if axis >= 1 and readers:
            found.append(Smoothable(tensor, node, axis, tuple(readers)))
    return found


def channel_maxima(
    model: onnx.ModelProto, found: list[Smoothable], inputs: Iterable[Mapping[str, Array]]
) -> dict[str, Array]:
    """Return the largest magnitude [C] of each channel, by tensor, over runs of the graph."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    outputs = {item.name for item in watched.graph.output}
    names = [item.tensor for item in found]
    watched.graph.output.extend(
        onnx.helper.make_empty_tensor_value_info(name) for name in names if name not in outputs
    )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        watched.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    maxima: dict[str, Array] = {}
    for values in inputs:
        for item, came in zip(found, session.run(names, dict(values)), strict=True):
            others = tuple(axis for axis in range(came.ndim) if axis != item.axis)
            largest = np.abs(came).max(axis=others)
            maxima[item.tensor] = np.maximum(maxima.get(item.tensor, largest), largest)
    return maxima


def smooth(graph: Graph, found: list[Smoothable], maxima: Mapping[str, Array]) -> None:
    """Scale channels down where they are written and up where they are read, in place.

    Args:
        graph: The graph.
        found: `smoothable` of it.
        maxima: `channel_maxima` of it.
    """
    for item in found:
        weights = np.max([_reader_maxima(graph, node) for node in item.readers], axis=0)
        activations = maxima[item.tensor]
        alive = (activations > 0) & (weights > 0)
        scale = np.ones_like(activations)
        scale[alive] = activations[alive] ** STRENGTH / weights[alive] ** (1 - STRENGTH)
        _scale_source(graph, item.source, 1 / scale)
        for node in item.readers:
            _scale_reader(graph, node, scale)
    graph.drop_unused()


def _ranks(model: onnx.ModelProto) -> dict[str, int]:
    inferred = onnx.shape_inference.infer_shapes(model)
    values = (*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output)
    ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in values}
    return ranks | {item.name: len(item.dims) for item in model.graph.initializer}


def _readers(
    graph: Graph, tensor: str, axis: int, ranks: Mapping[str, int]
) -> list[onnx.NodeProto]:
    """Return all nodes that read a channel, or none if one of them cannot be scaled."""
    readers: list[onnx.NodeProto] = []
    waiting = [(tensor, axis)]
    while waiting:
        name, axis = waiting.pop()
        if graph.is_output(name):
            return []
        for node in graph.consumers.get(name, []):
            if list(node.input).count(name) != 1 or node.input[0] != name:
                return []
            if node.op_type in _SAME_CHANNELS:
                waiting.append((node.output[0], axis))
            elif node.op_type == "Transpose":
                waiting.append((node.output[0], list(attribute(node, "perm", [])).index(axis)))
            elif node.op_type == "Gather" and attribute(node, "axis", 0) < axis:
                moved = axis - 1 + ranks.get(node.input[1], 0)
                waiting.append((node.output[0], moved))
            elif node.op_type == "Slice" and axis not in _sliced(graph, node, ranks.get(name, 0)):
                waiting.append((node.output[0], axis))
            elif _reads_channels(graph, node, axis, ranks.get(name, 0)):
                readers.append(node)
            else:
                return []
    return readers


def _sliced(graph: Graph, node: onnx.NodeProto, rank: int) -> list[int]:
    """Return the axes that a node cuts; all where that is computed."""
    axes = graph.constant(node.input[3]) if len(node.input) > 3 else None
    return list(range(rank)) if axes is None else [int(axis) % rank for axis in axes]


def _reads_channels(graph: Graph, node: onnx.NodeProto, axis: int, rank: int) -> bool:
    if len(node.input) < 2 or graph.constant(node.input[1]) is None:
        return False
    if node.op_type == "MatMul":
        return axis == rank - 1 and len(graph.constants[node.input[1]].dims) == 2
    if node.op_type == "Gemm":
        return axis == 1 and not attribute(node, "transA", 0)
    return node.op_type == "Conv" and axis == 1 and attribute(node, "group", 1) == 1


def _input_axis(node: onnx.NodeProto) -> int:
    """Return the axis of a reader's weights that its input's channels meet."""
    if node.op_type == "Conv" or (node.op_type == "Gemm" and attribute(node, "transB", 0)):
        return 1
    return 0


def _reader_maxima(graph: Graph, node: onnx.NodeProto) -> Array:
    weights = graph.constant(node.input[1])
    assert weights is not None
    axis = _input_axis(node)
    largest: Array = np.abs(weights).max(axis=tuple({*range(weights.ndim)} - {axis}))
    return largest


def _scale_reader(graph: Graph, node: onnx.NodeProto, scale: Array) -> None:
    weights = graph.constant(node.input[1])
    assert weights is not None
    shape = [1] * weights.ndim
    shape[_input_axis(node)] = -1
    graph.replace_constant(node, 1, weights * scale.reshape(shape))


def _scale_source(graph: Graph, node: onnx.NodeProto, scale: Array) -> None:
    """Scale what a norm or a convolution writes: weights and bias, by output channel."""
    for index in range(1, len(node.input)):
        values = graph.constant(node.input[index])
        assert values is not None
        shape = [-1] + [1] * (values.ndim - 1)
        graph.replace_constant(node, index, values * scale.reshape(shape))
