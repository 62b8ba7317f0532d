"""What half precision costs in accuracy, from ONNX Runtime on this CPU, before any engine."""

from __future__ import annotations

import importlib.util
from collections.abc import Collection
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from fgmclip.export.tensorrt.errors import PrecisionError
from fgmclip.export.tensorrt.graph_types import Precision
from fgmclip.export.tensorrt.half import emulate_half

Array = NDArray[np.float32]

LEAST_COSINE = 0.98
"""Least mean-centred cosine to fp32, as the gate asks of clips."""

ROWS = 4


def centred_cosine(expected: Array, got: Array) -> float:
    """Return the smallest cosine of any row, the mean over rows taken off first.

    Rows of different frames already reach a raw cosine of 0.97: what tells them apart is what is
    left without their mean.

    Args:
        expected: Rows to compare with, [N,...].
        got: Rows to compare, [N,...].
    """
    mean = expected.mean(axis=0)
    left = (expected - mean).reshape(len(expected), -1).astype(np.float64)
    right = (got - mean).reshape(len(got), -1).astype(np.float64)
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    cosines = np.einsum("nd,nd->n", left, right) / np.maximum(norms, np.finfo(np.float64).tiny)
    return float(cosines.min())


def check_half(
    model: onnx.ModelProto, precision: Precision, *, keep: Collection[str] = ()
) -> float | None:
    """Hold an emulated half graph to its fp32 graph on random inputs.

    Args:
        model: The fp32 graph.
        precision: `fp16` or `bf16`.
        keep: Nodes that stay in fp32.

    Returns:
        The smallest mean-centred cosine of any output's row; None without ONNX Runtime.

    Raises:
        PrecisionError: An output is not finite, or too far from fp32.
    """
    if importlib.util.find_spec("onnxruntime") is None:
        return None
    inputs = random_inputs(model)
    expected = _run(model, inputs)
    got = _run(emulate_half(model, precision, keep=keep), inputs)
    cosine = 1.0
    for output, left, right in zip(model.graph.output, expected, got, strict=True):
        if not np.isfinite(right).all():
            raise PrecisionError(
                f"{output.name}: expected finite values in {precision}, got NaN or infinity; "
                f"{'ask for bf16' if precision == 'fp16' else 'look at the checkpoint'}"
            )
        cosine = min(cosine, centred_cosine(left, right))
    if cosine < LEAST_COSINE:
        raise PrecisionError(
            f"graph in {precision}: expected a centred cosine to fp32 of at least {LEAST_COSINE}, "
            f"got {cosine:.4f}; ask for fp32, or for {'bf16' if precision == 'fp16' else 'fp16'}"
        )
    return cosine


def random_inputs(model: onnx.ModelProto) -> dict[str, Array]:
    """Return normally distributed inputs of a graph by name, `ROWS` rows where axis 0 is free."""
    random = np.random.default_rng(0)
    inputs = {}
    for value in model.graph.input:
        shape = [axis.dim_value or ROWS for axis in value.type.tensor_type.shape.dim]
        inputs[value.name] = random.standard_normal(shape, dtype=np.float32)
    return inputs


def _run(model: onnx.ModelProto, inputs: dict[str, Array]) -> list[Array]:
    import onnxruntime

    options: Any = onnxruntime.SessionOptions()
    # An optimiser that saw through the casts would undo the rounding.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    outputs: list[Array] = session.run(None, inputs)
    return outputs
