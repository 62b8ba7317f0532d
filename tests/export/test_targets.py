"""Targets: what a GPU's release is made of, as far as it can be seen without one."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import onnx
import pytest

from fgmclip.export.configs import parse_config
from fgmclip.export.errors import ExportError
from fgmclip.export.names import PARTS
from fgmclip.export.release import export_release
from fgmclip.export.repository import Repository
from fgmclip.kernels.cuda import binary
from fgmclip.kernels.cuda.abi import KERNELS
from fgmclip.model.network import FgmClip


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with a fat binary in it: what is inside is no business of export."""
    monkeypatch.setenv(binary.CACHE_VARIABLE, str(tmp_path / "cache"))
    path = binary.cache_path(binary.source_hash())
    path.parent.mkdir(parents=True)
    path.write_bytes(b"code")
    figures = tuple(
        binary.KernelFigures(kernel, "sm_90", 32, 0, 0, 0, 0, 1, 256) for kernel in KERNELS
    )
    record = binary.BinaryRecord(
        source_sha256=binary.source_hash(),
        binary_sha256=hashlib.sha256(b"code").hexdigest(),
        compiler="13.0",
        flags=(),
        architectures=("sm_90",),
        virtual=(),
        left_out=(),
        figures=figures,
    )
    binary.record_path(path).write_text(record.to_json())
    return path


def config_of(repository: Path, step: str) -> Any:
    return parse_config((repository / f"{step}__r1" / "config.pbtxt").read_text())


def kinds(config: Any) -> list[str]:
    return [group.Kind.Name(group.kind) for group in config.instance_group]


def test_a_gpus_release_runs_engines_in_tritons_backend_and_kernels_before_them(
    tiny: FgmClip, tmp_path: Path, stand_in: Path
) -> None:
    path = tmp_path / "repository"
    manifest = export_release(tiny, path, target="onnx-gpu")
    assert manifest.target == "onnx-gpu"
    for part in PARTS:
        config = config_of(path, part)
        assert config.backend == "onnxruntime"
        assert [group.kind for group in config.instance_group] == [
            config.instance_group[0].KIND_GPU
        ]
        version = path / f"{part}__r1" / "1"
        assert [item.name for item in version.iterdir()] == ["model.onnx"]
        graph = onnx.load(version / "model.onnx").graph
        assert {item.name for item in graph.input} == {item.name for item in config.input}
        assert {item.name for item in graph.output} == {item.name for item in config.output}
    config = config_of(path, "preprocess")
    assert config.parameters["FORCE_CPU_ONLY_INPUT_TENSORS"].string_value == "no"
    assert kinds(config) == ["KIND_GPU"]
    carried = path / "preprocess__r1" / "1" / "fgmclip" / "kernels" / "cuda" / binary.NAME
    assert carried.read_bytes() == stand_in.read_bytes()
    for step in ("window", "classify", "preprocess_edge"):
        assert config_of(path, step).backend == "python"
    assert set(Repository(path).active().values()) == {1}


def test_without_the_built_kernels_nothing_is_published(
    tiny: FgmClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(binary.CACHE_VARIABLE, str(tmp_path / "empty"))
    path = tmp_path / "repository"
    with pytest.raises(ExportError, match="fgmclip kernels build"):
        export_release(tiny, path, target="onnx-gpu")
    assert not Repository(path).active()


def test_a_release_for_a_cpu_carries_no_cuda_binary(tiny: FgmClip, tmp_path: Path) -> None:
    path = tmp_path / "repository"
    export_release(tiny, path)
    assert not list(path.rglob(binary.NAME))
