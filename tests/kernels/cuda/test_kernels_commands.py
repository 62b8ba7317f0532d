"""`fgmclip kernels build|info`: what is printed, exit codes, and what to do without tools."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fgmclip.cli import main
from fgmclip.kernels import commands, native
from fgmclip.kernels.cuda.abi import KERNELS
from fgmclip.kernels.cuda.binary import CACHE_VARIABLE, FatBinary
from fgmclip.kernels.cuda.build import ARCHITECTURES
from fgmclip.kernels.cuda.report import Moved
from fgmclip.kernels.errors import BuildError, KernelError

NVCC = """\
#!/bin/sh
case "$1" in
--version) echo "Cuda compilation tools, release 13.0, V13.0.88"; exit ;;
--list-gpu-code) printf 'sm_75\\nsm_80\\n'; exit ;;
esac
[ -n "$FAKE_ERROR" ] && echo "$FAKE_ERROR" && exit 2
while [ $# -gt 0 ]; do
    if [ "$1" = -o ]; then echo made > "$2"; fi
    shift
done
for code in sm_75 sm_80; do
    echo "ptxas info    : Compiling entry function 'motion_f32' for '$code'"
    echo "    0 bytes stack frame, 0 bytes spill stores, ${FAKE_SPILL:-0} bytes spill loads"
    echo "ptxas info    : Used 40 registers, used 1 barriers, 64 bytes smem"
done
"""


def run(*arguments: str) -> int:
    """Return the exit code, whichever way the command ends."""
    try:
        return main(["kernels", *arguments])
    except SystemExit as end:
        return int(end.code or 0)


@pytest.fixture
def nvcc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return a stand-in for nvcc, and keep what it makes out of the user's cache."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    path = tmp_path / "nvcc"
    path.write_text(NVCC, encoding="utf-8")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this machine have no tools and no binary."""

    def fail(error: type[Exception], message: str) -> Any:
        def raising(*_: object, **__: object) -> None:
            raise error(message)

        return raising

    monkeypatch.setattr(commands, "find_nvcc", fail(BuildError, "nvcc: expected one, got none"))
    monkeypatch.setattr(commands, "find_binary", fail(BuildError, "CUDA kernels: got none"))
    monkeypatch.setattr(commands, "HostDevice", fail(KernelError, "C++ compiler: got none"))


def test_a_build_says_where_the_binary_is(
    nvcc: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("build", "--nvcc", nvcc) == 0
    lines = capsys.readouterr().out.splitlines()
    path = Path(lines[0].partition(": ")[0])
    assert path.is_file()
    assert path.is_relative_to(tmp_path / "cache")
    left_out = ", ".join(name for name in ARCHITECTURES if name not in ("sm_75", "sm_80"))
    assert lines[1:] == [
        "nvcc 13.0.88, 1 kernels: sm_75, sm_80, compute_75, compute_80",
        f"left out, as this nvcc does not know them: {left_out}",
        "register spills: none",
    ]


def test_a_build_can_be_read_by_machines(
    nvcc: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "kernels.fatbin"
    assert run("build", "--nvcc", nvcc, "--out", str(out), "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["path"] == str(out)
    assert facts["architectures"] == ["sm_75", "sm_80"]
    assert facts["figures"][0]["registers"] == 40
    assert out.is_file()


def test_spills_are_named(
    nvcc: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAKE_SPILL", "8")
    assert run("build", "--nvcc", nvcc) == 0
    assert "spills: motion_f32 on sm_75, motion_f32 on sm_80" in capsys.readouterr().out


def test_a_failed_build_is_exit_code_1_with_the_compilers_words(
    nvcc: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAKE_ERROR", "kernels.cu(7): error: no [such] thing")
    assert run("build", "--nvcc", nvcc) == 1
    first, last = capsys.readouterr().err.splitlines()
    assert first == "kernels.cu(7): error: no [such] thing"
    assert last.startswith(
        "error: nvcc 13.0.88: expected kernels.cu to compile, got: kernels.cu(7)"
    )


def test_a_compiler_that_is_none_is_exit_code_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("build", "--nvcc", str(tmp_path / "nvcc")) == 1
    assert "expected an answer" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["build", "--fast"], ["info", "everything"], ["paint"]])
def test_wrong_usage_is_exit_code_2(arguments: list[str]) -> None:
    assert run(*arguments) == 2


def test_without_tools_info_says_what_it_can_and_why_not_more(
    nothing: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("info") == 0
    assert capsys.readouterr().out.splitlines() == [
        f"C++ kernels: {native.instruction_set()}",
        "nvcc: expected one, got none",
        "CUDA kernels: got none",
        "bytes moved: not counted: C++ compiler: got none",
    ]


def test_without_tools_machines_get_the_reasons(
    nothing: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("info", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {
        "instruction_set": native.instruction_set(),
        "nvcc": {"missing": "nvcc: expected one, got none"},
        "binary": {"missing": "CUDA kernels: got none"},
        "kernels": [],
        "moved": {"missing": "C++ compiler: got none"},
    }


@pytest.fixture
def everything(nothing: None, binary: FatBinary, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let there be a binary, and kernels that were run on the host."""
    monkeypatch.setattr(commands, "find_binary", lambda kernels: binary)
    monkeypatch.setattr(commands, "HostDevice", object)
    moved = [Moved("1080p RGB", "preprocess_f32", 7_000_000, 600_000, 7_400_000)]
    monkeypatch.setattr(commands, "moved_bytes", lambda device, flow: moved)


def test_info_is_a_table_that_fits_into_80_columns(
    everything: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("info") == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(len(line) for line in lines if "kernels.fatbin" not in line) <= 80
    text = "\n".join(lines)
    assert all(kernel in text for kernel in KERNELS)
    assert "…" not in text
    (moved,) = (line.split() for line in lines if line.startswith("1080p RGB"))
    assert moved[-1] == "1.03"


def test_info_can_be_read_by_machines(everything: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("info", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    rows = {row["kernel"]: row for row in facts["kernels"]}
    assert set(rows) == set(KERNELS)
    row = rows["normalize_f32"]
    assert (row["threads"], row["dynamic_shared"], row["occupancy"]) == (256, 0, 1.0)
    assert row["limited_by"] == ["warps"]
    assert facts["moved"][0]["ratio"] == pytest.approx(1.027, abs=1e-3)
