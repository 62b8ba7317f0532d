"""The choice of an engine: only what was proven here serves, and the log says why not."""

from __future__ import annotations

import logging
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import fgmclip.serve.runtimes.proven as proven
from fgmclip.serve.runtimes import open_runtime
from fgmclip.serve.runtimes.gpu import Gpu
from fgmclip.serve.runtimes.proof import (
    CACHE_VARIABLE,
    Proof,
    cache_folder,
    file_sha256,
    proof_file,
    recipe_hash,
)
from fgmclip.serve.runtimes.proven import Choice, Here, choose_engine
from fgmclip.serve.runtimes.recipe import Recipe
from fgmclip.serve.steps.engine import TritonPythonModel

VERSION = "1.7.1.116"
L4 = Gpu("NVIDIA L4", 89)
HERE = Here(VERSION, L4)


def plan(
    version: tuple[int, ...] = (1, 7, 1, 116), mask: int = 0b1000, tag: bytes = b"vtrt"
) -> bytes:
    """Return an engine file with a head; its mask's bits are 75, 80, 86, 89, 120, 121."""
    return tag + bytes(20) + bytes(version) + bytes(4) + bytes([mask]) + bytes(200)


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """A step's graph, Y = X + X over rows of two."""
    value = helper.make_tensor_value_info
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("Add", ["X", "X"], ["Y"])],
            "graph",
            [value("X", TensorProto.FLOAT, ["N", 2])],
            [value("Y", TensorProto.FLOAT, ["N", 2])],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=10,
    )
    path = tmp_path / "step" / "1" / "model.onnx"
    path.parent.mkdir(parents=True)
    onnx.save(model, path)
    return path


@pytest.fixture
def recipe(graph: Path) -> Recipe:
    made = Recipe(
        part="motion_encoder",
        library="rtx",
        precision="fp16",
        rest="fp16",
        keep=(),
        max_batch=4,
        onnx_sha256=file_sha256(graph),
        model_tag="0123456789abcdef",
    )
    graph.with_name("recipe.json").write_text(made.to_json(), encoding="utf-8")
    return made


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "engines"))
    return tmp_path / "engines"


def prove(cache: Path, recipe: Recipe, data: bytes, key: str = "key", **changes: Any) -> Path:
    """Put an engine and its proof into the cache, and return the engine."""
    engine = cache / key / f"{recipe.part}.plan"
    engine.parent.mkdir(parents=True)
    engine.write_bytes(data)
    proof = Proof(
        part=recipe.part,
        model_tag=recipe.model_tag,
        onnx_sha256=recipe.onnx_sha256,
        recipe_sha256=recipe_hash(recipe),
        engine_sha256=file_sha256(engine),
        library=recipe.library,
        library_version=VERSION,
        gpu=L4.name,
        sm=L4.sm,
        precision=recipe.precision,
        figures={},
        passed=True,
        reason="",
    )
    path = proof_file(engine, recipe.part, recipe.model_tag)
    path.write_text(replace(proof, **changes).to_json(), encoding="utf-8")
    return engine


def test_what_was_proven_here_serves(graph: Path, recipe: Recipe, cache: Path) -> None:
    engine = prove(cache, recipe, plan())
    expected = "fp16, proven on NVIDIA L4 with TensorRT for RTX 1.7.1.116"
    assert choose_engine(graph, recipe, HERE, cache) == Choice(engine, expected)


def test_proofs_of_other_machines_do_not_stand_in_the_way(
    graph: Path, recipe: Recipe, cache: Path
) -> None:
    engine = prove(cache, recipe, plan())
    prove(cache, recipe, plan(mask=0b100), "other", gpu="NVIDIA RTX A6000", sm=86)
    prove(cache, recipe, plan((1, 8, 0, 1)), "newer", library_version="1.8.0.1")
    assert choose_engine(graph, recipe, HERE, cache).engine == engine


