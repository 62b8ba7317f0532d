"""Where a tritonserver is found, what the room imports, and what is refused before a start."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from fgmclip.serve import shared_memory
from fgmclip.serve.binaries import find_tritonserver
from fgmclip.serve.embedded import EmbeddedServer
from fgmclip.serve.errors import (
    RepositoryError,
    ServerDiedError,
    SharedMemoryError,
    TritonMissingError,
)
from fgmclip.serve.forever import is_affected

PARTS = (
    "bin/tritonserver",
    "backends/python/libtriton_python.so",
    "backends/python/triton_python_backend_utils.py",
    f"python_backend_stubs/3.{sys.version_info.minor}/triton_python_backend_stub",
)


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A site directory with a pytriton that fails when it is imported, and an empty PATH."""
    site = tmp_path / "site"
    for part in PARTS:
        path = site / "pytriton" / "tritonserver" / part
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("", encoding="utf-8")
    (site / "pytriton" / "__init__.py").write_text(
        "raise RuntimeError('imported')", encoding="utf-8"
    )
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.delitem(sys.modules, "pytriton", raising=False)
    return site


def test_the_wheels_server_is_found_without_importing_it(wheel: Path, tmp_path: Path) -> None:
    found = find_tritonserver()
    assert found.executable == wheel / "pytriton" / "tritonserver" / PARTS[0]
    command = found.arguments(tmp_path)
    assert command[1:] == [f"--backend-directory={tmp_path / 'backends'}"]
    assert sorted(path.name for path in (tmp_path / "backends" / "python").iterdir()) == [
        "libtriton_python.so",
        "triton_python_backend_stub",
        "triton_python_backend_utils.py",
    ]
    environment = found.environment()
    assert environment["LD_LIBRARY_PATH"].split(":")[0] == str(wheel / "nvidia_pytriton.libs")
    assert environment["PATH"].split(":")[0] == str(Path(sys.executable).parent)


@pytest.mark.parametrize("part", PARTS)
def test_a_wheel_that_lacks_a_part_is_refused(wheel: Path, part: str) -> None:
    (wheel / "pytriton" / "tritonserver" / part).unlink()
    with pytest.raises(TritonMissingError, match=r"pip install 'fgmclip\[serve\]'") as caught:
        find_tritonserver()
    assert Path(part).name in str(caught.value)


def test_a_server_on_path_comes_first_and_keeps_its_own_backends(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "container" / "tritonserver"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    found = find_tritonserver()
    assert found.arguments(tmp_path) == [str(program)]
    assert found.environment() == dict(os.environ)


def test_without_any_server_the_remedy_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(TritonMissingError, match=r"pip install 'fgmclip\[serve\]'"):
        find_tritonserver()


@pytest.mark.parametrize("module", ["fgmclip.serve", "fgmclip.serve.steps.step"])
def test_steps_import_neither_pydantic_nor_the_client(module: str) -> None:
    heavy = "{'pydantic', 'tritonclient', 'grpc', 'google', 'rich', 'torch'}"
    code = f"import sys, {module}; print(sorted({heavy} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8")
    assert result.stdout.strip() == "[]", result.stderr


def test_an_unknown_name_of_the_room_is_an_attribute_error() -> None:
    import fgmclip.serve

    with pytest.raises(AttributeError, match="no attribute 'Server'"):
        _ = fgmclip.serve.Server


def test_too_little_shared_memory_is_refused_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda _path: usage(64 * 2**20, 0, 64 * 2**20))
    with pytest.raises(SharedMemoryError, match=r"got 64 MB.*--shm-size=1g"):
        shared_memory.require_shared_memory()


def test_a_directory_without_ensembles_is_refused(tmp_path: Path, wheel: Path) -> None:
    with pytest.raises(RepositoryError, match="fgmclip export"), EmbeddedServer(tmp_path / "none"):
        pass
    (tmp_path / "step").mkdir()
    (tmp_path / "step" / "config.pbtxt").write_text('backend: "python"', encoding="utf-8")
    with pytest.raises(RepositoryError, match="at least one ensemble"), EmbeddedServer(tmp_path):
        pass


def test_a_server_outside_its_block_is_not_running(tmp_path: Path) -> None:
    with pytest.raises(ServerDiedError, match="'with' block"):
        EmbeddedServer(tmp_path).reload()


@pytest.mark.parametrize(
    ("version", "affected"),
    [("2.51.0", True), ("2.58.9", True), ("2.59.0", False), ("3.0.0", False), ("dev", True)],
)
def test_versions_with_published_vulnerabilities_are_known(version: str, affected: bool) -> None:
    assert is_affected(version) == affected
