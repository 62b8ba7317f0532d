"""The int8 graphs of one submodule: one of each quantiser, ours and other people's."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnxruntime.quantization import (
    QuantFormat,
    QuantType,
    quantize_static,
)

from fgmclip.bench import foreign_quantizers
from fgmclip.export.ladder.graph import fold
from fgmclip.export.ladder.int8 import (
    QUANTIZED,
    CalibrationInputs,
    calibrate,
    quantize,
    quiet_quantizer,
)

Inputs = Mapping[str, NDArray[np.float32]]
Report = Callable[[str], None]

OWN, PLAIN = "fgmclip", "onnxruntime"
"""The ladder's int8 rung, and ONNX Runtime's quantiser by itself, without smoothing."""

INSTALL = {
    tool: f"python -m venv DIR; DIR/bin/pip install '{package}'; --python DIR/bin/python"
    for tool, package in (("nncf", "nncf[openvino]"), ("modelopt", "nvidia-modelopt[onnx]"))
}
"""How each foreign tool is brought, in an environment of its own: they pin what we use newer."""

TIMEOUT_SECONDS = 1800.0
"""How long a foreign quantiser may take for one graph."""


@dataclass(frozen=True, slots=True)
class Quantized:
    """What a quantiser made of a graph.

    Attributes:
        quantizer: Its name.
        file: The graph: ONNX, or OpenVINO's `.xml` with a `.bin` beside it; None if there is none.
        seconds: Time that it took, calibration included.
        fault: Why there is none; empty if there is one.
    """

    quantizer: str
    file: Path | None
    seconds: float
    fault: str = ""

    @property
    def size(self) -> int:
        """Bytes of the graph with its weights."""
        if self.file is None:
            return 0
        weights = self.file.with_suffix(".bin")
        both = {self.file, weights} if weights.is_file() else {self.file}
        return sum(path.stat().st_size for path in both)


@dataclass(frozen=True, slots=True)
class Tool:
    """A foreign tool that was found.

    Attributes:
        name: As `INSTALL` has it.
        python: Interpreter of its environment.
        version: Its version.
    """

    name: str
    python: Path
    version: str


def find_tools(pythons: Sequence[Path]) -> dict[str, Tool]:
    """Return the foreign tools of some environments, the first that has one.

    Args:
        pythons: Interpreters to ask, after the one that runs this.
    """
    found: dict[str, Tool] = {}
    for python in (Path(sys.executable), *pythons):
        for name in foreign_quantizers.PACKAGES:
            answer = _foreign(python, ["--version", name], timeout_seconds=60)
            if name not in found and answer.returncode == 0:
                found[name] = Tool(name, python, answer.stdout.strip())
    return found


def quantizers(tools: Mapping[str, Tool]) -> tuple[str, ...]:
    """Return the names of all quantisers that can run."""
    foreign = (name for name, (tool, _) in foreign_quantizers.QUANTIZERS.items() if tool in tools)
    return (OWN, PLAIN, *foreign)


def version_of(quantizer: str, tools: Mapping[str, Tool]) -> str:
    """Return the tool behind a quantiser, with its version."""
    if quantizer in (OWN, PLAIN):
        return f"{quantizer} {importlib.metadata.version(quantizer)}"
    tool = tools[foreign_quantizers.QUANTIZERS[quantizer][0]]
    return f"{foreign_quantizers.PACKAGES[tool.name]} {tool.version}"


def quantize_graph(
    quantizer: str,
    graph: Path,
    batches: Sequence[Inputs],
    folder: Path,
    tools: Mapping[str, Tool],
    *,
    transformer: bool,
) -> Quantized:
    """Let one quantiser make its int8 graph; a foreign one that fails is no error.

    Args:
        quantizer: One of `quantizers`.
        graph: The fp32 graph.
        batches: What it is calibrated on, by tensor name.
        folder: Where files are written.
        tools: As `find_tools` returns them.
        transformer: Whether the graph is one; NNCF wants to know.
    """
    start = time.perf_counter()
    suffix = "xml" if quantizer.endswith("openvino") else "onnx"
    path = folder / f"{graph.stem}-{quantizer}.{suffix}"
    fault = ""
    if quantizer == OWN:
        calibrated = calibrate(graph, batches)
        quantize(calibrated, path, nodes=calibrated.nodes)
    elif quantizer == PLAIN:
        quantize_plainly(graph, batches, path)
    else:
        fault = _quantize_elsewhere(quantizer, graph, batches, path, tools, transformer)
    seconds = time.perf_counter() - start
    return Quantized(quantizer, None if fault else path, seconds, fault)


def quantize_plainly(graph: Path, batches: Sequence[Inputs], path: Path) -> None:
    """Write what ONNX Runtime's quantiser makes by itself: signed, symmetric, by channel."""
    folded = path.with_suffix(".folded")
    fold(graph, folded)
    with quiet_quantizer():
        quantize_static(
            folded,
            path,
            CalibrationInputs(batches),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTIZED),
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            extra_options={
                "ActivationSymmetric": True,
                "WeightSymmetric": True,
                "AddQDQPairToWeight": True,
                "DedicatedQDQPair": True,
            },
        )


def _quantize_elsewhere(
    quantizer: str,
    graph: Path,
    batches: Sequence[Inputs],
    path: Path,
    tools: Mapping[str, Tool],
    transformer: bool,
) -> str:
    """Run a foreign quantiser in its environment and return why it failed, or nothing."""
    inputs = path.with_suffix(".npz")
    np.savez(
        inputs,
        **{name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]},
    )
    tool = tools[foreign_quantizers.QUANTIZERS[quantizer][0]]
    arguments = [
        *("--quantizer", quantizer, "--graph", str(graph), "--inputs", str(inputs)),
        *("--out", str(path), *(["--transformer"] if transformer else [])),
    ]
    try:
        ended = _foreign(tool.python, arguments, timeout_seconds=TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        return f"not done after {TIMEOUT_SECONDS:g} s"
    inputs.unlink()
    if ended.returncode or not path.is_file():
        lines = ended.stderr.strip().splitlines() or [f"exit status {ended.returncode}"]
        return lines[-1]
    return ""


def _foreign(
    python: Path, arguments: Sequence[str], *, timeout_seconds: float
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(python), foreign_quantizers.__file__, *arguments],
        capture_output=True,
        timeout=timeout_seconds,
        encoding="utf-8",
        errors="replace",
    )
