"""The command line: exit codes, one-line errors, JSON for machines."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fgmclip import __version__
from fgmclip.cli import main


def run(*arguments: str) -> int:
    """Return the exit code, whichever way the command ends."""
    try:
        return main(list(arguments))
    except SystemExit as end:
        return int(end.code or 0)


def one_error_line(capsys: pytest.CaptureFixture[str]) -> str:
    text = capsys.readouterr().err
    assert text.startswith("error: ")
    assert "Traceback" not in text
    return " ".join(text.split())


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version") == 0
    assert capsys.readouterr().out == f"fgmclip {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["unknown"],
        ["export", "demo"],
        ["export", "demo", "--repository", "x", "--target", "moon"],
        ["repo", "activate", "x", "seven"],
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: list[str]) -> None:
    assert run(*arguments) == 2


def test_a_source_that_is_nothing_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("export", "nowhere.safetensors", "--repository", "x") == 1
    assert "found neither" in one_error_line(capsys)


def test_a_preset_without_weights_names_the_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("export", "b16", "--repository", "x") == 1
    assert "--random-weights SEED" in one_error_line(capsys)


def test_an_unknown_preset_with_random_weights_is_usage() -> None:
    assert run("export", "b17", "--random-weights", "0", "--repository", "x") == 2


@pytest.mark.parametrize("command", ["list", "prune"])
def test_a_folder_that_is_no_repository_is_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, command: str
) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert run("repo", command, str(tmp_path / "file" if command == "list" else tmp_path)) in (0, 1)
    assert "Traceback" not in capsys.readouterr().err


def test_an_empty_repository_lists_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run("repo", "list", str(tmp_path), "--json") == 0
    assert json.loads(capsys.readouterr().out) == []


def test_activating_an_unknown_release_is_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run("repo", "activate", str(tmp_path), "7") == 1
    assert "no such release" in one_error_line(capsys)


def test_samples_are_listed_for_machines(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run("samples", str(tmp_path), "--per-class", "1", "--json") == 0
    clips = json.loads(capsys.readouterr().out)
    assert len(clips) == 12
    assert all(Path(clip["path"]).is_file() for clip in clips)


def test_a_model_can_be_described_for_machines(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("model", "describe", "demo", "--json") == 0
    assert json.loads(capsys.readouterr().out)["parameters"] > 3_000_000


def test_a_missing_library_is_named_with_its_extra() -> None:
    # A None in sys.modules makes an import fail as if the package were absent.
    script = (
        "import sys; sys.modules['yaml'] = None; from fgmclip.cli import main; "
        "sys.exit(main(['watch', 'a.mp4', '--url', 'localhost:1', '--check']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        check=False,
        encoding="utf-8",
    )
    assert done.returncode == 2
    assert "library yaml" in done.stderr
    assert "'fgmclip[gateway]'" in done.stderr