@pytest.mark.parametrize(
    ("data", "changes", "message"),
    [
        (plan(), {"gpu": "NVIDIA L40"}, "got one proven with 1.7.1.116 on NVIDIA L40; prove one"),
        (
            plan((1, 6, 0, 1)),
            {"library_version": "1.6.0.1"},
            "got one of TensorRT for RTX 1.6.0.1; build it again",
        ),
        (
            plan(mask=0b100),
            {"gpu": "NVIDIA RTX A6000", "sm": 86},
            "compute capability 8.9, got one for 8.6; build it again",
        ),
        (b"\0" * 300, {}, "got a file that is no engine or a damaged one; build it again"),
        (plan(tag=b"ftrt"), {}, "got one of TensorRT 1.7.1.116; build it again"),
        (
            plan(),
            {"passed": False, "reason": "centred cosine 0.5"},
            "the gate refused the engine on this machine: centred cosine 0.5",
        ),
        (plan(), {"engine_sha256": "0"}, "expected the engine that was proven, got a changed file"),
        (plan(), {"recipe_sha256": "0"}, "expected a proof for this graph and recipe"),
    ],
    ids=["gpu", "version", "sm", "damaged", "library", "refused", "changed", "recipe"],
)
def test_anything_else_is_told_with_the_remedy_and_the_graph_serves(
    graph: Path,
    recipe: Recipe,
    cache: Path,
    data: bytes,
    changes: dict[str, Any],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    prove(cache, recipe, data, **changes)
    monkeypatch.setattr(proven, "find_gpu", lambda ordinal: L4)
    monkeypatch.setattr(proven, "import_library", lambda name: library())
    with caplog.at_level(logging.INFO, proven.LOGGER):
        runtime = open_runtime("rtx", graph, {"recipe": "recipe.json"}, gpu=0)
    (line,) = caplog.messages
    assert line.startswith("motion_encoder: ONNX Runtime (CPUExecutionProvider) serves, no engine")
    assert message in line
    rows = np.ones((3, 2), np.float32)
    np.testing.assert_array_equal(runtime.run({"X": rows})["Y"], 2 * rows)


def library() -> ModuleType:
    module = ModuleType("tensorrt_rtx")
    module.__version__ = VERSION  # type: ignore[attr-defined]
    return module


def test_without_proof_an_engine_that_came_with_the_release_is_looked_at(
    graph: Path, recipe: Recipe, cache: Path
) -> None:
    def why() -> str:
        choice = choose_engine(graph, recipe, HERE, cache)
        assert choice.engine is None
        return choice.why

    assert "expected a proof for this graph and recipe" in why()
    shipped = graph.with_name("model.plan")
    shipped.write_bytes(plan())
    # It fits, but nobody proved it.
    assert "expected a proof for this graph and recipe" in why()
    shipped.write_bytes(plan(mask=0b100))
    assert "model.plan: expected an engine for this GPU's compute capability 8.9" in why()


def test_an_engine_that_is_gone_is_told(graph: Path, recipe: Recipe, cache: Path) -> None:
    prove(cache, recipe, plan()).unlink()
    assert (
        "expected the engine that was proven, got none"
        in choose_engine(graph, recipe, HERE, cache).why
    )


def test_a_graph_that_was_exchanged_has_no_engine(graph: Path, recipe: Recipe, cache: Path) -> None:
    prove(cache, recipe, plan())
    graph.write_bytes(graph.read_bytes() + b"\n")
    choice = choose_engine(graph, recipe, HERE, cache)
    assert choice.engine is None
    assert "expected the graph that the recipe was written for" in choice.why


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": 2}'])
def test_a_damaged_proof_proves_nothing(
    graph: Path, recipe: Recipe, cache: Path, text: str
) -> None:
    engine = prove(cache, recipe, plan())
    proof_file(engine, recipe.part, recipe.model_tag).write_text(text, encoding="utf-8")
    assert choose_engine(graph, recipe, HERE, cache).engine is None


@pytest.mark.parametrize(
    ("here", "message"),
    [
        (Here(VERSION, None), "expected a GPU, got none"),
        (Here(None, L4, "no module tensorrt_rtx; pip install it"), "pip install it"),
    ],
)
def test_without_gpu_or_library_the_graph_serves(
    graph: Path, recipe: Recipe, cache: Path, here: Here, message: str
) -> None:
    prove(cache, recipe, plan())
    choice = choose_engine(graph, recipe, here, cache)
    assert choice.engine is None
    assert message in choice.why


def test_a_proven_engine_that_does_not_load_is_told_and_the_graph_serves(
    graph: Path,
    recipe: Recipe,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    prove(cache, recipe, plan())
    monkeypatch.setattr(proven, "find_gpu", lambda ordinal: L4)
    monkeypatch.setattr(proven, "import_library", lambda name: library())

    class Full:
        def __init__(self, engine: Path, name: str, *, gpu: int) -> None:
            raise RuntimeError("out of memory; look at nvidia-smi")

    monkeypatch.setattr("fgmclip.serve.runtimes.tensorrt_gpu.TensorRtRuntime", Full)
    runtime = open_runtime("rtx", graph, {"recipe": "recipe.json"}, gpu=0)
    assert "no engine: out of memory; look at nvidia-smi" in caplog.text
    assert runtime.run({"X": np.ones((1, 2), np.float32)})["Y"].tolist() == [[2, 2]]


def test_a_proven_engine_runs_and_is_named(
    graph: Path,
    recipe: Recipe,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    engine = prove(cache, recipe, plan())
    monkeypatch.setattr(proven, "find_gpu", lambda ordinal: L4)
    monkeypatch.setattr(proven, "import_library", lambda name: library())
    opened: list[tuple[Path, str, int]] = []

    class Engine:
        def __init__(self, path: Path, name: str, *, gpu: int) -> None:
            opened.append((path, name, gpu))

    monkeypatch.setattr("fgmclip.serve.runtimes.tensorrt_gpu.TensorRtRuntime", Engine)
    with caplog.at_level(logging.INFO, proven.LOGGER):
        assert isinstance(open_runtime("rtx", graph, {"recipe": "recipe.json"}, gpu=1), Engine)
    assert opened == [(engine, "rtx", 1)]
    assert caplog.messages == [
        f"motion_encoder: {engine} serves, fp16, proven on NVIDIA L4 with TensorRT for RTX "
        "1.7.1.116"
    ]


def test_the_cache_is_named_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, "/engines")
    assert cache_folder() == Path("/engines")
    monkeypatch.setenv(CACHE_VARIABLE, "")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert cache_folder() == Path("/cache/fgmclip/engines")


def test_a_step_tells_tritons_log_what_serves(
    graph: Path, recipe: Recipe, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []

    class Logger:
        log_info = staticmethod(lambda line: lines.append(f"info {line}"))
        log_warn = staticmethod(lambda line: lines.append(f"warn {line}"))

    backend = ModuleType("triton_python_backend_utils")
    backend.Logger = Logger  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", backend)
    config = """{"parameters": {"runtime": {"string_value": "rtx"},
        "engine": {"string_value": "model.onnx"}, "recipe": {"string_value": "recipe.json"}},
        "input": [{"name": "X"}], "output": [{"name": "Y", "data_type": "TYPE_FP32"}]}"""
    model = TritonPythonModel()
    model.initialize(
        {
            "model_config": config,
            "model_repository": str(graph.parents[1]),
            "model_version": "1",
            "model_instance_kind": "CPU",
            "model_instance_device_id": "0",
        }
    )
    (line,) = lines
    assert line.startswith("warn motion_encoder: ONNX Runtime (CPUExecutionProvider) serves")
    assert "expected a GPU, got none" in line
    model.finalize()


def test_choosing_needs_nothing_but_the_standard_library_and_numpy() -> None:
    script = (
        "import sys, fgmclip.serve.runtimes.proven, fgmclip.serve.runtimes.tensorrt_gpu\n"
        "import fgmclip.serve.runtimes.proof\n"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'pydantic', 'fgmclip.export'}\n"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        check=False,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
