"""What every step is: a plain class over arrays, and the adapter that Triton calls.

Triton's own module `triton_python_backend_utils` exists only inside the server, so it is imported
when the server calls, and the steps themselves run anywhere.
"""

from __future__ import annotations

import importlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    # Most steps come without the kernels.
    from fgmclip.kernels.cuda.dlpack import DeviceTensor

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
        types: Triton's data type of each output, for example `TYPE_FP32`.
        gpu: Number of the GPU that this instance is to run on; None for a CPU.
    """

    directory: Path
    parameters: Mapping[str, str]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    types: Mapping[str, str] = field(default_factory=dict)
    gpu: int | None = None

    @classmethod
    def from_triton(cls, args: Mapping[str, str]) -> StepConfig:
        """Read the arguments that Triton gives to `initialize`."""
        config = json.loads(args["model_config"])
        return cls(
            directory=Path(args["model_repository"]) / args["model_version"],
            parameters={key: value["string_value"] for key, value in config["parameters"].items()},
            inputs=tuple(item["name"] for item in config["input"]),
            outputs=tuple(item["name"] for item in config["output"]),
            types={item["name"]: item["data_type"] for item in config["output"]},
            gpu=(
                int(args["model_instance_device_id"])
                if args["model_instance_kind"] == "GPU"
                else None
            ),
        )


class Step(Protocol):
    """One model of the repository, over plain arrays."""

    def run(
        self, batch: Sequence[tuple[Tensors, RequestParameters]]
    ) -> Sequence[Mapping[str, NDArray[Any]] | StepError]:
        """Answer each request with its outputs, or with the reason why it is refused."""


def each(step: Any, batch: Sequence[tuple[Any, RequestParameters]]) -> list[Any]:
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

    def finalize(self) -> None:
        """Let a step that holds a device let go of it, when Triton unloads the model."""
        if hasattr(self.step, "close"):
            self.step.close()

    def _read(self, request: Any) -> tuple[dict[str, Any], RequestParameters]:
        tensors = {tensor.name(): self._taken(tensor) for tensor in request.inputs()}
        return tensors, json.loads(request.parameters() or "{}")

    def _taken(self, tensor: Any) -> NDArray[Any] | DeviceTensor:
        """Return an input as an array; as it is, if it lies on a GPU and the step has one."""
        if self.config.gpu is None or tensor.is_cpu():
            array: NDArray[Any] = tensor.as_numpy()
            return array
        from fgmclip.kernels.cuda.dlpack import from_capsule

        return from_capsule(tensor.to_dlpack(), tensor.name())

    def _given(self, name: str, value: NDArray[Any] | DeviceTensor) -> Any:
        """Return an output as Triton's tensor, without a copy where it lies on a GPU."""
        if isinstance(value, np.ndarray):
            return self.backend.Tensor(name, np.ascontiguousarray(value))
        from fgmclip.kernels.cuda.dlpack import hand_over

        return hand_over(value, lambda capsule: self.backend.Tensor.from_dlpack(name, capsule))

    def _response(self, answer: Mapping[str, Any] | StepError) -> Any:
        if isinstance(answer, StepError):
            # Invalid argument: a client tells its own mistake from a server's by the code.
            error = self.backend.TritonError(str(answer), self.backend.TritonError.INVALID_ARG)
            return self.backend.InferenceResponse(error=error)
        return self.backend.InferenceResponse(
            [self._given(name, answer[name]) for name in self.config.outputs]
        )
