"""The engines of one submodule: every runtime and precision that a CPU has for it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import QuantType, quantize_dynamic

from fgmclip.bench.matmul_rates import Precision
from fgmclip.export.graphs import part_inputs
from fgmclip.export.ladder.graph import fold
from fgmclip.export.ladder.int8 import calibrate, quantize, quiet_quantizer
from fgmclip.export.names import Part
from fgmclip.model.network import FgmClip
from fgmclip.model.onnx_graph import export_graph, multiply_adds, signature, to_onnx
from fgmclip.model.served_form import served_form
from fgmclip.serve.runtimes import open_runtime

Inputs = Mapping[str, NDArray[np.float32]]
Run = Callable[[Inputs], NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Engine:
    """A submodule in one runtime and precision.

    Attributes:
        runtime: For example `OpenVINO`.
        precision: For example `int8 Q/DQ`.
        rate: The machine's rate that its products are held against.
        run: Inputs by tensor name, axis 0 the batch, to the output.
    """

    runtime: str
    precision: str
    rate: Precision
    run: Run

    @property
    def name(self) -> str:
        """Both, for example `OpenVINO int8 Q/DQ`."""
        return f"{self.runtime} {self.precision}"


@dataclass(frozen=True, slots=True)
class Lineup:
    """All engines of a submodule.

    Attributes:
        part: The submodule.
        engines: By name.
        multiply_adds: Of a batch of one, counted in the served graph without the rows that are
            filled in: what is of use, so that wasted work lowers an engine's rate.
    """

    part: Part
    engines: dict[str, Engine]
    multiply_adds: int


def open_lineup(model: FgmClip, part: Part, folder: Path, report: Callable[[str], None]) -> Lineup:
    """Make and load every engine of a submodule.

    Args:
        model: The model.
        part: Its submodule.
        folder: Where graphs are written.
        report: Called with what is made next.
    """
    report(f"{part}: export")
    graph = to_onnx(model, part)
    fp32 = folder / f"{part}.onnx"
    onnx.save(graph, fp32)
    report(f"{part}: int8")
    dynamic, static = folder / f"{part}-dynamic.onnx", folder / f"{part}-int8.onnx"
    quantize_products(fp32, dynamic, folder)
    # Scales decide what is right, not how long it takes: a few random inputs give them.
    calibrated = calibrate(fp32, [part_inputs(model.spec, part, 2, seed) for seed in (1, 2)])
    quantize(calibrated, static, nodes=calibrated.nodes)
    report(f"{part}: load")
    engines = [
        Engine("torch", "fp32", "fp32", _torch(model, part, torch.float32)),
        Engine("torch", "bf16 weights", "bf16", _torch(model, part, torch.bfloat16)),
        Engine("ONNX Runtime", "fp32", "fp32", _runtime("onnxruntime", fp32)),
        Engine("ONNX Runtime", "int8 dynamic", "int8", _runtime("onnxruntime", dynamic)),
        Engine("ONNX Runtime", "int8 Q/DQ", "int8", _runtime("onnxruntime", static)),
        Engine("OpenVINO", "f32", "fp32", _runtime("openvino", fp32, "f32")),
        Engine("OpenVINO", "bf16", "bf16", _runtime("openvino", fp32, "bf16")),
        Engine("OpenVINO", "int8 Q/DQ, f32", "int8", _runtime("openvino", static, "f32")),
        Engine("OpenVINO", "int8 Q/DQ, bf16", "int8", _runtime("openvino", static, "bf16")),
    ]
    of = signature(model, part)
    useful = export_graph(replace(of, module=served_form(of.module, fill=False)))
    return Lineup(part, {engine.name: engine for engine in engines}, multiply_adds(useful))


def quantize_products(graph: Path, path: Path, folder: Path) -> None:
    """Write a graph whose products take their inputs' scales from each input, at run time.

    Convolutions stay fp32: ONNX Runtime has no signed integer one for a CPU.

    Args:
        graph: The fp32 graph.
        path: The graph to write.
        folder: For a graph in between.
    """
    folded = folder / f"{graph.stem}-folded.onnx"
    fold(graph, folded)
    with quiet_quantizer():
        quantize_dynamic(
            folded, path, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul", "Gemm"]
        )


def _runtime(name: str, graph: Path, precision: str | None = None) -> Run:
    """Load a graph as a server would."""
    runtime = open_runtime(name, graph, {"precision": precision} if precision else {})

    def run(inputs: Inputs) -> NDArray[Any]:
        (output,) = runtime.run(inputs).values()
        return output

    return run


def _torch(model: FgmClip, part: Part, dtype: torch.dtype) -> Run:
    """Return the eager module; its weights and inputs are of `dtype`, as in FACTS.md."""
    module = signature(model, part).module
    if dtype != torch.float32:
        module = copy.deepcopy(module).to(dtype)

    def run(inputs: Inputs) -> NDArray[Any]:
        with torch.inference_mode():
            values = [torch.from_numpy(value).to(dtype) for value in inputs.values()]
            output: NDArray[Any] = module(*values).float().numpy()
        return output

    return run
