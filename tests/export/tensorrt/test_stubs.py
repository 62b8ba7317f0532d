"""The protocols for TensorRT, of building and of running, against the stubs that are published."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]

CHECK = """
import tensorrt as trt
from fgmclip.export.tensorrt import library as own
from fgmclip.serve.runtimes import tensorrt_gpu as running

def check(
    builder: trt.Builder,
    config: trt.IBuilderConfig,
    network: trt.INetworkDefinition,
    tensor: trt.ITensor,
    profile: trt.IOptimizationProfile,
    memory: trt.IHostMemory,
    cache: trt.ITimingCache,
    parser: trt.OnnxParser,
    error: trt.ParserError,
    runtime: trt.Runtime,
    engine: trt.ICudaEngine,
    inspector: trt.EngineInspector,
    execution: trt.IExecutionContext,
) -> None:
    a: own.Builder = builder
    b: own.Config = config
    c: own.Network = network
    d: own.Tensor = tensor
    e: own.Profile = profile
    f: own.HostMemory = memory
    g: own.TimingCache = cache
    h: own.Parser = parser
    i: own.ParserError = error
    j: own.Runtime = runtime
    k: own.Engine = engine
    l: own.Inspector = inspector
    m: running.Engine = engine
    n: running.Context = execution
    modes = trt.TensorIOMode.INPUT, trt.TensorIOMode.OUTPUT
    flags = trt.BuilderFlag.TF32, trt.BuilderFlag.VERSION_COMPATIBLE
    levels = trt.HardwareCompatibilityLevel.AMPERE_PLUS, trt.ProfilingVerbosity.DETAILED
    others = trt.LayerInformationFormat.JSON, trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED
    bases = trt.ILogger, trt.IProgressMonitor, trt.ILogger.WARNING
    wrong_type: own.Builder = config  # MUST FAIL
    wrong_part: running.Context = engine  # MUST FAIL
    wrong_name = trt.BuilderFlag.FP15  # MUST FAIL
"""


@pytest.fixture
def stubs(tmp_path: Path) -> Path:
    """A copy of `tensorrt-stubs` that type checkers can read, or skip."""
    folder = Path(os.environ.get("FGMCLIP_TENSORRT_STUBS", ROOT / "build" / "stubs"))
    if not (folder / "tensorrt_bindings").is_dir():
        pytest.skip(
            "TENSORRT'S STUBS ARE NOT CHECKED: pip install --no-deps --target build/stubs "
            "tensorrt-stubs"
        )
    for name in ("tensorrt", "tensorrt_bindings"):
        shutil.copytree(folder / name, tmp_path / "stubs" / name)
    path = tmp_path / "stubs" / "tensorrt_bindings" / "tensorrt.pyi"
    path.write_text(repaired(path.read_text(encoding="utf-8")), encoding="utf-8")
    return tmp_path / "stubs"


def repaired(text: str) -> str:
    """Return stubs without the signatures that are no Python, and without a variable `bool`."""
    lines = [line for line in text.splitlines() if not re.match(r"(bool|float32): ", line)]
    while True:
        try:
            ast.parse("\n".join(lines))
        except SyntaxError as error:
            number = (error.lineno or 0) - 1
            start = re.match(r"\s*def \w+\(", lines[number])
            assert start, lines[number]
            lines[number] = f"{start[0]}self, *args: typing.Any) -> typing.Any:"
        else:
            return "\n".join(lines)


def test_the_protocols_fit_the_published_stubs(stubs: Path, tmp_path: Path) -> None:
    check = tmp_path / "check.py"
    check.write_text(CHECK, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", "pyproject.toml", "--no-incremental",
         "--follow-imports", "silent", str(check)],
        cwd=ROOT,
        env=os.environ | {"MYPYPATH": str(stubs)},
        capture_output=True,
        check=False,
    encoding="utf-8")  # fmt: skip
    # Errors inside the stubs are theirs.
    found = [line for line in done.stdout.splitlines() if line.startswith(f"{check}:")]
    errors = [line for line in found if ": error: " in line]
    # Both mistakes are found, so the stubs were read, and nothing else is.
    mistakes = [
        str(number)
        for number, line in enumerate(CHECK.splitlines(), 1)
        if line.endswith("MUST FAIL")
    ]
    assert [line.split(":")[1] for line in errors] == mistakes, done.stdout[-4000:]
