"""Looking around in an ONNX graph, and changing the constants in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import numpy_helper

Array = NDArray[np.float32]


class Graph:
    """A model with its nodes by what they read and write.

    Attributes:
        model: The model, changed in place.
        consumers: Nodes that read a tensor.
        constants: Initialisers by name.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        """Index a model."""
        self.model = model
        self.consumers: dict[str, list[onnx.NodeProto]] = {}
        for node in model.graph.node:
            for name in node.input:
                self.consumers.setdefault(name, []).append(node)
        self.constants = {item.name: item for item in model.graph.initializer}
        self._outputs = {item.name for item in model.graph.output}

    @property
    def nodes(self) -> list[onnx.NodeProto]:
        """The nodes, each after those whose outputs it reads."""
        return list(self.model.graph.node)

    def is_output(self, tensor: str) -> bool:
        """Say whether a tensor leaves the graph."""
        return tensor in self._outputs

    def constant(self, name: str) -> Array | None:
        """Return an initialiser's values, or None if the tensor is computed."""
        if name not in self.constants:
            return None
        values: Array = numpy_helper.to_array(self.constants[name])
        return values

    def replace_constant(self, node: onnx.NodeProto, index: int, values: Array) -> None:
        """Give one node an initialiser of its own: equal ones may be shared by many."""
        name = f"{node.name}.{index}"
        tensor = numpy_helper.from_array(np.ascontiguousarray(values), name)
        if name in self.constants:
            self.constants[name].CopyFrom(tensor)
        else:
            self.constants[name] = self.model.graph.initializer.add()
            self.constants[name].CopyFrom(tensor)
        if node.input[index] != name:
            self.consumers[node.input[index]].remove(node)
            self.consumers.setdefault(name, []).append(node)
            node.input[index] = name

    def drop_unused(self) -> None:
        """Remove initialisers that no node reads any more."""
        used = {name for node in self.model.graph.node for name in node.input} | self._outputs
        kept = [item for item in self.model.graph.initializer if item.name in used]
        del self.model.graph.initializer[:]
        self.model.graph.initializer.extend(kept)


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """Return an attribute of a node, or what holds if it is absent."""
    for item in node.attribute:
        if item.name == name:
            return onnx.helper.get_attribute_value(item)
    return default


def fold(source: Path, folded: Path) -> onnx.ModelProto:
    """Let ONNX Runtime compute what is constant in a graph, in standard operators alone.

    Args:
        source: The graph.
        folded: Where the folded one is written.

    Returns:
        The folded graph, every node with a name.
    """
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(folded)
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
    model = onnx.load(folded)
    for index, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{index}"
    return model
