"""`clip_image_encoder`, `motion_encoder`, `fusion_head`: an engine over a merged batch."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgmclip.serve.runtimes import open_runtime
from fgmclip.serve.runtimes.proven import LOGGER
from fgmclip.serve.steps.step import RequestParameters, StepConfig, Tensors, TritonStep


class EngineStep:
    """Concatenates the requests that Triton merged, runs the engine once, and splits again."""

    def __init__(self, config: StepConfig) -> None:
        """Open the engine that the parameters `runtime` and `engine` name; the rest are options."""
        self._inputs = config.inputs
        options = dict(config.parameters)
        runtime, engine = options.pop("runtime"), options.pop("engine")
        self._runtime = open_runtime(runtime, config.directory / engine, options, gpu=config.gpu)

    def run(
        self, batch: Sequence[tuple[Tensors, RequestParameters]]
    ) -> list[Mapping[str, NDArray[Any]]]:
        """Answer all requests with one execution; shapes were checked by Triton."""
        if len(batch) == 1:
            return [self._runtime.run(batch[0][0])]
        merged = {
            name: np.concatenate([inputs[name] for inputs, _ in batch]) for name in self._inputs
        }
        ends = np.cumsum([inputs[self._inputs[0]].shape[0] for inputs, _ in batch])[:-1]
        split = {name: np.split(rows, ends) for name, rows in self._runtime.run(merged).items()}
        return [
            {name: parts[index] for name, parts in split.items()} for index in range(len(batch))
        ]

    def close(self) -> None:
        """Let a runtime that holds a GPU let go of it."""
        if hasattr(self._runtime, "close"):
            self._runtime.close()


class TritonPythonModel(TritonStep):
    """What Triton loads."""

    def build(self, config: StepConfig) -> EngineStep:
        """Return the engine step; which engine it runs, and why, goes to the server's log."""
        logger = logging.getLogger(LOGGER)
        logger.handlers = [_TritonHandler(self.backend.Logger)]
        logger.setLevel(logging.INFO)
        logger.propagate = False
        return EngineStep(config)


class _TritonHandler(logging.Handler):
    """Hands lines over to Triton's own log."""

    def __init__(self, triton: Any) -> None:
        """Take the `Logger` of Triton's Python backend."""
        super().__init__()
        self._triton = triton

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, as a warning or as information."""
        write = self._triton.log_info if record.levelno < logging.WARNING else self._triton.log_warn
        write(self.format(record))
