"""`fgmclip repo lint`: a clean repository has no findings, each planted fault has its own."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from fgmclip.cli import main
from fgmclip.export import release as release_module
from fgmclip.export.configs import format_config, parse_config
from fgmclip.export.ladder.candidate import Precision
from fgmclip.export.lint import Finding, lint_repository
from fgmclip.export.manifest import folder_hashes
from fgmclip.export.names import ENSEMBLES, Part, manifest_name, step_release
from fgmclip.export.release import export_release
from fgmclip.export.repository import Repository
from fgmclip.export.targets import Target
from fgmclip.kernels.cuda import binary
from fgmclip.model.network import FgmClip

IMAGE = "clip_image_encoder__r1"
MakeRelease = Callable[[Target, Precision], Path]
FATBIN = f"preprocess__r1/1/fgmclip/kernels/cuda/{binary.NAME}"


@pytest.fixture(scope="module")
def clean(
    tiny: FgmClip,
    quick_onnx: Callable[[FgmClip, Part], onnx.ModelProto],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A repository with two releases of the small model, exported once."""
    path = tmp_path_factory.mktemp("clean") / "repository"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(release_module, "to_onnx", quick_onnx)
        export_release(tiny, path)
        export_release(tiny, path)
    Repository(path).activate(1)
    return path


@pytest.fixture(scope="module")
def clean_gpu(release_of: MakeRelease) -> Path:
    """A release for a GPU; what is inside its fat binary is no business of the linter."""
    return release_of("onnx-gpu", "fp32")


class Bench:
    """A copy of a repository to plant a fault in."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def edit(self, model: str, change: Callable[[Any], object]) -> None:
        """Change a model's config."""
        file = self.path / model / "config.pbtxt"
        config = parse_config(file.read_text(encoding="utf-8"))
        change(config)
        file.write_text(format_config(config), encoding="utf-8")

    def edit_manifest(self, release: int, change: Callable[[dict[str, Any]], object]) -> None:
        """Change a release's manifest as JSON."""
        file = self.path / manifest_name(release)
        fields = json.loads(file.read_text(encoding="utf-8"))
        change(fields)
        file.write_text(json.dumps(fields), encoding="utf-8")

    def interrupt(self) -> None:
        """Let one ensemble serve the other release, as a killed publication does."""
        config = Repository(self.path).manifest(2).ensembles["fgm_clip"]
        (self.path / "fgm_clip" / "config.pbtxt").write_text(config, encoding="utf-8")

    def sign(self) -> None:
        """Let the manifests say what is there, as if the fault had been published."""
        for release in Repository(self.path).releases():
            manifest = Repository(self.path).manifest(release)
            files = {
                name: digest
                for folder in self.path.iterdir()
                if step_release(folder.name) == release
                for name, digest in folder_hashes(folder, folder.name).items()
            }
            ensembles = dict(manifest.ensembles)
            if release == 1:
                ensembles = {
                    name: file.read_text(encoding="utf-8")
                    for name in ENSEMBLES
                    if (file := self.path / name / "config.pbtxt").is_file()
                }
            signed = manifest.replace(files=files, ensembles=ensembles)
            (self.path / manifest_name(release)).write_text(signed.to_json(), encoding="utf-8")


@pytest.fixture
def bench(clean: Path, tmp_path: Path) -> Bench:
    shutil.copytree(clean, tmp_path / "repository")
    return Bench(tmp_path / "repository")


@pytest.fixture
def gpu_bench(clean_gpu: Path, tmp_path: Path) -> Bench:
    shutil.copytree(clean_gpu, tmp_path / "repository")
    return Bench(tmp_path / "repository")


def test_a_clean_repository_has_no_findings(clean: Path, clean_gpu: Path) -> None:
    assert lint_repository(clean) == []
    assert lint_repository(clean_gpu) == []


def test_a_path_that_triton_would_hand_to_a_shell_is_a_warning(clean: Path, tmp_path: Path) -> None:
    shutil.copytree(clean, tmp_path / "c $(d)")
    (finding,) = lint_repository(tmp_path / "c $(d)")
    assert (finding.check, finding.severity) == ("path", "warning")


