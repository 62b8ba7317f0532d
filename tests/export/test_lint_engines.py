"""`fgmclip repo lint` on releases whose engines are built from recipes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fgmclip.export.configs import format_config, parse_config
from fgmclip.export.ladder.candidate import Precision
from fgmclip.export.lint import lint_repository
from fgmclip.export.manifest import folder_hashes
from fgmclip.export.names import manifest_name, step_release
from fgmclip.export.repository import Repository
from fgmclip.export.targets import Target

MakeRelease = Callable[[Target, Precision], Path]
Change = Callable[[Path], object]

HEAD = "fusion_head__r1"
RECIPE = f"{HEAD}/1/recipe.json"
OTHER = f"{HEAD}/configs/tensorrt.pbtxt"
PLAN = f"{HEAD}/1/model.plan"
GATE = "classify__r1/gate"


def remove(name: str) -> Change:
    def plant(path: Path) -> None:
        (path / name).unlink()

    return plant


def write(name: str, text: str) -> Change:
    return lambda path: (path / name).write_text(text, encoding="utf-8")


def edit_json(name: str, **fields: object) -> Change:
    def plant(path: Path) -> None:
        values = json.loads((path / name).read_text(encoding="utf-8"))
        (path / name).write_text(json.dumps(values | fields), encoding="utf-8")

    return plant


def edit_config(name: str, change: Callable[[Any], object]) -> Change:
    def plant(path: Path) -> None:
        config = parse_config((path / name).read_text(encoding="utf-8"))
        change(config)
        (path / name).write_text(format_config(config), encoding="utf-8")

    return plant


def cut_clips(path: Path) -> None:
    file = path / GATE / "clips.npz"
    with np.load(file) as clips:
        arrays = {name: clips[name] for name in clips.files}
    arrays["logits"] = arrays["logits"][:, :-1]
    np.savez(file, **arrays)


def flip_a_byte(path: Path) -> None:
    data = bytearray((path / PLAN).read_bytes())
    data[-1] ^= 1
    (path / PLAN).write_bytes(data)


def another_version(path: Path) -> None:
    data = bytearray((path / PLAN).read_bytes())
    data[24] += 1
    (path / PLAN).write_bytes(data)


@dataclass(frozen=True, slots=True)
class Fault:
    """What is planted and what has to be found."""

    target: Target
    check: str
    path: str
    got: str
    plant: Change


# fmt: off
FAULTS = [
    Fault("tensorrt", "recipe", RECIPE, "expected a recipe", remove(RECIPE)),
    Fault("rtx", "recipe", RECIPE, "format", edit_json(RECIPE, format=9)),
    Fault("tensorrt", "recipe", RECIPE, "motion_encoder", edit_json(RECIPE, part="motion_encoder")),
    Fault("tensorrt", "recipe", RECIPE, "rtx", edit_json(RECIPE, library="rtx")),
    Fault("tensorrt", "recipe", RECIPE, "fp32",
          edit_json(RECIPE, precision="fp32", rest="fp32")),
    Fault("tensorrt", "recipe", RECIPE, "8", edit_json(RECIPE, max_batch=8)),
    Fault("tensorrt", "recipe", RECIPE, "0", edit_json(RECIPE, model_tag="0")),
    Fault("tensorrt", "recipe", RECIPE, "0", edit_json(RECIPE, onnx_sha256="0")),
    Fault("tensorrt", "alternative-config", OTHER, "none", remove(OTHER)),
    Fault("tensorrt", "alternative-config", OTHER, "", write(OTHER, "backend: tensorrt")),
    Fault("tensorrt", "alternative-config", OTHER, "another backend",
          edit_config(OTHER, lambda config: setattr(config, "backend", "onnxruntime"))),
    Fault("tensorrt", "alternative-config", OTHER, "another max_batch_size",
          edit_config(OTHER, lambda config: setattr(config, "max_batch_size", 8))),
    Fault("tensorrt", "alternative-config", OTHER, "another input",
          edit_config(OTHER, lambda config: setattr(config.input[0], "data_type", 10))),
    Fault("tensorrt", "alternative-config", OTHER, "another name",
          edit_config(OTHER, lambda config: setattr(config, "name", "x"))),
    Fault("tensorrt", "alternative-config", OTHER, "another output",
          edit_config(OTHER, lambda config: config.output[0].dims.append(3))),
    Fault("rtx", "plan", PLAN, "none", remove(PLAN)),
    Fault("rtx", "plan", PLAN, "no engine or a damaged one", write(PLAN, "plan")),
    Fault("rtx", "plan", PLAN, "got one of TensorRT for RTX", another_version),
    Fault("rtx", "plan-report", f"{PLAN}.json", "", flip_a_byte),
    Fault("rtx", "plan-report", f"{PLAN}.json", "", remove(f"{PLAN}.json")),
    Fault("rtx", "plan-report", f"{PLAN}.json", "fp16",
          edit_json(f"{PLAN}.json", precision="fp16")),
    Fault("rtx", "plan", PLAN, "compute capability", edit_json(manifest_name(1), sm=[75])),
    Fault("tensorrt", "gate-folder", GATE, "clips.npz", remove(f"{GATE}/clips.npz")),
    Fault("rtx", "gate-folder", GATE, "thresholds.json", remove(f"{GATE}/thresholds.json")),
    Fault("tensorrt", "gate-folder", GATE, "cosine=0.5",
          edit_json(f"{GATE}/thresholds.json", cosine=0.5)),
    Fault("tensorrt", "gate-folder", GATE, "True",
          edit_json(f"{GATE}/thresholds.json", trained=True)),
    Fault("tensorrt", "gate-folder", GATE, "", cut_clips),
    Fault("rtx", "instance-kind", f"{HEAD}/config.pbtxt", "KIND_GPU",
          edit_config(f"{HEAD}/config.pbtxt",
                      lambda config: setattr(config.instance_group[0], "kind", 1))),
    Fault("rtx", "runtime", f"{HEAD}/config.pbtxt", "colour",
          edit_config(f"{HEAD}/config.pbtxt",
                      lambda config: setattr(config.parameters["colour"], "string_value", "4"))),
    Fault("rtx", "gpu-tensors", "preprocess__r1/config.pbtxt", "none",
          edit_config("preprocess__r1/config.pbtxt",
                      lambda config: config.parameters.pop("FORCE_CPU_ONLY_INPUT_TENSORS"))),
]
# fmt: on

PRECISION: dict[Target, Precision] = {"tensorrt": "fp16", "rtx": "bf16"}


def sign(path: Path) -> None:
    """Let the manifest say what is there, as if the fault had been published."""
    manifest = Repository(path).manifest(1)
    files = {
        name: digest
        for folder in path.iterdir()
        if step_release(folder.name) == 1
        for name, digest in folder_hashes(folder, folder.name).items()
    }
    (path / manifest_name(1)).write_text(manifest.replace(files=files).to_json(), encoding="utf-8")


@pytest.mark.parametrize(
    ("target", "precision"),
    [
        ("cpu", "fp32"),
        ("onnx-gpu", "fp16"),
        ("tensorrt", "fp16"),
        ("tensorrt", "int8"),
        ("rtx", "bf16"),
        ("rtx", "int8"),
    ],
)
def test_a_release_of_every_target_is_clean(
    release_of: MakeRelease, target: Target, precision: Precision
) -> None:
    assert lint_repository(release_of(target, precision)) == []


@pytest.mark.parametrize(
    "fault", FAULTS, ids=lambda fault: f"{fault.target} {fault.check} {fault.got}"
)
def test_a_planted_fault_is_found(release_of: MakeRelease, tmp_path: Path, fault: Fault) -> None:
    path = tmp_path / "repository"
    shutil.copytree(release_of(fault.target, PRECISION[fault.target]), path)
    fault.plant(path)
    sign(path)
    findings = lint_repository(path)
    assert fault.path in {item.path for item in findings}
    assert {item.check for item in findings} == {fault.check}
    assert any(fault.got in item.got for item in findings)
    assert all(item.remedy for item in findings)
