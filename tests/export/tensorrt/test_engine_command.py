"""`fgmclip engine build`: exit codes, table, JSON, and that it needs no torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from fgmclip.cli import main
from fgmclip.export.names import PARTS, Part
from fgmclip.export.release import export_release
from fgmclip.export.tensorrt.half import to_half
from fgmclip.export.tensorrt.library import Library
from fgmclip.model.network import FgmClip

Output = pytest.CaptureFixture[str]


def run(*arguments: str | Path) -> int:
    """Run `fgmclip engine build` and return its exit code."""
    with pytest.raises(SystemExit) as ended:
        sys.exit(main(["engine", "build", *map(str, arguments)]))
    code = ended.value.code
    assert isinstance(code, int)
    return code


@pytest.fixture(scope="module")
def repository(tiny: FgmClip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("engine-command") / "repository"
    export_release(tiny, path)
    return path


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_every_submodule_of_a_repository_is_built_and_reported(
    rtx: Library, repository: Path, capsys: Output
) -> None:
    before = sorted(repository.rglob("*"))
    arguments = [str(repository), "--library", "rtx", "--sm", "86,89"]
    assert run(*arguments, "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["part"] for row in rows] == list(PARTS)
    assert {row["built_precision"] for row in rows} == {"requested, unverified"}
    assert {row["gpu"] for row in rows} == {"SM86, SM89"}
    assert not any(row["reused"] for row in rows)
    # The release stays as it was published: engines lie outside.
    assert sorted(repository.rglob("*")) == before
    assert run(*arguments) == 0
    text = capsys.readouterr().out
    assert text.count("requested, unverified") == len(PARTS)
    assert text.count("reused") == len(PARTS)
    assert "not verified: the built precision and the outputs: no GPU here" in text
    assert text.count("the same by hand: tensorrt_rtx --onnx=") == len(PARTS)
    assert "…" not in text


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


def test_a_directory_without_a_release_ends_with_1(
    rtx: Library, tmp_path: Path, capsys: Output
) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        assert run(folder, "--library", "rtx") == 1
    assert "expected one active release, got none" in capsys.readouterr().err


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
        (
            ["--library", "rtx", "--precision", "int4"],
            "or bf16 or int8, got int4",
        ),
        (["--library", "rtx", "--sm", "8.6"], "expected numbers like 86,89"),
        (["--library", "rtx", "--max-batch", "0"], "--max-batch"),
    ],
)
def test_a_wrong_option_ends_with_2(
    rtx: Library, repository: Path, arguments: list[str], message: str, capsys: Output
) -> None:
    assert run(repository, *arguments) == 2
    assert message in " ".join(capsys.readouterr().err.replace("│", " ").split())


def test_a_target_without_torch_can_build(rtx: Library, repository: Path, tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(('torch', 'torchvision', 'open_clip', 'timm')))\n"
        "from fgmclip.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    arguments = ["engine", "build", str(repository), "--library", "rtx", "--json"]
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments, "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)) == len(PARTS)
