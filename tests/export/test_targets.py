"""Targets: what a GPU's release is made of, as far as it can be seen without one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto

from fgmclip.cli import main
from fgmclip.export import release as release_module
from fgmclip.export.configs import parse_config
from fgmclip.export.errors import ExportError
from fgmclip.export.gate_folder import read_gate_folder
from fgmclip.export.ladder.candidate import Precision
from fgmclip.export.manifest import ReleaseManifest
from fgmclip.export.names import PARTS, Part
from fgmclip.export.precision import PrecisionRequest
from fgmclip.export.release import export_release
from fgmclip.export.repository import Repository
from fgmclip.export.targets import PRECISIONS, TARGETS, Target, precision_fault
from fgmclip.export.tensorrt.graph_types import products, require_precision, weight_bytes
from fgmclip.export.tensorrt.report import EngineReport
from fgmclip.kernels.cuda import binary
from fgmclip.model.network import FgmClip
from fgmclip.serve.runtimes.plan_file import read_plan_head
from fgmclip.serve.runtimes.proof import file_sha256
from fgmclip.serve.runtimes.recipe import read_recipe

MakeRelease = Callable[[Target, Precision], Path]

ENGINES: list[tuple[Target, Precision]] = [
    ("tensorrt", "fp16"),
    ("tensorrt", "int8"),
    ("rtx", "bf16"),
    ("rtx", "int8"),
]


def config_of(repository: Path, step: str, name: str = "config.pbtxt") -> Any:
    return parse_config((repository / f"{step}__r1" / name).read_text(encoding="utf-8"))


def kinds(config: Any) -> list[str]:
    return [group.Kind.Name(group.kind) for group in config.instance_group]


def manifest_of(repository: Path) -> ReleaseManifest:
    return Repository(repository).manifest(1)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_gpus_release_runs_engines_in_tritons_backend_and_kernels_before_them(
    release_of: MakeRelease, kernel_cache: Path, precision: Precision
) -> None:
    path = release_of("onnx-gpu", precision)
    manifest = manifest_of(path)
    assert (manifest.target, manifest.public.precision) == ("onnx-gpu", precision)
    assert set(manifest.precision_built.values()) == {precision}
    for part in PARTS:
        config = config_of(path, part)
        assert config.backend == "onnxruntime"
        assert kinds(config) == ["KIND_GPU"]
        version = path / f"{part}__r1" / "1"
        assert [item.name for item in version.iterdir()] == ["model.onnx"]
        model = onnx.load(version / "model.onnx")
        assert {item.name for item in model.graph.input} == {item.name for item in config.input}
        assert {item.name for item in model.graph.output} == {item.name for item in config.output}
        edges = [*model.graph.input, *model.graph.output]
        assert {item.type.tensor_type.elem_type for item in edges} == {TensorProto.FLOAT}
        assert {kind for item in products(model) for kind in item.types} == {precision}
    config = config_of(path, "preprocess")
    assert config.parameters["FORCE_CPU_ONLY_INPUT_TENSORS"].string_value == "no"
    assert kinds(config) == ["KIND_GPU"]
    carried = path / "preprocess__r1" / "1" / "fgmclip" / "kernels" / "cuda" / binary.NAME
    (built,) = kernel_cache.rglob(binary.NAME)
    assert carried.read_bytes() == built.read_bytes()
    for step in ("window", "classify", "preprocess_edge"):
        assert config_of(path, step).backend == "python"
    assert set(Repository(path).active().values()) == {1}


@pytest.mark.parametrize(("target", "precision"), ENGINES)
def test_what_an_engine_is_to_be_built_from_stands_beside_its_graph(
    release_of: MakeRelease, target: Target, precision: Precision
) -> None:
    path = release_of(target, precision)
    manifest = manifest_of(path)
    assert manifest.public.precision == precision
    for part in PARTS:
        version = path / f"{part}__r1" / "1"
        recipe = read_recipe(version / "recipe.json")
        assert (recipe.part, recipe.library, recipe.precision) == (part, target, precision)
        assert recipe.rest == ("fp16" if precision == "int8" else precision)
        assert recipe.max_batch == config_of(path, part).max_batch_size == 64
        assert recipe.model_tag == manifest.public.model_tag
        assert recipe.onnx_sha256 == file_sha256(version / "model.onnx")
        # The graph serves where no engine is proven: fp32 but for what is int8.
        graph = onnx.load(version / "model.onnx")
        if precision == "int8":
            assert require_precision(graph, "int8")
        assert set(weight_bytes(graph)) <= {"fp32", "int8"}


@pytest.mark.parametrize(("target", "precision"), ENGINES)
def test_a_target_gets_the_gates_clips_and_the_thresholds(
    release_of: MakeRelease, tiny: FgmClip, target: Target, precision: Precision
) -> None:
    path = release_of(target, precision)
    report = manifest_of(path).gate
    assert report is not None
    gate = read_gate_folder(path / "classify__r1" / "gate")
    assert gate.thresholds == report.thresholds
    assert (len(gate.labels), gate.trained) == (report.clips, False)
    assert gate.frames == tiny.spec.clip.frames
    assert gate.logits.shape == (report.clips, len(tiny.spec.classes))
    assert set(gate.outputs) == set(PARTS)


def test_fp32_engines_are_gated_where_they_run_as_well(release_of: MakeRelease) -> None:
    path = release_of("tensorrt", "fp32")
    assert read_recipe(path / "fusion_head__r1" / "1" / "recipe.json").precision == "fp32"
    assert read_gate_folder(path / "classify__r1" / "gate").labels


@pytest.mark.parametrize("part", PARTS)
def test_tritons_tensorrt_backend_has_a_config_of_its_own(
    release_of: MakeRelease, part: str
) -> None:
    path = release_of("tensorrt", "fp16")
    own, other = config_of(path, part), config_of(path, part, "configs/tensorrt.pbtxt")
    assert (own.backend, other.backend) == ("onnxruntime", "tensorrt")
    assert other.optimization.cuda.graphs
    rows = [item.batch_size for item in other.optimization.cuda.graph_spec]
    assert rows == ([1] if part == "fusion_head" else [1, 2])
    other.backend = own.backend
    other.ClearField("optimization")
    assert other == own
    assert kinds(own) == ["KIND_GPU"]
    # The engine is built where it will run, outside the release.
    assert not list(path.rglob("*.plan"))
    assert manifest_of(path).precision_built[part] == "fp16, to be built on the target"


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_engines_of_tensorrt_for_rtx_are_in_the_release(
    release_of: MakeRelease, precision: Precision
) -> None:
    path = release_of("rtx", precision)
    manifest = manifest_of(path)
    assert manifest.sm == (86, 89)
    assert [item.part for item in manifest.engines] == list(PARTS)
    for report in manifest.engines:
        version = path / f"{report.part}__r1" / "1"
        head = read_plan_head(version / "model.plan")
        assert head is not None
        assert (head.library, head.sms, head.later) == ("rtx", (86, 89), False)
        assert report.engine_sha256 == file_sha256(version / "model.plan")
        assert report.onnx_sha256 == file_sha256(version / "model.onnx")
        text = (version / "model.plan.json").read_text(encoding="utf-8")
        assert EngineReport.from_json(text) == report
        # Nothing of the machine that built it.
        assert str(path.parent) not in text
        # No GPU, nothing proved.
        if not report.inspected:
            assert manifest.precision_built[report.part] == f"{precision}, requested, unverified"


def test_steps_of_tensorrt_for_rtx_run_with_a_gpu_and_without(release_of: MakeRelease) -> None:
    path = release_of("rtx", "bf16")
    for step in (*PARTS, "preprocess"):
        config = config_of(path, step)
        assert config.backend == "python"
        assert kinds(config) == ["KIND_AUTO"]
        assert (path / f"{step}__r1" / "1" / "model.py").is_file()
    parameters = config_of(path, "fusion_head").parameters
    assert {key: item.string_value for key, item in parameters.items()} == {
        "runtime": "rtx",
        "engine": "model.onnx",
        "recipe": "recipe.json",
    }
    for step in ("window", "classify", "preprocess_edge"):
        assert kinds(config_of(path, step)) == ["KIND_CPU"]


def test_without_the_built_kernels_nothing_is_published(
    tiny: FgmClip,
    quick_onnx: Callable[[FgmClip, Part], onnx.ModelProto],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(binary.CACHE_VARIABLE, str(tmp_path / "empty"))
    monkeypatch.setattr(release_module, "to_onnx", quick_onnx)
    path = tmp_path / "repository"
    with pytest.raises(ExportError, match="fgmclip kernels build"):
        export_release(tiny, path, target="onnx-gpu")
    assert not Repository(path).active()


def test_a_release_for_a_cpu_carries_nothing_for_gpus(release_of: MakeRelease) -> None:
    path = release_of("cpu", "fp32")
    for name in (binary.NAME, "recipe.json", "gate", "configs", "*.plan"):
        assert not list(path.rglob(name)), name


def test_every_target_takes_a_precision_of_its_own_if_none_is_asked_for() -> None:
    assert {target: PRECISIONS[target][0] for target in TARGETS} == {
        "cpu": "fp32",
        "onnx-gpu": "fp32",
        "tensorrt": "fp16",
        "rtx": "fp16",
    }
    assert not any(precision_fault(target, PRECISIONS[target][0]) for target in TARGETS)


@pytest.mark.parametrize(
    ("target", "precision", "remedy"),
    [
        ("rtx", "auto", "fgmclip engine build DIR"),
        ("tensorrt", "auto", "fgmclip engine build DIR"),
        ("onnx-gpu", "auto", "no GPU is timed here"),
        ("onnx-gpu", "int8", "expected fp32 or fp16 for --target onnx-gpu, got int8"),
        ("cpu", "fp16", "expected fp32 or bf16 or int8 or auto for --target cpu, got fp16"),
    ],
)
def test_a_precision_that_a_target_lacks_is_refused_with_the_remedy(
    tiny: FgmClip,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    target: Target,
    precision: Precision,
    remedy: str,
) -> None:
    with pytest.raises(ExportError, match=remedy):
        export_release(tiny, tmp_path / "x", target=target, precision=PrecisionRequest(precision))
    words = ["export", "demo", "--repository", str(tmp_path / "x"), "--target", target]
    assert main([*words, "--precision", precision]) == 2
    assert remedy.split()[0] in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_compute_capabilities_belong_to_engines_that_are_built_here(
    tiny: FgmClip, tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match=r"--sm: expected with --target rtx.*got tensorrt"):
        export_release(tiny, tmp_path / "x", target="tensorrt", sms=(86,))
    words = ["export", "demo", "--repository", str(tmp_path / "x"), "--target", "rtx"]
    assert main([*words, "--sm", "8.6"]) == 2
    assert not (tmp_path / "x").exists()


def test_a_compute_capability_that_the_library_lacks_is_refused_before_the_work(
    tiny: FgmClip, tmp_path: Path
) -> None:
    pytest.importorskip("tensorrt_rtx")
    seen: list[str] = []
    with pytest.raises(ExportError, match=r"--sm: expected some of 75, 80, .* got 61"):
        export_release(tiny, tmp_path / "x", target="rtx", sms=(61,), report=seen.append)
    assert not seen