def test_what_a_server_writes_is_no_finding(bench: Bench) -> None:
    folder = bench.path / IMAGE / "1" / "__pycache__"
    folder.mkdir()
    (folder / "model.cpython-311.pyc").write_bytes(b"")
    assert lint_repository(bench.path) == []


def step_of(config: Any, name: str) -> Any:
    return next(
        step for step in config.ensemble_scheduling.step if step.model_name.startswith(name)
    )


def tensor(tensors: Any, name: str) -> Any:
    return next(item for item in tensors if item.name == name)


def put(field: Any, value: Any) -> None:
    """Replace a repeated field."""
    del field[:]
    field.extend(value)


def edit_graph(bench: Bench, change: Callable[[Any], object]) -> None:
    file = bench.path / IMAGE / "1" / "model.onnx"
    model = onnx.load(file)
    change(model.graph)
    onnx.save(model, file)


def in_ensemble(change: Callable[[Any], object]) -> Callable[[Bench], None]:
    return lambda bench: bench.edit("fgm_clip_stream", change)


def in_step(step: str, change: Callable[[Any], object]) -> Callable[[Bench], None]:
    return lambda bench: bench.edit(f"{step}__r1", change)


def rename_wire(config: Any, step: str, key: str, wire: str) -> None:
    step_of(config, step).input_map[key] = wire


def write(name: str, text: str) -> Callable[[Bench], None]:
    def plant(bench: Bench) -> None:
        (bench.path / name).parent.mkdir(parents=True, exist_ok=True)
        (bench.path / name).write_text(text, encoding="utf-8")

    return plant


def cut(name: str, size: int) -> Callable[[Bench], None]:
    return lambda bench: os.truncate(bench.path / name, size)


def remove(name: str) -> Callable[[Bench], None]:
    def plant(bench: Bench) -> None:
        path = bench.path / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()

    return plant


def deadlock(config: Any) -> None:
    """Publish the wire that feeds `classify`, instead of the copy that it makes."""
    put(config.output, [item for item in config.output if item.name != "EMBEDDING"])
    config.output.add(name="embedding", data_type="TYPE_FP32", dims=[-1, 16])


def narrow_classes(bench: Bench) -> None:
    file = bench.path / "classify__r1" / "1" / "classes.npz"
    with np.load(file) as arrays:
        kept = {name: value[:-1] for name, value in arrays.items()}
    np.savez(file, **kept)


def warm_up(config: Any) -> None:
    sample = config.model_warmup.add(name="one", batch_size=1)
    sample.inputs["PIXELS"].data_type = config.input[0].data_type
    sample.inputs["PIXELS"].dims.extend([3, 32, 48])


def another_dt(config: Any) -> None:
    parameter = config.parameters["fgmclip_manifest"]
    parameter.string_value = json.dumps(json.loads(parameter.string_value) | {"dt": 9.0})


@dataclass(frozen=True)
class Fault:
    """A planted fault.

    Attributes:
        check: The finding it must give, and nothing else.
        path: Where the finding is.
        remedy: Part of its remedy.
        plant: Plants it.
        signed: Whether the manifests are made to agree with it.
    """

    check: str
    path: str
    remedy: str
    plant: Callable[[Bench], object]
    signed: bool = True


EXPORT = "export the checkpoint again"
ACTIVATE = "fgmclip repo activate"
STREAM = "fgm_clip_stream/config.pbtxt"
ENCODER = f"{IMAGE}/config.pbtxt"

