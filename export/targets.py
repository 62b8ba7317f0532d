"""Where a release's engines run, and what that makes of its steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args

from fgmclip.export.errors import ExportError
from fgmclip.export.names import PARTS
from fgmclip.kernels.cuda.abi import KERNELS
from fgmclip.kernels.cuda.binary import copy_binary, find_binary
from fgmclip.kernels.errors import BuildError

Target = Literal["cpu", "onnx-gpu"]
"""`cpu`: engines inside Python steps; `onnx-gpu`: in Triton's own onnxruntime backend, on a GPU."""

TARGETS: tuple[Target, ...] = get_args(Target)

ENGINE_FILE = "model.onnx"
"""The engine of a step, by the name that Triton's onnxruntime backend expects as well."""

GPU_PYTHON_STEPS = ("preprocess",)
"""Python steps that run on a GPU where the engines do."""


def place(config: Any, step: str, target: Target) -> None:
    """Give a step's config what its target asks for.

    Args:
        config: Triton's `ModelConfig` of the step, for a CPU so far.
        step: Name in the skeleton.
        target: Where the engines run.
    """
    if target == "cpu" or step not in (*PARTS, *GPU_PYTHON_STEPS):
        return
    for group in config.instance_group:
        group.kind = group.KIND_GPU
    if step in PARTS:
        config.backend = "onnxruntime"
        config.parameters.clear()
    else:
        # Frames that lie on the GPU stay there.
        config.parameters["FORCE_CPU_ONLY_INPUT_TENSORS"].string_value = "no"


def runs_in_python(step: str, target: Target) -> bool:
    """Return whether a step is Python code, not an engine in a backend of its own."""
    return target == "cpu" or step not in PARTS


def add_gpu_kernels(kernels: Path) -> None:
    """Put the CUDA kernels into a release's own copy of the kernels.

    Args:
        kernels: The folder `fgmclip/kernels` of a step.

    Raises:
        ExportError: They were not built.
    """
    try:
        copy_binary(find_binary(KERNELS), kernels / "cuda")
    except BuildError as error:
        raise ExportError(f"target with a GPU: {error}") from error
