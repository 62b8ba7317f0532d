"""`fgmclip engine build`: exit codes, table, JSON, proofs, and that it needs no torch."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

import fgmclip.export.tensorrt.building as building
import fgmclip.export.tensorrt.proving as proving
from fgmclip.cli import main
from fgmclip.export.gate import likeness
from fgmclip.export.names import PARTS, Part
from fgmclip.export.tensorrt.build import Workbench
from fgmclip.export.tensorrt.builder import BuildOptions
from fgmclip.export.tensorrt.half import to_half
from fgmclip.export.tensorrt.library import Library
from fgmclip.export.tensorrt.released import Released, read_released
from fgmclip.export.tensorrt.report import report_file
from fgmclip.serve.runtimes.gpu import Gpu
from fgmclip.serve.runtimes.onnxruntime_cpu import OnnxRuntime
from fgmclip.serve.runtimes.proof import CACHE_VARIABLE, find_proofs
from fgmclip.serve.runtimes.proven import Here, choose_engine

Output = pytest.CaptureFixture[str]

L4 = Gpu("NVIDIA L4", 89)


def run(*arguments: str | Path) -> int:
    """Run `fgmclip engine build` and return its exit code."""
    with pytest.raises(SystemExit) as ended:
        sys.exit(main(["engine", "build", *map(str, arguments)]))
    code = ended.value.code
    assert isinstance(code, int)
    return code


@pytest.fixture(scope="module")
def rtx_repository(
    repository: Path, rtx: Library, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The same release for TensorRT for RTX, which builds with or without a GPU."""
    path = tmp_path_factory.mktemp("rtx") / "repository"
    shutil.copytree(repository, path)
    released = read_released(path)
    for part, recipe in released.recipes.items():
        file = released.version(part) / "recipe.json"
        file.write_text(replace(recipe, library="rtx").to_json(), encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "engines"))
    return tmp_path / "engines"


class Engine:
    """Runs the typed graph that an engine was built from, on this CPU, and counts those open.

    Attributes:
        noise: Added to every output, by submodule.
        refuses: Submodules whose engine does not load.
    """

    noise: ClassVar[dict[str, float]] = {}
    refuses: tuple[str, ...] = ()
    open = 0

    def __init__(self, engine: Path, library: str, *, gpu: int) -> None:
        assert (engine.suffix, library, gpu) == (".plan", "tensorrt", 0)
        self.part = engine.stem
        if self.part in self.refuses:
            raise RuntimeError("out of memory")
        self.graph = OnnxRuntime(engine.with_suffix(".onnx"))
        type(self).open += 1

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        random = np.random.default_rng(0)
        noise = self.noise.get(self.part, 0)
        return {
            name: value + noise * random.standard_normal(value.shape, np.float32)
            for name, value in self.graph.run(inputs).items()
        }

    def close(self) -> None:
        type(self).open -= 1


@pytest.fixture
def gpu(noting: Any, monkeypatch: pytest.MonkeyPatch) -> type[Engine]:
    """A machine with a GPU and TensorRT, whose engines are run by the stand-in above."""
    # An engine of another graph is another file, as with the real builder.
    parser = noting.OnnxParser

    def parse(network: Any, logger: Any) -> Any:
        def read(data: bytes) -> bool:
            noting.engine = noting.engine[:128] + data[:64]
            return True

        made = parser(network, logger)
        made.parse = read
        return made

    noting.OnnxParser = parse
    noting.information = '{"Layers": []}'
    monkeypatch.setitem(sys.modules, "tensorrt", noting)
    monkeypatch.setattr(building, "find_gpu", lambda: L4)
    fake = type("FakeEngine", (Engine,), {"open": 0})
    monkeypatch.setattr("fgmclip.serve.runtimes.tensorrt_gpu.TensorRtRuntime", fake)
    return fake


def served(released: Released, cache: Path, version: str) -> dict[str, str]:
    """Return why each submodule of a release is served as it is; empty where by its engine."""
    choices = {
        part: choose_engine(released.version(part) / "model.onnx", recipe, Here(version, L4), cache)
        for part, recipe in released.recipes.items()
    }
    return {part: "" if choice.engine else choice.why for part, choice in choices.items()}


