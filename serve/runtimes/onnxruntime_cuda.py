"""ONNX Runtime on a GPU where it can use one: what serves while no engine is proven."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnxruntime
from numpy.typing import NDArray

from fgmclip.serve.runtimes.onnxruntime_cpu import OnnxRuntime
from fgmclip.serve.runtimes.runtime import Runtime

PROVIDER = "CUDAExecutionProvider"


class OnnxRuntimeCuda:
    """An ONNX graph by ONNX Runtime's CUDA provider.

    Attributes:
        provider: What ONNX Runtime really chose: it takes the CPU where CUDA cannot be loaded.
    """

    def __init__(self, graph: Path, gpu: int) -> None:
        """Load the graph.

        Args:
            graph: The `.onnx` file.
            gpu: Number of the GPU, as CUDA counts.
        """
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            str(graph),
            options,
            # TF32 has fp16's mantissa: not what an fp32 graph is to be compared with.
            providers=[(PROVIDER, {"device_id": gpu, "use_tf32": 0}), "CPUExecutionProvider"],
        )
        self.provider: str = self._session.get_providers()[0]
        self._outputs = [item.name for item in self._session.get_outputs()]

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run the graph; axis 0 of every input and output is the batch."""
        values = self._session.run(self._outputs, dict(inputs))
        return dict(zip(self._outputs, values, strict=True))


def open_fallback(graph: Path, gpu: int | None) -> tuple[Runtime, str]:
    """Load a graph with the best provider that is here.

    Args:
        graph: The `.onnx` file.
        gpu: Number of the GPU, as CUDA counts; None without one.

    Returns:
        The runtime, and ONNX Runtime's name of its provider.
    """
    if gpu is not None and PROVIDER in onnxruntime.get_available_providers():
        runtime = OnnxRuntimeCuda(graph, gpu)
        return runtime, runtime.provider
    return OnnxRuntime(graph), "CPUExecutionProvider"
