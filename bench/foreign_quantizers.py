"""Other people's int8 quantisers, one graph at a time, in an environment that has them.

`bench/quantizers.py` runs this file as a program with another interpreter: the tools pin packages
that differ from this project's. So it imports nothing of fgmclip.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import logging
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Inputs = Mapping[str, NDArray[np.float32]]
Quantize = Callable[[Path, Inputs, Path, bool], None]
"""Graph, calibration inputs [N,...] by tensor name, file to write, whether it is a transformer."""

PACKAGES = {"nncf": "nncf", "modelopt": "nvidia-modelopt"}
"""Distribution of each tool."""


def nncf_openvino(graph: Path, inputs: Inputs, path: Path, transformer: bool) -> None:
    """Write NNCF's OpenVINO model; for a transformer with its own SmoothQuant."""
    import openvino

    model = openvino.Core().read_model(graph)
    openvino.save_model(_by_nncf(model, inputs, transformer), path, compress_to_fp16=False)


def nncf_onnx(graph: Path, inputs: Inputs, path: Path, transformer: bool) -> None:
    """Write NNCF's ONNX graph."""
    import onnx

    onnx.save(_by_nncf(onnx.load(graph), inputs, transformer), path)


def _by_nncf(model: Any, inputs: Inputs, transformer: bool) -> Any:
    # By name: type checkers of this project have never seen these tools.
    nncf = importlib.import_module("nncf")
    count = len(next(iter(inputs.values())))
    rows = [{name: value[row : row + 1] for name, value in inputs.items()} for row in range(count)]
    return nncf.quantize(
        model,
        nncf.Dataset(rows),
        subset_size=count,
        model_type=nncf.ModelType.TRANSFORMER if transformer else None,
    )


def modelopt_max(graph: Path, inputs: Inputs, path: Path, transformer: bool) -> None:
    """Write Model Optimizer's graph, scales from the largest magnitudes."""
    _by_modelopt(graph, inputs, path, "max")


def modelopt_entropy(graph: Path, inputs: Inputs, path: Path, transformer: bool) -> None:
    """Write Model Optimizer's graph, scales from entropy, its default."""
    _by_modelopt(graph, inputs, path, "entropy")


def _by_modelopt(graph: Path, inputs: Inputs, path: Path, method: str) -> None:
    shapes = ",".join(
        f"{name}:{'x'.join(map(str, (1, *value.shape[1:])))}" for name, value in inputs.items()
    )
    importlib.import_module("modelopt.onnx.quantization").quantize(
        str(graph),
        quantize_mode="int8",
        calibration_data=dict(inputs),
        calibration_method=method,
        calibration_shapes=shapes,
        calibration_eps=["cpu"],
        # Its default is fp16 for the rest, which CPUs do not compute in.
        high_precision_dtype="fp32",
        output_path=str(path),
        log_level="WARNING",
    )


QUANTIZERS: dict[str, tuple[str, Quantize]] = {
    "nncf-openvino": ("nncf", nncf_openvino),
    "nncf-onnx": ("nncf", nncf_onnx),
    "modelopt-max": ("modelopt", modelopt_max),
    "modelopt-entropy": ("modelopt", modelopt_entropy),
}
"""Tool and function of each quantiser."""


def main() -> None:
    """Quantise one graph, or print the version of a tool."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--version", choices=PACKAGES, help="print a tool's version and end")
    parser.add_argument("--quantizer", choices=QUANTIZERS)
    parser.add_argument("--graph", type=Path, help="the fp32 graph")
    parser.add_argument("--inputs", type=Path, help=".npz of calibration inputs by tensor name")
    parser.add_argument("--out", type=Path, help="file to write")
    parser.add_argument("--transformer", action="store_true", help="the graph is a transformer")
    arguments = parser.parse_args()
    if arguments.version:
        try:
            print(importlib.metadata.version(PACKAGES[arguments.version]))
        except importlib.metadata.PackageNotFoundError:
            sys.exit(1)
        return
    logging.disable(logging.INFO)
    with np.load(arguments.inputs, allow_pickle=False) as file:
        inputs = dict(file)
    _, run = QUANTIZERS[arguments.quantizer]
    run(arguments.graph, inputs, arguments.out, arguments.transformer)


if __name__ == "__main__":
    main()
