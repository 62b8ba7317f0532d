"""A submodule becomes an ONNX graph, and a graph is counted."""

from __future__ import annotations

import contextlib
import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import onnx
import torch
from torch import Tensor, nn

from fgmclip.model.errors import GraphError
from fgmclip.model.network import FgmClip
from fgmclip.model.served_form import served_form

Part = Literal["clip_image_encoder", "motion_encoder", "fusion_head"]

OPSET = 18
"""TensorRT, OpenVINO and ONNX Runtime all read it; older ones lack its LayerNormalization."""

_WEIGHT_SIZE = 1024
"""Initialisers of more elements are weights; the smaller ones may hold shapes."""


@dataclass(frozen=True, slots=True)
class Signature:
    """Names and shapes of a submodule, without the batch.

    Attributes:
        module: What runs.
        axis: Name of the batch axis.
        inputs: Shape by tensor name, in the order of `forward`.
        output: Name of the output.
    """

    module: nn.Module
    axis: str
    inputs: dict[str, tuple[int, ...]]
    output: str

    def zeros(self, batch: int, device: torch.device) -> tuple[Tensor, ...]:
        """Return inputs of zero."""
        return tuple(torch.zeros(batch, *shape, device=device) for shape in self.inputs.values())


def signature(model: FgmClip, part: Part | Literal["classifier"]) -> Signature:
    """Return what a submodule takes and gives.

    Raises:
        GraphError: The model has no such submodule.
    """
    spec = model.spec
    size, frames = spec.visual.image_size, spec.clip.frames
    if part == "clip_image_encoder":
        return Signature(model.image_encoder, "N", {"PIXELS": (3, size, size)}, "VISUAL")
    if part == "classifier":
        return Signature(model.classifier, "B", {"EMBEDDING": (spec.fusion.width,)}, "LOGITS")
    if part == "fusion_head":
        inputs: dict[str, tuple[int, ...]] = {"VISUAL": (frames, spec.visual.width)}
        if spec.motion is not None:
            inputs["MOTION_FEATURES"] = (frames, spec.motion.width)
        return Signature(model.fusion_head, "B", inputs, "EMBEDDING")
    if part != "motion_encoder" or model.motion_encoder is None or spec.motion is None:
        raise GraphError(f"{spec.name} has no submodule {part!r}; it sees frames only")
    size = spec.motion.size
    return Signature(model.motion_encoder, "N", {"MOTION": (3, size, size)}, "MOTION_FEATURES")


def to_onnx(model: FgmClip, part: Part) -> onnx.ModelProto:
    """Return a submodule as an ONNX graph with fp32 weights inside.

    Batch axis dynamic (`N` images, `B` windows), T fixed; `PIXELS` to `VISUAL`, `MOTION` to
    `MOTION_FEATURES`, `VISUAL` and `MOTION_FEATURES` to `EMBEDDING`. The graph is that of the
    module's `served_form`. It says nothing of the machine that wrote it, so equal models give equal
    graphs.

    Args:
        model: In evaluation mode.
        part: Which submodule.

    Raises:
        GraphError: The model has no such submodule, is in training mode, or does not export.
    """
    of = signature(model, part)
    return export_graph(replace(of, module=served_form(of.module)))


def export_graph(of: Signature) -> onnx.ModelProto:
    """Return any submodule as an ONNX graph, as it is defined; see `to_onnx`."""
    if any(module.training for module in of.module.modules()):
        raise GraphError(
            "expected a model in evaluation mode, got training mode; call model.eval()"
        )
    state = next(iter(of.module.state_dict().values()))
    try:
        with _quiet():
            program = torch.onnx.export(
                of.module,
                of.zeros(2, state.device),
                dynamo=True,
                verbose=False,
                opset_version=OPSET,
                input_names=list(of.inputs),
                output_names=[of.output],
                dynamic_shapes=tuple({0: torch.export.Dim(of.axis, min=1)} for _ in of.inputs),
            )
    except torch.onnx.OnnxExporterError as error:
        raise GraphError(f"{of.output}: torch cannot export the submodule: {error}") from error
    assert program is not None  # always so with dynamo
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()
        for value in node.outputs:
            value.metadata_props.clear()
    return program.model_proto


def multiply_adds(graph: onnx.ModelProto) -> int:
    """Count the multiply-adds of a graph for a batch of one.

    Matrix products (those of attention included) and convolutions are counted; norms, activations,
    softmax and sums are not, as is the custom for such figures.

    Raises:
        GraphError: A shape cannot be inferred.
    """
    inferred = onnx.shape_inference.infer_shapes(
        _single_without_weights(graph), strict_mode=True, data_prop=True
    )
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (
            *inferred.graph.value_info,
            *inferred.graph.input,
            *inferred.graph.output,
        )
    } | {item.name: list(item.dims) for item in inferred.graph.initializer}
    return sum(_node_multiply_adds(node, shapes) for node in inferred.graph.node)


def _node_multiply_adds(node: onnx.NodeProto, shapes: dict[str, list[int]]) -> int:
    if node.op_type not in ("MatMul", "Gemm", "Conv", "Einsum"):
        return 0
    try:
        left, right = shapes[node.input[0]], shapes[node.input[1]]
        out = shapes[node.output[0]]
    except KeyError as error:
        raise GraphError(f"{node.name}: the shape of {error} is unknown") from error
    attributes = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
    if node.op_type == "Einsum":
        equation = attributes["equation"].decode().replace(" ", "")
        letters = equation.partition("->")[0].replace(",", "")
        if len(letters) != len(left) + len(right) or not letters.isalpha():
            raise GraphError(f"{node.name}: expected a product of two tensors, got {equation}")
        return math.prod(dict(zip(letters, (*left, *right), strict=True)).values())
    if node.op_type == "Conv":
        depth = math.prod(right[1:])
    else:
        depth = left[-2] if attributes.get("transA", 0) else left[-1]
    if not all((depth, *out)):
        raise GraphError(f"{node.name}: expected known sizes, inferred {left} x {right} -> {out}")
    return depth * math.prod(out)


def _single_without_weights(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph for a batch of one, with weights as inputs: a gigabyte less to copy."""
    light = onnx.ModelProto(ir_version=graph.ir_version, opset_import=graph.opset_import)
    body = light.graph
    body.name = graph.graph.name
    body.node.extend(graph.graph.node)
    body.input.extend(graph.graph.input)
    for item in graph.graph.initializer:
        if math.prod(item.dims) > _WEIGHT_SIZE:
            body.input.append(
                onnx.helper.make_tensor_value_info(item.name, item.data_type, list(item.dims))
            )
        else:
            body.initializer.append(item)
    for value in graph.graph.output:
        body.output.append(onnx.helper.make_empty_tensor_value_info(value.name))
    for value in body.input:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_value = 1
    return light


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's own deprecations and progress to itself; its errors still rise."""
    names: Sequence[str] = ("onnxscript", "onnx_ir", "torch.onnx", "torch.export")
    levels = {name: logging.getLogger(name).level for name in names}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for name in names:
                logging.getLogger(name).setLevel(logging.ERROR)
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
