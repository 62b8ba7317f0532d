"""OpenVINO on the CPU."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray

from fgmclip.serve.runtimes.options import positive

PRECISIONS = ("f32", "bf16")


@cache
def core() -> Any:
    """Return the process's one core, which lives as long as the process.

    A core's CPU plugin gives the thread that opens it a stack for signals, and takes it away at its
    end. Of two that end in the order in which they began, the second brings the first one's back,
    which is gone by then: the next signal, Ctrl-C for example, is a segmentation fault.
    """
    return openvino.Core()


class OpenVinoRuntime:
    """An ONNX graph, compiled once for every batch size, in a precision that is always named.

    Left to itself OpenVINO computes fp32 graphs in bf16 wherever the CPU can.
    """

    def __init__(
        self, engine: Path, precision: str = "f32", threads: str = "", streams: str = "1"
    ) -> None:
        """Compile the graph.

        Args:
            engine: The `.onnx` file; the first axis of its inputs and outputs is the batch.
            precision: `f32` or `bf16`: what all that is not quantised in the graph computes in.
            threads: How many threads compute; as many as this process has cores if empty.
            streams: In how many parts a batch is computed side by side, each by its share of the
                threads: they wait for each other once a batch instead of once a layer. One row
                has all threads to itself.

        Raises:
            ValueError: The precision is another, or a number is none.
        """
        if precision not in PRECISIONS:
            raise ValueError(
                f"option precision: expected {' or '.join(PRECISIONS)}, got {precision!r}; "
                "export the release again"
            )
        cores = len(os.sched_getaffinity(0))
        count = positive("threads", threads) if threads else cores
        # Where there are fewer cores than at export, parts would wait for each other.
        parts = min(positive("streams", streams), count)
        model = core().read_model(str(engine))
        # One row first: it has the model to itself, with all threads.
        self._whole = _Requests(model, precision, count, 1)
        self._parted = _Requests(model, precision, count, parts) if parts > 1 else self._whole
        self._outputs = {
            port.get_any_name(): tuple(
                dim.get_length() for dim in list(port.get_partial_shape())[1:]
            )
            for port in model.outputs
        }
        self._inputs = [port.get_any_name() for port in model.inputs]

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run the graph; axis 0 of every input and output is the batch.

        Arrays are lent to OpenVINO, inputs and outputs alike: nothing is copied unless an input is
        not contiguous.
        """
        arrays = [np.ascontiguousarray(inputs[name]) for name in self._inputs]
        batch = len(arrays[0])
        outputs = {
            name: np.empty((batch, *dims), np.float32) for name, dims in self._outputs.items()
        }
        requests = self._whole if batch == 1 else self._parted
        requests.run(arrays, list(outputs.values()))
        return outputs


class _Requests:
    """A compiled model with a request for each stream."""

    def __init__(self, model: Any, precision: str, threads: int, streams: int) -> None:
        config = {
            "PERFORMANCE_HINT": "LATENCY" if streams == 1 else "THROUGHPUT",
            "NUM_STREAMS": streams,
            "INFERENCE_NUM_THREADS": threads,
            # Several engines share the cores: two that pin their threads would meet on one.
            "ENABLE_CPU_PINNING": False,
            "INFERENCE_PRECISION_HINT": precision,
        }
        compiled = core().compile_model(model, "CPU", config)
        self._requests = [compiled.create_infer_request() for _ in range(streams)]

    def run(self, inputs: list[NDArray[Any]], outputs: list[NDArray[Any]]) -> None:
        """Fill `outputs`; each request takes its part of the rows."""
        batch, streams = len(inputs[0]), len(self._requests)
        bounds = [batch * index // streams for index in range(streams + 1)]
        busy = []
        for request, start, end in zip(self._requests, bounds, bounds[1:], strict=False):
            if start == end:
                continue
            for index, array in enumerate(inputs):
                part = openvino.Tensor(array[start:end], shared_memory=True)
                request.set_input_tensor(index, part)
            for index, array in enumerate(outputs):
                part = openvino.Tensor(array[start:end], shared_memory=True)
                request.set_output_tensor(index, part)
            busy.append(request)
        if len(busy) == 1:
            busy[0].infer()
            return
        for request in busy:
            request.start_async()
        for request in busy:
            request.wait()


def computes_bf16() -> bool:
    """Say whether this CPU has instructions for bf16; elsewhere OpenVINO falls back to fp32."""
    capabilities: list[str] = core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return "BF16" in capabilities