def test_without_a_gpu_rtx_engines_are_built_and_nothing_is_proven(
    rtx_repository: Path, capsys: Output, cache: Path
) -> None:
    before = sorted(rtx_repository.rglob("*"))
    arguments = [str(rtx_repository), "--sm", "86,89"]
    assert run(*arguments, "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["part"] for row in rows] == list(PARTS)
    assert {row["built_precision"] for row in rows} == {"requested, unverified"}
    assert {row["gpu"] for row in rows} == {"SM86, SM89"}
    assert not any(row["reused"] for row in rows)
    # The release stays as it was published: engines lie outside.
    assert sorted(rtx_repository.rglob("*")) == before
    assert run(*arguments) == 0
    text = capsys.readouterr().out
    assert text.count("requested, unverified") == len(PARTS)
    assert text.count("reused") == len(PARTS)
    assert "not verified: the built precision and the outputs: no GPU here" in text
    assert "not proven: no GPU here; run this again on the machine that will serve" in text
    assert text.count("the same by hand: tensorrt_rtx --onnx=") == len(PARTS)
    assert "…" not in text
    assert not list(cache.rglob("*.proof.json"))


def test_an_engine_that_came_with_the_release_is_taken_as_it_is(
    rtx: Library, rtx_repository: Path, tmp_path: Path, capsys: Output
) -> None:
    version = read_released(rtx_repository).version("motion_encoder")
    options = BuildOptions(precision="fp16", rest="fp16", sms=(86, 89))
    shipped, _ = Workbench(rtx, options, None, tmp_path).build(
        "motion_encoder", version / "model.onnx", lambda stage, share: None
    )
    shutil.copy(shipped.engine, version / "model.plan")
    shutil.copy(report_file(Path(shipped.engine)), report_file(version / "model.plan"))
    assert run(rtx_repository, "--json") == 0
    (row,) = (row for row in json.loads(capsys.readouterr().out) if row["part"] == "motion_encoder")
    assert (row["engine_sha256"], row["seconds"]) == (shipped.engine_sha256, shipped.seconds)
    assert row["key"] != shipped.key
    # Told to build in another way, it builds.
    assert run(rtx_repository, "--level", "1", "--json") == 0
    (row,) = (row for row in json.loads(capsys.readouterr().out) if row["part"] == "motion_encoder")
    assert row["seconds"] != shipped.seconds


def test_engines_that_pass_are_proven_and_chosen(
    gpu: type[Engine], repository: Path, cache: Path, noting: Any, capsys: Output
) -> None:
    assert run(repository, "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    for row in rows:
        assert row["gate"]["reason"] == ""
        assert row["gate"]["cosine"] > 0.999
        assert row["gate"]["identity"] == 1
        assert row["gate"]["fallback"] == "CPUExecutionProvider"
    assert rows[0]["gate"]["chain"]["engines"] == list(PARTS)
    assert rows[0]["gate"]["chain"]["cosine"] > 0.999
    released = read_released(repository)
    assert served(released, cache, noting.__version__) == dict.fromkeys(PARTS, "")
    recipe = released.recipes["fusion_head"]
    ((_, proof),) = find_proofs(recipe, cache)
    assert (proof.gpu, proof.sm, proof.library_version) == ("NVIDIA L4", 89, "10.13.0.35")
    assert (proof.onnx_sha256, proof.precision) == (recipe.onnx_sha256, "fp16")
    assert proof.figures["chain"] == rows[0]["gate"]["chain"]
    assert gpu.open == 0
    # What another library's version would serve is the graph.
    assert all(served(released, cache, "10.14.0.1").values())


def test_the_table_is_whole_and_nothing_is_built_twice(
    gpu: type[Engine], repository: Path, capsys: Output
) -> None:
    assert run(repository) == 0
    capsys.readouterr()
    assert run(repository) == 0
    text = capsys.readouterr().out
    assert "engines on NVIDIA L4 by tensorrt 10.13.0.35" in text
    assert (text.count("proven"), text.count("reused")) == (len(PARTS), len(PARTS))
    assert "…" not in text
    assert "--stronglyTyped" in text


def test_an_engine_that_is_wrong_is_refused_with_4_and_the_others_are_proven(
    gpu: type[Engine], repository: Path, cache: Path, noting: Any, capsys: Output
) -> None:
    gpu.noise = {"motion_encoder": 10.0}
    assert run(repository) == 4
    out, err = capsys.readouterr()
    assert "motion_encoder: refused: centred cosine" in out
    assert "1 of 3 engines refused (motion_encoder: centred cosine" in err.replace("\n", " ")
    why = served(read_released(repository), cache, noting.__version__)
    assert "the gate refused the engine on this machine: centred cosine" in why["motion_encoder"]
    assert why["clip_image_encoder"] == why["fusion_head"] == ""


def test_an_engine_that_does_not_load_is_refused(
    gpu: type[Engine], repository: Path, cache: Path, noting: Any
) -> None:
    gpu.refuses = ("fusion_head",)
    assert run(repository) == 4
    why = served(read_released(repository), cache, noting.__version__)
    assert "the gate refused the engine on this machine: out of memory" in why["fusion_head"]
    assert gpu.open == 0


def test_nan_is_refused(
    gpu: type[Engine], repository: Path, cache: Path, noting: Any, capsys: Output
) -> None:
    gpu.noise = {"clip_image_encoder": float("nan")}
    assert run(repository) == 4
    assert "clip_image_encoder: refused: NaN or infinite values" in capsys.readouterr().out


def test_a_chain_that_is_wrong_proves_nothing(
    gpu: type[Engine],
    repository: Path,
    cache: Path,
    noting: Any,
    capsys: Output,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Each engine passes by itself; together they do not.
    calls: list[int] = []

    def last_is_bad(expected: Any, came: Any) -> Any:
        calls.append(len(came))
        return likeness(expected, came if len(calls) <= len(PARTS) else came[::-1].copy())

    monkeypatch.setattr(proving, "likeness", last_is_bad)
    assert run(repository) == 4
    assert "chain: refused: centred cosine" in capsys.readouterr().out
    why = served(read_released(repository), cache, noting.__version__)
    assert all("chain: centred cosine" in reason for reason in why.values())


def test_an_engine_that_is_slower_than_onnx_runtime_is_refused(
    gpu: type[Engine],
    repository: Path,
    tmp_path: Path,
    cache: Path,
    noting: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.copytree(repository, tmp_path / "repository")
    thresholds = tmp_path / "repository" / "classify__r1" / "gate" / "thresholds.json"
    thresholds.write_text(
        json.dumps(json.loads(thresholds.read_text(encoding="utf-8")) | {"speedup": 1}),
        encoding="utf-8",
    )
    # As measured on a machine where only the fusion head's engine is slower.
    times = iter([[1.0, 2.0], [1.0, 2.0], [3.0, 2.0]])
    monkeypatch.setattr(proving, "take_turns", lambda runtimes, inputs: next(times))
    assert run(tmp_path / "repository") == 4
    why = served(read_released(tmp_path / "repository"), cache, noting.__version__)
    assert "3.00 ms, not faster than ONNX Runtime's 2.00 ms" in why["fusion_head"]
    assert why["clip_image_encoder"] == why["motion_encoder"] == ""


def test_runtimes_take_turns_and_the_slow_one_is_told_from_the_quick_one() -> None:
    order: list[str] = []

    class Sleeper:
        def __init__(self, name: str, seconds: float) -> None:
            self.name, self.seconds = name, seconds

        def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
            order.append(self.name)
            time.sleep(self.seconds)
            return {}

    slow, quick = proving.take_turns([Sleeper("slow", 0.02), Sleeper("quick", 0)], {})
    assert slow > quick
    timed = order[order.index("quick") + 3 :]
    assert timed == ["slow", "quick"] * (len(timed) // 2)


def test_figures_are_for_machines(gpu: type[Engine], repository: Path, cache: Path) -> None:
    assert run(repository) == 0
    (path,) = cache.glob("*/fusion_head.*.proof.json")
    proof = json.loads(path.read_text(encoding="utf-8"))
    assert set(proof["figures"]) == {
        "milliseconds", "fallback_milliseconds", "fallback", "finite", "max_abs", "cosine",
        "identity", "chain",
    }  # fmt: skip


def test_one_file_is_built_into_a_folder_of_ones_own(
    rtx: Library, graphs: dict[Part, Path], tmp_path: Path
) -> None:
    graph, out = graphs["motion_encoder"], tmp_path / "out"
    arguments = [str(graph), "--library", "rtx", "--out", str(out)]
    assert run(*arguments, "--precision", "bf16", "--max-batch", "2") == 0
    assert (out / "motion_encoder.plan").is_file()


def test_a_contradicting_graph_ends_with_4(
    rtx: Library, graphs: dict[Part, Path], tmp_path: Path, capsys: Output
) -> None:
    half = tmp_path / "half.onnx"
    onnx.save(to_half(onnx.load(graphs["motion_encoder"]), "fp16"), half)
    assert run(half, "--library", "rtx", "--precision", "fp32") == 4
    assert "expected products in fp32" in capsys.readouterr().err


def test_a_directory_without_a_release_ends_with_1(tmp_path: Path, capsys: Output) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        assert run(folder) == 1
    assert "expected one active release, got none" in capsys.readouterr().err


def test_a_release_that_is_not_for_tensorrt_ends_with_1(
    repository: Path, tmp_path: Path, capsys: Output
) -> None:
    shutil.copytree(repository, tmp_path / "repository")
    for path in (tmp_path / "repository").rglob("recipe.json"):
        path.unlink()
    assert run(tmp_path / "repository") == 1
    assert "export the checkpoint again with --target tensorrt" in capsys.readouterr().err


def test_a_library_that_is_not_installed_ends_with_1(
    monkeypatch: pytest.MonkeyPatch, repository: Path, capsys: Output
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    assert run(repository) == 1
    assert "pip install 'fgmclip[gpu]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--library", "trt"], "expected tensorrt or rtx, got trt"),
        (["--library", "rtx", "--precision", "int4"], "or bf16 or int8, got int4"),
        (["--library", "rtx", "--sm", "8.6"], "expected numbers like 86,89"),
        (["--library", "rtx", "--max-batch", "0"], "--max-batch"),
    ],
)
def test_a_wrong_option_ends_with_2(
    rtx: Library,
    graphs: dict[Part, Path],
    arguments: list[str],
    message: str,
    capsys: Output,
) -> None:
    assert run(graphs["motion_encoder"], *arguments) == 2
    assert message in " ".join(capsys.readouterr().err.replace("│", " ").split())


@pytest.mark.parametrize(
    "arguments",
    [
        ["--library", "rtx"],
        ["--precision", "fp32"],
        ["--max-batch", "8"],
        ["--version-compatible"],
        ["--hardware-compatible"],
        ["--out", "x"],
    ],
)
def test_what_a_recipe_says_cannot_be_said_again(
    repository: Path, arguments: list[str], capsys: Output
) -> None:
    assert run(repository, *arguments) == 2
    text = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert arguments[0] in text
    assert "whose recipes say how its engines are built" in text


def test_a_target_without_torch_can_build_and_judge(rtx_repository: Path) -> None:
    script = (
        "import sys\n"
        "import fgmclip.cli, fgmclip.export.tensorrt.proving, fgmclip.export.tensorrt.view\n"
        "code = fgmclip.cli.main(sys.argv[1:])\n"
        "print(sorted({'torch', 'torchvision', 'open_clip'} & set(sys.modules)), file=sys.stderr)\n"
        "sys.exit(code)\n"
    )
    # typer ends the program by itself where all went well.
    script = script.replace(
        "code = fgmclip.cli.main(sys.argv[1:])\n",
        (
            "try:\n    code = fgmclip.cli.main(sys.argv[1:])\n"
            "except SystemExit as ended:\n    code = ended.code\n"
        ),
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "engine", "build", str(rtx_repository), "--json"],
        capture_output=True,
        check=False,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == "[]\n"
    assert len(json.loads(done.stdout)) == len(PARTS)
