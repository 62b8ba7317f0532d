"""OpenVINO on the CPU."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray

PRECISIONS = ("f32", "bf16")


class OpenVinoRuntime:
    """An ONNX graph, compiled once for every batch size, in a precision that is always named.

    Left to itself OpenVINO computes fp32 graphs in bf16 wherever the CPU can.
    """

    def __init__(self, engine: Path, precision: str = "f32") -> None:
        """Compile the graph.

        Args:
            engine: The `.onnx` file; the first axis of its inputs and outputs is the batch.
            precision: `f32` or `bf16`: what all that is not quantised in the graph computes in.

        Raises:
            ValueError: The precision is another.
        """
        if precision not in PRECISIONS:
            raise ValueError(
                f"option precision: expected {' or '.join(PRECISIONS)}, got {precision!r}; "
                "export the release again"
            )
        config = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": len(os.sched_getaffinity(0)),
            # Several engines share the cores: two that pin their threads would meet on one.
            "ENABLE_CPU_PINNING": False,
            "INFERENCE_PRECISION_HINT": precision,
        }
        model = openvino.Core().compile_model(str(engine), "CPU", config)
        self._request = model.create_infer_request()
        self._inputs = [port.get_any_name() for port in model.inputs]
        self._outputs = {
            port.get_any_name(): tuple(
                dim.get_length() for dim in list(port.get_partial_shape())[1:]
            )
            for port in model.outputs
        }

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run the graph; axis 0 of every input and output is the batch.

        Arrays are lent to OpenVINO, inputs and outputs alike: nothing is copied unless an input is
        not contiguous.
        """
        batch = 0
        for index, name in enumerate(self._inputs):
            array = np.ascontiguousarray(inputs[name])
            batch = len(array)
            self._request.set_input_tensor(index, openvino.Tensor(array, shared_memory=True))
        outputs: dict[str, NDArray[Any]] = {}
        for index, (name, dims) in enumerate(self._outputs.items()):
            outputs[name] = np.empty((batch, *dims), np.float32)
            self._request.set_output_tensor(
                index, openvino.Tensor(outputs[name], shared_memory=True)
            )
        self._request.infer()
        return outputs


def computes_bf16() -> bool:
    """Say whether this CPU has instructions for bf16; elsewhere OpenVINO falls back to fp32."""
    capabilities: list[str] = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return "BF16" in capabilities
