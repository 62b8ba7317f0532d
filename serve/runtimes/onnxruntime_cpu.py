"""ONNX Runtime on the CPU."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnxruntime
from numpy.typing import NDArray

from fgmclip.serve.runtimes.options import positive


class OnnxRuntime:
    """An ONNX graph in fp32, one session for all threads of this process's cores."""

    def __init__(self, engine: Path, threads: str = "") -> None:
        """Load the graph.

        Args:
            engine: The `.onnx` file.
            threads: How many threads compute; as many as this process has cores if empty.

        Raises:
            ValueError: The number is none.
        """
        options = onnxruntime.SessionOptions()
        cores = len(os.sched_getaffinity(0))
        options.intra_op_num_threads = positive("threads", threads) if threads else cores
        # Several engines share the cores: one that spins while it waits takes them from another.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            str(engine), options, providers=["CPUExecutionProvider"]
        )
        self._inputs = [item.name for item in self._session.get_inputs()]
        self._outputs = [item.name for item in self._session.get_outputs()]

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run the graph; axis 0 of every input and output is the batch."""
        values = self._session.run(self._outputs, {name: inputs[name] for name in self._inputs})
        return dict(zip(self._outputs, values, strict=True))
