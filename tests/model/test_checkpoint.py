"""Checkpoints: what is written is read back; what is wrong is told whole and never run."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fgmclip.model.build import build_model
from fgmclip.model.checkpoint import SPEC_KEY, load_checkpoint, save_checkpoint
from fgmclip.model.context import SceneClassifier
from fgmclip.model.errors import (
    CheckpointError,
    NoSpecError,
    UnreadableError,
    UnsafeError,
    WeightsError,
)
from fgmclip.model.network import FgmClip
from fgmclip.spec import FgmclipError, ModelSpec, SpecError

SpecFactory = Callable[..., ModelSpec]


@pytest.fixture(scope="module")
def model(tiny: SpecFactory) -> FgmClip:
    return build_model(tiny(), seed=3)


def assert_same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)


def training_file(path: Path, content: Any, spec: ModelSpec) -> Path:
    torch.save(content, path)
    path.with_suffix(".json").write_text(spec.to_json(), encoding="utf-8")
    return path


def test_a_checkpoint_comes_back_with_its_spec(tiny: SpecFactory, tmp_path: Path) -> None:
    spec = tiny(head={"kind": "both"}, context={"source": "prompts", "prompts": ["a gym"]})
    model = build_model(spec, seed=3)
    path = tmp_path / "model.safetensors"
    save_checkpoint(model, path)
    again = load_checkpoint(path)
    assert again.spec == spec
    assert not again.training
    assert_same(again.state_dict(), model.state_dict())
    assert os.listdir(tmp_path) == ["model.safetensors"]
    with safe_open(path, framework="pt") as file:
        assert file.metadata()["format"] == "pt"
        assert ModelSpec.from_json(file.metadata()[SPEC_KEY]) == spec


def test_writing_to_another_kind_of_file_is_refused(model: FgmClip, tmp_path: Path) -> None:
    with pytest.raises(UnreadableError, match="safetensors"):
        save_checkpoint(model, tmp_path / "model.pt")


@pytest.mark.parametrize(
    ("container", "prefix"),
    [
        (None, ""),
        (None, "module."),
        (None, "ema."),
        ("state_dict", "model."),
        ("model", "_orig_mod.module."),
        ("model_state", ""),
        ("ema", "ema_model."),
    ],
)
def test_a_training_file_is_read_whatever_wraps_it(
    model: FgmClip, tmp_path: Path, container: str | None, prefix: str
) -> None:
    weights: dict[str, Any] = {f"{prefix}{key}": value for key, value in model.state_dict().items()}
    optimizer = torch.optim.AdamW(model.parameters()).state_dict()
    rest = {"optimizer": optimizer, "epoch": 7}
    content = weights | rest if container is None else {container: weights} | rest
    path = training_file(tmp_path / "run.pt", content, model.spec)
    assert_same(load_checkpoint(path).state_dict(), model.state_dict())


def test_averaged_weights_come_before_the_last_ones(model: FgmClip, tmp_path: Path) -> None:
    last = {key: torch.zeros_like(value) for key, value in model.state_dict().items()}
    averaged = {"n_averaged": torch.tensor(5)} | {
        f"module.{key}": value for key, value in model.state_dict().items()
    }
    content = {"state_dict": last, "ema": averaged}
    path = training_file(tmp_path / "run.pth", content, model.spec)
    assert_same(load_checkpoint(path).state_dict(), model.state_dict())
    flat = {f"online_model.{key}": value for key, value in last.items()}
    flat |= {f"ema_model.{key}": value for key, value in model.state_dict().items()}
    path = training_file(tmp_path / "flat.pt", flat, model.spec)
    assert_same(load_checkpoint(path).state_dict(), model.state_dict())


def test_half_precision_weights_become_single(model: FgmClip, tmp_path: Path) -> None:
    halves = {
        key: value.half() if value.is_floating_point() else value
        for key, value in model.state_dict().items()
    }
    again = load_checkpoint(training_file(tmp_path / "run.pt", halves, model.spec))
    assert all(item.dtype == torch.float32 for item in again.parameters())


@pytest.mark.parametrize("place", ["given", "inside as text", "inside", "beside", "folder"])
def test_the_spec_is_found(model: FgmClip, tmp_path: Path, place: str) -> None:
    content: dict[str, Any] = {"state_dict": model.state_dict()}
    spec_path = None
    if place == "inside as text":
        content["fgmclip_spec"] = model.spec.to_json()
    elif place == "inside":
        content["spec"] = json.loads(model.spec.to_json())
    else:
        names = {"given": "other.json", "beside": "run.json", "folder": "spec.json"}
        (tmp_path / names[place]).write_text(model.spec.to_json(), encoding="utf-8")
        spec_path = tmp_path / "other.json" if place == "given" else None
    torch.save(content, tmp_path / "run.pt")
    assert load_checkpoint(tmp_path / "run.pt", spec_path=spec_path).spec == model.spec


def test_all_wrong_keys_are_told_at_once(model: FgmClip, tmp_path: Path) -> None:
    weights = dict(model.state_dict())
    del weights["classifier.linear.bias"], weights["motion_encoder.conv1.weight"]
    weights["classifier.linear.weight"] = torch.zeros(7, 12)
    weights["stranger"] = torch.zeros(1)
    weights["fusion_head.fusion.gates.bias"] = torch.zeros(2, dtype=torch.int64)
    path = training_file(tmp_path / "run.pt", {"state_dict": weights}, model.spec)
    with pytest.raises(WeightsError) as caught:
        load_checkpoint(path)
    message = str(caught.value)
    assert "2 missing: motion_encoder.conv1.weight, classifier.linear.bias" in message
    assert "1 unexpected: stranger" in message
    assert "2 misshapen" in message
    assert "classifier.linear.weight (expected [3, 12], got [7, 12])" in message
    assert "fusion_head.fusion.gates.bias (expected torch.float32, got torch.int64)" in message
    assert "\n" not in message
    assert caught.value.path == path


def test_a_wrapped_file_with_one_key_missing_is_refused(model: FgmClip, tmp_path: Path) -> None:
    weights = {f"module.{key}": value for key, value in model.state_dict().items()}
    del weights["module.fusion_head.project_motion.weight"]
    path = training_file(tmp_path / "run.pt", {"model": weights, "optimizer": {}}, model.spec)
    with pytest.raises(WeightsError, match=r"1 missing: fusion_head\.project_motion\.weight"):
        load_checkpoint(path)


def test_two_tensors_of_one_name_are_refused(model: FgmClip, tmp_path: Path) -> None:
    weights = dict(model.state_dict())
    weights["module.classifier.linear.bias"] = weights["classifier.linear.bias"]
    with pytest.raises(WeightsError, match="got two"):
        load_checkpoint(training_file(tmp_path / "run.pt", weights, model.spec))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_weights_that_are_no_numbers_are_refused(
    model: FgmClip, tmp_path: Path, value: float, suffix: str
) -> None:
    weights = {key: item.clone() for key, item in model.state_dict().items()}
    weights["classifier.linear.bias"][1] = value
    path = training_file(tmp_path / "run.pt", weights, model.spec)
    if suffix == ".safetensors":
        path = tmp_path / "run.safetensors"
        save_file(weights, path, metadata={SPEC_KEY: model.spec.to_json()})
    with pytest.raises(WeightsError, match=r"NaN or Inf in classifier\.linear\.bias"):
        load_checkpoint(path)


class Payload:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_checkpoint_that_carries_code_is_refused_without_running_it(
    model: FgmClip, tmp_path: Path, zipped: bool
) -> None:
    content = {"state_dict": model.state_dict(), "extra": Payload(tmp_path / "mark")}
    path = tmp_path / "run.pt"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    path.with_suffix(".json").write_text(model.spec.to_json(), encoding="utf-8")
    with pytest.raises(UnsafeError, match=r"carries code or objects.*mkdir") as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "mark").exists()
    torch.load(path, weights_only=False)
    assert (tmp_path / "mark").exists(), "the payload would have run"


@pytest.mark.parametrize("keep", [0, 100, 0.99])
@pytest.mark.parametrize("name", ["run.pt", "model.safetensors"])
def test_a_file_that_is_cut_off_is_refused(
    model: FgmClip, tmp_path: Path, keep: float, name: str
) -> None:
    path = tmp_path / name
    if name == "run.pt":
        training_file(path, model.state_dict(), model.spec)
    else:
        save_checkpoint(model, path)
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data)) if keep < 1 else int(keep)])
    with pytest.raises(UnreadableError) as caught:
        load_checkpoint(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("run.pt", b"PK\x03\x04 no archive"),
        ("run.pt", b"just text\n"),
        ("run.pth", bytes(range(256)) * 8),
        ("model.safetensors", b"\xff" * 64),
        ("model.onnx", b"another kind"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UnreadableError):
        load_checkpoint(tmp_path / name)


def test_no_text_is_taken_for_a_pickle_whatever_it_begins_with(tmp_path: Path) -> None:
    path = tmp_path / "run.pt"
    for first in range(256):
        path.write_bytes(bytes([first]) + b"epository not found")
        with pytest.raises((UnreadableError, UnsafeError)):
            load_checkpoint(path)


@pytest.mark.parametrize("name", ["absent.pt", "absent.safetensors"])
def test_an_absent_file_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(CheckpointError, match=name):
        load_checkpoint(tmp_path / name)


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, {"state_dict": {}}])
def test_a_file_without_weights_is_refused(model: FgmClip, tmp_path: Path, content: Any) -> None:
    with pytest.raises(UnreadableError, match="state dict"):
        load_checkpoint(training_file(tmp_path / "run.pt", content, model.spec))


def test_a_torchscript_archive_of_another_network_is_refused(
    model: FgmClip, tmp_path: Path
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(  # type: ignore[no-untyped-call]
            nn.Linear(2, 2), torch.zeros(1, 2)
        )
        torch.jit.save(traced, tmp_path / "run.pt")
    (tmp_path / "run.json").write_text(model.spec.to_json(), encoding="utf-8")
    with pytest.raises(WeightsError, match="2 unexpected: weight, bias"):
        load_checkpoint(tmp_path / "run.pt")


def test_weights_without_a_spec_are_refused(model: FgmClip, tmp_path: Path) -> None:
    torch.save(model.state_dict(), tmp_path / "run.pt")
    with pytest.raises(NoSpecError, match=r"run\.json"):
        load_checkpoint(tmp_path / "run.pt")
    with pytest.raises(NoSpecError, match=r"gone\.json"):
        load_checkpoint(tmp_path / "run.pt", spec_path=tmp_path / "gone.json")
    (tmp_path / "run.json").write_text("{}", encoding="utf-8")
    with pytest.raises(SpecError):
        load_checkpoint(tmp_path / "run.pt")


def test_every_refusal_is_of_one_family() -> None:
    assert issubclass(CheckpointError, FgmclipError)
    assert issubclass(CheckpointError, ValueError)


def test_a_scene_classifier_is_loaded_from_its_file(tiny: SpecFactory, tmp_path: Path) -> None:
    model = build_model(tiny(context={"source": "classifier", "classes": 4}), seed=0)
    context = model.fusion_head.context
    assert isinstance(context, SceneClassifier)
    weights = {"weight": torch.randn(4, 16), "bias": torch.randn(4)}
    save_file(weights, tmp_path / "scenes.safetensors")
    context.load(tmp_path / "scenes.safetensors")
    visual = torch.randn(1, 5, 16)
    expected = (visual @ weights["weight"].T + weights["bias"]).softmax(dim=-1)
    torch.testing.assert_close(context(visual), expected)
    save_checkpoint(model, tmp_path / "model.safetensors")
    assert torch.equal(
        load_file(tmp_path / "model.safetensors")["fusion_head.context.linear.bias"],
        weights["bias"],
    )
    save_file({"weight": torch.zeros(3, 16)}, tmp_path / "scenes.safetensors")
    with pytest.raises(WeightsError, match=r"\[4, 16\].*\[3, 16\]"):
        context.load(tmp_path / "scenes.safetensors")
    save_file(weights | {"bias": torch.full((4,), torch.nan)}, tmp_path / "scenes.safetensors")
    with pytest.raises(WeightsError, match="NaN"):
        context.load(tmp_path / "scenes.safetensors")
    with pytest.raises(UnreadableError):
        context.load(tmp_path / "absent.safetensors")