# fmt: off
FAULTS: list[Fault] = [
    # Configs and files of steps.
    Fault("unparsable", ENCODER, EXPORT, write(ENCODER, "name: oops")),
    Fault("no-config", ENCODER, EXPORT, remove(ENCODER)),
    Fault("name", ENCODER, 'write name: "clip_image', in_step("clip_image_encoder",
          lambda config: setattr(config, "name", "encoder"))),
    Fault("backend", ENCODER, EXPORT, in_step("clip_image_encoder",
          lambda config: setattr(config, "backend", "caffe"))),
    Fault("version-folder", "window__r1", EXPORT, remove("window__r1/1")),
    Fault("backend-file", "window__r1/1/model.py", EXPORT, remove("window__r1/1/model.py")),
    Fault("backend-file", f"{IMAGE}/1/model.onnx", EXPORT, remove(f"{IMAGE}/1/model.onnx")),
    Fault("backend-file", "classify__r1/1/classes.npz", EXPORT,
          remove("classify__r1/1/classes.npz")),
    Fault("tensor", "classify__r1/config.pbtxt", EXPORT, in_step("classify",
          lambda config: put(config.output[0].dims, [-1, 0]))),
    Fault("max-batch", ENCODER, "raise max_batch_size to 64", in_step("clip_image_encoder",
          lambda config: setattr(config, "max_batch_size", 8))),
    Fault("batching", ENCODER, "lower preferred_batch_size", in_step("clip_image_encoder",
          lambda config: config.dynamic_batching.preferred_batch_size.append(128))),
    Fault("warm-up", ENCODER, EXPORT, in_step("clip_image_encoder", warm_up)),
    Fault("instance-kind", ENCODER, "set the kind", in_step("clip_image_encoder",
          lambda config: put(config.instance_group, []))),
    Fault("instance-kind", ENCODER, "set the kind", in_step("clip_image_encoder",
          lambda config: setattr(config.instance_group[0], "kind", 0))),
    Fault("instance-count", ENCODER, "set count: 1", in_step("clip_image_encoder",
          lambda config: setattr(config.instance_group[0], "count", 0))),
    Fault("parameter", "window__r1/config.pbtxt", EXPORT, in_step("window",
          lambda config: setattr(config.parameters["embedding_tag"], "string_value", "0"))),
    Fault("parameter", "classify__r1/config.pbtxt", EXPORT, in_step("classify",
          lambda config: setattr(config.parameters["model_tag"], "string_value", "0"))),
    Fault("parameter", "preprocess__r1/config.pbtxt", EXPORT, in_step("preprocess",
          lambda config: config.parameters.pop("limits"))),
    Fault("runtime", ENCODER, EXPORT, in_step("clip_image_encoder",
          lambda config: setattr(config.parameters["runtime"], "string_value", "caffe"))),
    Fault("runtime", ENCODER, EXPORT, in_step("clip_image_encoder",
          lambda config: setattr(config.parameters["colour"], "string_value", "4"))),
    # Labels and classes.
    Fault("labels", "fgm_clip/labels-r1.txt", EXPORT, remove("fgm_clip/labels-r1.txt")),
    Fault("labels", "fgm_clip/labels-r1.txt", EXPORT, write("fgm_clip/labels-r1.txt", "one\n")),
    Fault("classes", "classify__r1/1/classes.npz", "replace the class file", narrow_classes),
    Fault("classes", "classify__r1/1/classes.npz", EXPORT, cut("classify__r1/1/classes.npz", 99)),
    Fault("classes", "classify__r1/1/classes.npz", EXPORT, cut("classify__r1/1/classes.npz", 0)),
    # Graphs.
    Fault("graph", f"{IMAGE}/1/model.onnx", EXPORT, write(f"{IMAGE}/1/model.onnx", "no graph")),
    Fault("graph-names", ENCODER, EXPORT, lambda bench: edit_graph(bench,
          lambda graph: setattr(graph.output[0], "name", "FEATURES"))),
    Fault("graph-type", ENCODER, EXPORT, lambda bench: edit_graph(bench,
          lambda graph: setattr(graph.input[0].type.tensor_type, "elem_type", 10))),
    Fault("graph-shape", ENCODER, EXPORT, lambda bench: edit_graph(bench,
          lambda graph: setattr(graph.input[0].type.tensor_type.shape.dim[3], "dim_value", 64))),
    Fault("graph-batch", ENCODER, "set max_batch_size: 0", lambda bench: edit_graph(bench,
          lambda graph: setattr(graph.input[0].type.tensor_type.shape.dim[0], "dim_value", 4))),
    # Wires.
    Fault("ensemble-batching", STREAM, ACTIVATE, in_ensemble(
          lambda config: setattr(config, "max_batch_size", 8))),
    Fault("step-missing", STREAM, EXPORT, in_ensemble(
          lambda config: setattr(step_of(config, "window"), "model_name", "windows__r1"))),
    Fault("step-release", STREAM, ACTIVATE, in_ensemble(
          lambda config: setattr(step_of(config, "window"), "model_name", "window__r2"))),
    Fault("map-key", STREAM, ACTIVATE, in_ensemble(
          lambda config: rename_wire(config, "classify", "EMBEDING", "embedding"))),
    Fault("input-unmapped", STREAM, ACTIVATE, in_ensemble(
          lambda config: step_of(config, "fusion_head").input_map.pop("VISUAL"))),
    Fault("wire-source", STREAM, ACTIVATE, in_ensemble(
          lambda config: rename_wire(config, "window", "TRACKS", "track"))),
    Fault("wire-sources", "fgm_clip/config.pbtxt", ACTIVATE, lambda bench: bench.edit("fgm_clip",
          lambda config: step_of(config, "window").output_map.update(VISUAL_NEW="visual"))),
    Fault("wire-type", STREAM, EXPORT, in_ensemble(
          lambda config: setattr(tensor(config.input, "VISUAL_HISTORY"), "data_type", 10))),
    Fault("wire-rank", STREAM, EXPORT, in_ensemble(
          lambda config: put(tensor(config.output, "LOGITS").dims, [-1]))),
    Fault("wire-shape", STREAM, EXPORT, in_ensemble(
          lambda config: put(tensor(config.output, "EMBEDDING").dims, [-1, 17]))),
    Fault("wire-optional", STREAM, ACTIVATE, in_ensemble(
          lambda config: setattr(tensor(config.input, "FRAMES"), "optional", True))),
    Fault("input-unused", STREAM, ACTIVATE, in_ensemble(
          lambda config: config.input.add(name="EXTRA", data_type="TYPE_FP32", dims=[1]))),
    Fault("deadlock", STREAM, "publish a copy", in_ensemble(deadlock)),
    # Ensembles as they are published.
    Fault("backend", STREAM, ACTIVATE, in_ensemble(
          lambda config: setattr(config, "platform", ""))),
    Fault("version-folder", "fgm_clip", ACTIVATE, remove("fgm_clip/1")),
    Fault("version-empty", "fgm_clip/1", ACTIVATE, remove("fgm_clip/1/.gitkeep")),
    Fault("public-manifest", STREAM, ACTIVATE, in_ensemble(
          lambda config: config.parameters.pop("fgmclip_manifest"))),
    Fault("public-differs", STREAM, "fgmclip repo activate DIR 1", in_ensemble(another_dt)),
    Fault("mixed-releases", ".", "fgmclip repo activate DIR 2",
          Bench.interrupt, signed=False),
    Fault("ensemble-altered", STREAM, "fgmclip repo activate DIR 1", in_ensemble(
          lambda config: setattr(config, "default_model_filename", "x")), signed=False),
    Fault("ensemble-missing", "fgm_clip", ACTIVATE, remove("fgm_clip")),
    # Releases.
    Fault("missing", "window__r2/1/fgmclip/__init__.py", EXPORT,
          remove("window__r2/1/fgmclip/__init__.py"), signed=False),
    Fault("altered", f"{IMAGE}/1/model.py", "put the published file back",
          write(f"{IMAGE}/1/model.py", "print()"), signed=False),
    Fault("unlisted", f"{IMAGE}/1/extra.py", "remove it", write(f"{IMAGE}/1/extra.py", ""),
          signed=False),
    Fault("unlisted", "notes.txt", "move it out", write("notes.txt", "")),
    Fault("unlisted", "fgm_clip/labels-r9.txt", "remove it", write("fgm_clip/labels-r9.txt", "")),
    Fault("unknown-folder", "backup", "move it out", write("backup/config.pbtxt", "")),
    Fault("no-manifest", "window__r9", "remove the folder",
          write("window__r9/config.pbtxt", 'name: "window__r9"')),
    Fault("leftover", "fgm_clip/.staging", "wait for a running export",
          write("fgm_clip/.staging/window__r3/config.pbtxt", "")),
    Fault("leftover", "fgm_clip_edge/.fgmclip-writing-1-ab", "wait for a running export",
          write("fgm_clip_edge/.fgmclip-writing-1-ab", "")),
    Fault("manifest", "manifest-r2.json", EXPORT,
          lambda bench: bench.edit_manifest(2, lambda fields: fields.update(format=9)),
          signed=False),
]
# fmt: on


