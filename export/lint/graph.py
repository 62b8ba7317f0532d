"""A config beside the ONNX graph that it describes: names, types, shapes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError

from fgmclip.export.lint.finding import EXPORT_AGAIN, Finding

# https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3 (TensorProto.DataType) beside
# https://github.com/triton-inference-server/common/blob/main/protobuf/model_config.proto (DataType)
_TYPES: dict[int, str] = {
    onnx.TensorProto.BOOL: "TYPE_BOOL",
    onnx.TensorProto.UINT8: "TYPE_UINT8",
    onnx.TensorProto.INT8: "TYPE_INT8",
    onnx.TensorProto.INT32: "TYPE_INT32",
    onnx.TensorProto.INT64: "TYPE_INT64",
    onnx.TensorProto.FLOAT16: "TYPE_FP16",
    onnx.TensorProto.BFLOAT16: "TYPE_BF16",
    onnx.TensorProto.FLOAT: "TYPE_FP32",
    onnx.TensorProto.STRING: "TYPE_STRING",
}


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output.

    Attributes:
        kind: Triton's name of its type.
        dims: Sizes, the batch axis among them; -1 where any size goes.
    """

    kind: str
    dims: tuple[int, ...]

    def __str__(self) -> str:
        """Return both, for example `TYPE_FP32 [-1,3,224,224]`."""
        return f"{self.kind} [{','.join(map(str, self.dims))}]"


def config_tensor(tensor: Any, *, batched: bool) -> Tensor:
    """Return a tensor of a config, with the batch axis that Triton adds where it batches."""
    kinds = tensor.DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_number
    batch = (-1,) if batched else ()
    return Tensor(kinds[tensor.data_type].name, (*batch, *tensor.dims))


def check_graph(file: Path, where: str, config: Any) -> Iterator[Finding]:
    """Hold a config to its graph, as Triton's onnxruntime backend does when it loads.

    Args:
        file: The ONNX graph; its weights are not looked at.
        where: Its path below the repository.
        config: The step's config.
    """
    try:
        graph = onnx.load(file, load_external_data=False).graph
    except DecodeError as error:
        yield Finding("graph", where, "an ONNX graph", f"{error}", EXPORT_AGAIN)
        return
    weights = {item.name for item in graph.initializer}
    inputs = {item.name: _tensor(item) for item in graph.input if item.name not in weights}
    outputs = {item.name: _tensor(item) for item in graph.output}
    path = f"{config.name}/config.pbtxt"
    for kind, declared, real in (
        ("input", config.input, inputs),
        ("output", config.output, outputs),
    ):
        batched = bool(config.max_batch_size)
        tensors = {item.name: config_tensor(item, batched=batched) for item in declared}
        yield from _check_side(path, kind, tensors, real, batched=batched)


def _check_side(
    path: str,
    side: str,
    config: Mapping[str, Tensor],
    graph: Mapping[str, Tensor],
    *,
    batched: bool,
) -> Iterator[Finding]:
    if set(config) != set(graph):
        yield Finding(
            "graph-names",
            path,
            f"{side}s {', '.join(sorted(graph))}, those of the graph",
            ", ".join(sorted(config)) or "none",
            EXPORT_AGAIN,
        )
    for name in sorted(set(config) & set(graph)):
        ours, its = config[name], graph[name]
        remedy = f"write what the graph has for {name}, or {EXPORT_AGAIN}"
        if ours.kind != its.kind:
            yield Finding("graph-type", path, f"{side} {name} {its.kind}", ours.kind, remedy)
        if batched and its.dims[:1] != (-1,):
            yield Finding(
                "graph-batch",
                path,
                f"a graph that takes any batch, for max_batch_size above 0: {name} [-1,...]",
                str(its),
                f"set max_batch_size: 0, or {EXPORT_AGAIN}",
            )
        # Where the graph takes any size the config may be narrower, never the other way round.
        sizes = list(zip(ours.dims, its.dims, strict=False))[batched:]
        if len(ours.dims) != len(its.dims) or any(real not in (-1, size) for size, real in sizes):
            yield Finding("graph-shape", path, f"{side} {name} {its}", str(ours), remedy)


def _tensor(value: onnx.ValueInfoProto) -> Tensor:
    kind = value.type.tensor_type.elem_type
    dims = value.type.tensor_type.shape.dim
    return Tensor(
        _TYPES.get(kind, onnx.TensorProto.DataType.Name(kind)),
        tuple(dim.dim_value if dim.HasField("dim_value") else -1 for dim in dims),
    )
