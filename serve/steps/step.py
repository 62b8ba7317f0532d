"""What every step is: a plain class over arrays, and the adapter that Triton calls.

Triton's own module `triton_python_backend_utils` exists only inside the server, so it is imported
when the server calls, and the steps themselves run anywhere.
"""

from __future__ import annotations

import importlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Tensors = Mapping[str, NDArray[Any]]
RequestParameters = Mapping[str, str | int | bool]


class StepError(ValueError):
    """A request was refused: the message says what was expected, what came, and the remedy."""


@dataclass(frozen=True, slots=True)
class StepConfig:
    """What a step learns from its `config.pbtxt`.

    Attributes:
        directory: Version folder of the model, where its files lie.
        parameters: `parameters` of the config.
        inputs: Names of the inputs, in the config's order.
        outputs: Names of the outputs, in the config's order.
    """

    directory: Path
    parameters: Mapping[str, str]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @classmethod
    def from_triton(cls, args: Mapping[str, str]) -> StepConfig:
        """Read the arguments that Triton gives to `initialize`."""
        config = json.loads(args["model_config"])
        return cls(
            directory=Path(args["model_repository"]) / args["model_version"],
            parameters={key: value["string_value"] for key, value in config["parameters"].items()},
            inputs=tuple(item["name"] for item in config["input"]),
            outputs=tuple(item["name"] for item in config["output"]),
        )


class Step(Protocol):
    """One model of the repository, over plain arrays."""

    def run(
        self, batch: Sequence[tuple[Tensors, RequestParameters]]
    ) -> Sequence[Mapping[str, NDArray[Any]] | StepError]:
        """Answer each request with its outputs, or with the reason why it is refused."""


def each(step: Any, batch: Sequence[tuple[Tensors, RequestParameters]]) -> list[Any]:
    """Answer requests one by one with `step.answer`, so that a refused one spares the others.

    Every `ValueError` is a refusal: the kernels raise their own, and none of them is ours to hide.
    """
    answers: list[Any] = []
    for inputs, parameters in batch:
        try:
            answers.append(step.answer(inputs, parameters))
        except ValueError as error:
            answers.append(StepError(str(error)))
    return answers


class TritonStep(ABC):
    """Adapter from Triton's Python backend to a `Step`; `model.py` names the step to build."""

    step: Step
    config: StepConfig
    backend: Any

    @abstractmethod
    def build(self, config: StepConfig) -> Step:
        """Return the step that this model runs."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Build the step once, when Triton loads the model."""
        self.backend = importlib.import_module("triton_python_backend_utils")
        self.config = StepConfig.from_triton(args)
        self.step = self.build(self.config)

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer all requests that Triton batched together."""
        return [self._response(answer) for answer in self.step.run(list(map(self._read, requests)))]

    def _read(self, request: Any) -> tuple[dict[str, NDArray[Any]], RequestParameters]:
        tensors = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
        return tensors, json.loads(request.parameters() or "{}")

    def _response(self, answer: Mapping[str, NDArray[Any]] | StepError) -> Any:
        if isinstance(answer, StepError):
            # Invalid argument: a client tells its own mistake from a server's by the code.
            error = self.backend.TritonError(str(answer), self.backend.TritonError.INVALID_ARG)
            return self.backend.InferenceResponse(error=error)
        return self.backend.InferenceResponse(
            [
                self.backend.Tensor(name, np.ascontiguousarray(answer[name]))
                for name in self.config.outputs
            ]
        )