def found(findings: list[Finding]) -> list[str]:
    return [f"{item.check} {item.path}" for item in findings]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.check} {fault.path}")
def test_a_planted_fault_is_found_by_name_with_its_remedy(bench: Bench, fault: Fault) -> None:
    fault.plant(bench)
    if fault.signed:
        bench.sign()
    findings = lint_repository(bench.path)
    assert (f"{fault.check} {fault.path}") in found(findings)
    assert {item.check for item in findings} == {fault.check}
    assert all(fault.remedy in item.remedy for item in findings)


GPU_FAULTS = [
    (
        "instance-kind",
        lambda bench: bench.edit(
            IMAGE, lambda config: setattr(config.instance_group[0], "kind", 2)
        ),
    ),
    (
        "gpu-tensors",
        lambda bench: bench.edit(
            "preprocess__r1",
            lambda config: config.parameters.pop("FORCE_CPU_ONLY_INPUT_TENSORS"),
        ),
    ),
    ("fat-binary", remove(FATBIN)),
    ("fat-binary", write(FATBIN, "other code")),
]


@pytest.mark.parametrize(("check", "plant"), GPU_FAULTS)
def test_a_fault_of_a_gpus_release_is_found(
    gpu_bench: Bench, check: str, plant: Callable[[Bench], object]
) -> None:
    plant(gpu_bench)
    gpu_bench.sign()
    findings = lint_repository(gpu_bench.path)
    assert {item.check for item in findings} == {check}


