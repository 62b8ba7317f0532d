"""Locales that are not UTF-8: the same files, labels and answers under each."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fgmclip.model.build import build_model
from fgmclip.model.checkpoint import save_checkpoint
from fgmclip.spec import ModelSpec
from fgmclip.video.labelled import read_labelled

LABELS = ("h\u00fcpfen", "跳", "gehen")

ASCII = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}


@pytest.fixture(scope="module")
def latin_1(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment whose locale is ISO-8859-1, made here; or skip where none can be made."""
    folder = tmp_path_factory.mktemp("locales")
    made = folder / "en_US.ISO-8859-1"
    if shutil.which("localedef") is None:
        pytest.skip("localedef is not installed (Debian: libc-bin)")
    command = ["localedef", "-i", "en_US", "-f", "ISO-8859-1", str(made)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    if not made.is_dir():
        pytest.skip(f"no locale in ISO-8859-1 can be made here: {done.stderr.strip()}")
    environment = {"LOCPATH": str(folder), "LC_ALL": made.name, "PYTHONUTF8": "0"}
    script = "import sys, locale; print(locale.getpreferredencoding(), sys.stdout.encoding)"
    said = python(environment, "-c", script).stdout.decode().upper()
    assert said.count("8859-1") == 2, said
    return environment


def python(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run Python under a locale."""
    inherited = {name: value for name, value in os.environ.items() if name[:3] != "LC_"}
    return subprocess.run(
        [sys.executable, *arguments], env=inherited | environment, capture_output=True, check=False
    )


def fgmclip(environment: dict[str, str], *arguments: str | Path) -> str:
    """Return what a command prints that has to end well."""
    done = python(environment, "-m", "fgmclip.cli", *map(str, arguments))
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr
    return done.stdout.decode("latin-1")


@pytest.fixture(scope="module")
def checkpoint(small_spec: ModelSpec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint whose labels no single byte can hold."""
    spec = small_spec.replace(classes=tuple({"name": label} for label in LABELS))
    path = tmp_path_factory.mktemp("checkpoint") / "m.safetensors"
    save_checkpoint(build_model(spec, seed=0), path)
    return path


def test_an_export_under_iso_8859_1_is_the_same_release(
    latin_1: dict[str, str], checkpoint: Path, tmp_path: Path
) -> None:
    said = fgmclip(latin_1, "export", checkpoint, "--repository", tmp_path, "--json")
    manifest = json.loads(said)
    assert said.isascii()
    assert [item["name"] for item in manifest["public"]["spec"]["classes"]] == list(LABELS)
    expected = "".join(f"{label}\n" for label in LABELS).encode()
    for name in ("fgm_clip/labels-r1.txt", "classify__r1/labels.txt"):
        assert (tmp_path / name).read_bytes() == expected
    # Read under this locale what was written under that one, and the other way round.
    assert fgmclip(ASCII, "repo", "lint", tmp_path, "--json").strip() == "[]"
    assert json.loads(fgmclip(latin_1, "repo", "activate", tmp_path, "1", "--json"))
    assert (tmp_path / "fgm_clip/labels-r1.txt").read_bytes() == expected


READS = """
import sys, json
from pathlib import Path
from fgmclip.video.labelled import read_labelled
videos = read_labelled(Path(sys.argv[1]))
print(json.dumps([(video.label, video.path.read_bytes().decode()) for video in videos]))
"""


@pytest.mark.parametrize("as_table", [False, True], ids=["folder", "table"])
def test_a_data_set_has_the_same_labels_in_every_locale(
    latin_1: dict[str, str], tmp_path: Path, as_table: bool
) -> None:
    for label in LABELS:
        (tmp_path / "clips" / label).mkdir(parents=True)
        (tmp_path / "clips" / label / f"{label}.mp4").write_text(label, encoding="utf-8")
    source = tmp_path / "clips"
    if as_table:
        source = tmp_path / "clips.csv"
        rows = "".join(f"clips/{label}/{label}.mp4,{label}\n" for label in LABELS)
        source.write_text(f"path,label\n{rows}", encoding="utf-8")
    expected = sorted([label, label] for label in LABELS)
    assert sorted([item.label, item.path.stem] for item in read_labelled(source)) == expected
    for environment in (latin_1, ASCII):
        done = python(environment, "-c", READS, str(source))
        assert sorted(json.loads(done.stdout)) == expected, done.stderr


def test_a_name_that_is_no_utf_8_is_printed(tmp_path: Path) -> None:
    # Nobody listens there: the file is named beside the reason, whatever its name is.
    (tmp_path / os.fsdecode(b"cl\xfcp.mp4")).write_bytes(b"")
    for environment in ({"LC_ALL": "C.UTF-8"}, ASCII):
        for options in ([], ["--json"]):
            arguments = ["classify", "--url", "localhost:1", *options]
            name = os.fsdecode(os.fsencode(tmp_path) + b"/cl\xfcp.mp4")
            done = python(environment, "-m", "fgmclip.cli", *arguments, name)
            assert done.returncode == 1
            assert done.stderr == b""
            assert b"cl\\udcfcp.mp4" in done.stdout
            if options:
                assert json.loads(done.stdout)["video"].endswith("cl\udcfcp.mp4")
