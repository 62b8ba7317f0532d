"""Where a release's engines run, and what that makes of its steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args

from fgmclip.export.errors import ExportError
from fgmclip.export.names import PARTS
from fgmclip.kernels.cuda.abi import KERNELS
from fgmclip.kernels.cuda.binary import copy_binary, find_binary
from fgmclip.kernels.errors import BuildError
from fgmclip.serve.runtimes.libraries import LibraryName

Target = Literal["cpu", "onnx-gpu", "tensorrt", "rtx"]
"""`cpu`: engines inside Python steps; `onnx-gpu`: in Triton's own onnxruntime backend, on a GPU;
`tensorrt`: in Triton's tensorrt backend, built on the machine that serves them; `rtx`: TensorRT for
RTX inside Python steps, built at export."""

TARGETS: tuple[Target, ...] = get_args(Target)

PRECISIONS: dict[Target, tuple[str, ...]] = {
    "cpu": ("fp32", "bf16", "int8", "auto"),
    "onnx-gpu": ("fp32", "fp16"),
    "tensorrt": ("fp16", "fp32", "bf16", "int8"),
    "rtx": ("fp16", "fp32", "bf16", "int8"),
}
"""What can be asked of each target, first what is taken if nothing is."""

ENGINE_FILE = "model.onnx"
"""The graph of a step, by the name that Triton's onnxruntime backend expects as well."""

PLAN_FILE = "model.plan"
"""The engine built from it, by the name that Triton's tensorrt backend expects."""

ALTERNATIVE_CONFIG = "configs/tensorrt.pbtxt"
"""The config of a step with a built engine, where Triton's --model-config-name looks for it."""

GPU_PYTHON_STEPS = ("preprocess",)
"""Python steps that run on a GPU where the engines do."""


def precision_fault(target: Target, precision: str) -> str:
    """Return why a target cannot have a precision, with the remedy; empty if it can.

    Args:
        target: Where the engines run.
        precision: What was asked for.
    """
    allowed = PRECISIONS[target]
    if precision in allowed:
        return ""
    remedy = "name one of them"
    if precision == "auto":
        remedy += ", for no GPU is timed here"
        if engine_library(target):
            remedy += "; 'fgmclip engine build DIR' proves it on the target, in accuracy and speed"
    return f"expected {' or '.join(allowed)} for --target {target}, got {precision}; {remedy}"


def engine_library(target: Target) -> LibraryName | None:
    """Return the library that builds engines from a release's graphs; None if none does."""
    return target if target in ("tensorrt", "rtx") else None


def instance_kind(step: str, target: Target) -> str:
    """Return what a step's instances run on, in the words of Triton's `ModelInstanceGroup.Kind`."""
    if target == "cpu" or step not in (*PARTS, *GPU_PYTHON_STEPS):
        return "KIND_CPU"
    # Without a GPU Triton makes a CPU's instance of KIND_AUTO and refuses KIND_GPU.
    return "KIND_AUTO" if target == "rtx" else "KIND_GPU"


def place(config: Any, step: str, target: Target) -> None:
    """Give a step's config what its target asks for.

    Args:
        config: Triton's `ModelConfig` of the step, for a CPU so far.
        step: Name in the skeleton.
        target: Where the engines run.
    """
    kind = instance_kind(step, target)
    if kind == "KIND_CPU":
        return
    for group in config.instance_group:
        group.kind = group.Kind.Value(kind)
    if step not in PARTS:
        # Frames that lie on the GPU stay there.
        config.parameters["FORCE_CPU_ONLY_INPUT_TENSORS"].string_value = "no"
    elif not runs_in_python(step, target):
        config.backend = "onnxruntime"
        config.parameters.clear()


def tensorrt_config(config: Any) -> Any:
    """Return the config of the same step for Triton's tensorrt backend, which reads `PLAN_FILE`.

    Args:
        config: The step's own, which serves the graph.
    """
    alternative = type(config).FromString(config.SerializeToString())
    alternative.backend = "tensorrt"
    return alternative


def runs_in_python(step: str, target: Target) -> bool:
    """Return whether a step is Python code, not an engine in a backend of its own."""
    return target in ("cpu", "rtx") or step not in PARTS


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