def test_a_release_that_is_not_served_is_checked_as_well(bench: Bench) -> None:
    def change(fields: dict[str, Any]) -> None:
        text = fields["ensembles"]["fgm_clip"]
        fields["ensembles"]["fgm_clip"] = text.replace("window__r2", "window__r1")

    bench.edit_manifest(2, change)
    findings = lint_repository(bench.path)
    assert found(findings) == ["step-release manifest-r2.json: fgm_clip"]


def test_an_ensemble_of_a_release_that_is_gone_is_found(bench: Bench) -> None:
    (bench.path / "manifest-r1.json").unlink()
    findings = lint_repository(bench.path)
    assert {item.check for item in findings} == {"release-missing", "no-manifest", "unlisted"}
    assert all(item.expected and item.got and item.remedy for item in findings)


def test_an_empty_folder_is_no_clean_repository(tmp_path: Path) -> None:
    assert found(lint_repository(tmp_path)) == ["empty ."]


def test_progress_ends_at_the_number_of_files(clean: Path) -> None:
    seen: list[tuple[int, int]] = []
    lint_repository(clean, lambda done, total: seen.append((done, total)))
    files = sum(len(Repository(clean).manifest(number).files) for number in (1, 2))
    assert seen[-1] == (files, files)


def code(*arguments: str) -> int:
    try:
        return main(["repo", "lint", *arguments])
    except SystemExit as end:
        return int(end.code or 0)


def test_the_command_tells_by_its_exit_code(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    assert code(str(bench.path)) == 0
    assert "nothing found" in " ".join(capsys.readouterr().out.split())
    assert code(str(bench.path), "--json") == 0
    assert json.loads(capsys.readouterr().out) == []
    (bench.path / "window__r1" / "config.pbtxt").unlink()
    assert code(str(bench.path)) == 1
    assert "no-config" in capsys.readouterr().out
    assert code(str(bench.path), "--json") == 1
    rows = json.loads(capsys.readouterr().out)
    assert {row["check"] for row in rows} == {"no-config", "missing"}
    assert set(rows[0]) == {"check", "path", "expected", "got", "remedy", "severity"}
    assert code(str(bench.path / "nowhere")) == 2
    assert "expected a directory" in capsys.readouterr().err
