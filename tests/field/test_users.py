"""Users without a name, a home or a right, and places that cannot be used: one line each."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fgmclip.cli import main

NOBODY = "54321"
"""A user that no passwd file knows, as Kubernetes gives them out."""

FGMCLIP = (sys.executable, "-m", "fgmclip.cli")


def as_nobody(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line without home, name or rights; reading alone is allowed everywhere."""
    if os.getuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("running as another user needs root and setpriv (util-linux)")
    user = ("setpriv", "--reuid", NOBODY, "--regid", NOBODY, "--clear-groups")
    # The interpreter may lie in root's home, which nobody else enters.
    reading = ("--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search", "--")
    return subprocess.run(
        [*user, *reading, *FGMCLIP, *map(str, arguments)],
        env={"PATH": os.defpath, **environment},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


def one_line(said: str) -> str:
    """Return the one line that an error is."""
    lines = said.strip().split("\n")
    assert len(lines) == 1, said
    assert lines[0].startswith("error: ")
    return lines[0]


@pytest.fixture
def open_folder(tmp_path: Path) -> Path:
    """A folder that everybody may write into; whoever reads everywhere finds the way there."""
    place = tmp_path / "open"
    place.mkdir()
    place.chmod(0o777)
    return place


def test_a_user_without_home_or_name_works_with_a_named_cache(open_folder: Path) -> None:
    done = as_nobody("kernels", "info", "--json", XDG_CACHE_HOME=str(open_folder / "cache"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("{")
    assert [path.name for path in (open_folder / "cache").iterdir()] == ["fgmclip"]


def test_a_runtime_leaves_nothing_in_the_cache(tmp_path: Path) -> None:
    script = "import fgmclip, onnxruntime"
    environment = {name: value for name, value in os.environ.items() if name[:4] != "ORT_"}
    environment["XDG_CACHE_HOME"] = environment["HOME"] = str(tmp_path)
    subprocess.run([sys.executable, "-c", script], env=environment, check=True)
    assert list(tmp_path.iterdir()) == []


def test_a_user_without_home_is_told_what_to_set() -> None:
    done = as_nobody("kernels", "info")
    assert done.returncode == 1
    assert "set XDG_CACHE_HOME" in one_line(done.stderr)


def test_a_cache_that_cannot_be_written_is_named_with_its_variable(tmp_path: Path) -> None:
    done = as_nobody("kernels", "info", XDG_CACHE_HOME=str(tmp_path))
    assert done.returncode == 1
    line = one_line(done.stderr)
    assert str(tmp_path / "fgmclip") in line
    assert "set XDG_CACHE_HOME to a folder" in line


def test_an_output_without_a_right_to_write_is_one_line(tmp_path: Path) -> None:
    done = as_nobody("kernels", "build", "--out", tmp_path / "k.fatbin", "--nvcc", "/bin/true")
    assert done.returncode == 1
    one_line(done.stderr)
    done = as_nobody("samples", tmp_path / "x")
    assert done.returncode == 2
    assert "Permission denied" in one_line(done.stderr)


@pytest.mark.parametrize(
    "arguments",
    [["--version"], ["--help"], ["watch", "--schema"], ["repo", "list", "EMPTY"]],
    ids=" ".join,
)
def test_a_full_output_is_one_line(arguments: list[str], tmp_path: Path) -> None:
    command = [*FGMCLIP, *(str(tmp_path) if item == "EMPTY" else item for item in arguments)]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 1
    assert "standard output: No space left on device" in one_line(done.stderr.decode())


def test_a_reader_that_has_seen_enough_is_no_failure() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [*FGMCLIP, "watch", "--schema"], stdout=writing, stderr=subprocess.PIPE, check=False
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


LONG = "n" * 300


@pytest.mark.parametrize(
    "command",
    [
        ["export", "PATH.safetensors", "--repository", "r"],
        ["export", "tiny.safetensors", "--repository", "PATH"],
        ["classify", "PATH.mp4", "--url", "localhost:1"],
        ["samples", "PATH"],
        ["train", "PATH", "--preset", "demo", "--out", "m.safetensors"],
        ["train", "clips", "--spec", "PATH", "--out", "m.safetensors"],
        ["train", "clips", "--preset", "demo", "--init", "PATH.pt", "--out", "m.safetensors"],
        ["evaluate", "PATH.safetensors", "clips"],
        ["model", "describe", "PATH.safetensors"],
        ["repo", "list", "PATH"],
        ["repo", "lint", "PATH"],
        ["repo", "prune", "PATH"],
        ["repo", "activate", "PATH", "1"],
        ["serve", "PATH"],
        ["kernels", "build", "--nvcc", "PATH"],
        ["engine", "build", "PATH.onnx"],
        ["engine", "view", "PATH", "--out", "v"],
        ["watch", "--config", "PATH"],
        ["watch", "PATH.mp4", "--url", "localhost:1", "--check"],
    ],
    ids=lambda command: " ".join(command[:2]),
)
@pytest.mark.parametrize("kind", ["long", "loop", "below-a-file", "missing"])
def test_no_path_is_a_traceback(
    command: list[str],
    kind: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "clips" / "a").mkdir(parents=True)
    (tmp_path / "clips" / "a" / "a.mp4").write_bytes(b"no video")
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "loop.safetensors").symlink_to("loop.safetensors")
    if (command[0], kind) == ("samples", "missing"):
        pytest.skip("that is where samples are to be made")
    path = {
        "long": LONG,
        "loop": "loop",
        "below-a-file": "file/x",
        "missing": "none/x",
    }[kind]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    code = main([item.replace("PATH", path) for item in command])
    said = capsys.readouterr()
    assert code in (0, 1, 2)
    assert "Traceback" not in said.out + said.err
    if "repo" not in command and code:
        assert "error: " in said.out + said.err
