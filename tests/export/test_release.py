"""`export_release`: what is published proved itself, and stands on its own."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fgmclip.cli import main
from fgmclip.export import release as release_module
from fgmclip.export.errors import ExportError, GateError
from fgmclip.export.graphs import compare
from fgmclip.export.manifest import ReleaseManifest
from fgmclip.export.release import export_release, stages
from fgmclip.export.repository import Repository
from fgmclip.export.tags import embedding_tag, model_tag
from fgmclip.model.build import build_model
from fgmclip.model.network import FgmClip


@pytest.fixture(scope="module")
def published(tiny: FgmClip, tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A repository with the small model, exported once."""
    path = tmp_path_factory.mktemp("published") / "repository"
    seen: list[str] = []
    export_release(tiny, path, report=seen.append)
    assert len(seen) == stages(tiny.spec)
    return Repository(path)


@pytest.fixture
def manifest(published: Repository) -> ReleaseManifest:
    return published.manifest(1)


def test_every_part_and_the_chain_were_held_to_pytorch(manifest: ReleaseManifest) -> None:
    assert [check.part for check in manifest.checks] == [
        "clip_image_encoder",
        "motion_encoder",
        "fusion_head",
        "chain",
    ]
    assert all(check.max_abs <= check.tolerance for check in manifest.checks)
    assert all(len(set(check.batches)) == 2 for check in manifest.checks[:-1])


def test_every_file_of_the_release_is_in_the_manifest(
    published: Repository, manifest: ReleaseManifest
) -> None:
    steps = [path for path in published.path.iterdir() if path.name.endswith("__r1")]
    found = {
        path.relative_to(published.path).as_posix()
        for step in steps
        for path in step.rglob("*")
        if path.is_file()
    }
    assert found == set(manifest.files)
    assert len(steps) == 7


@pytest.mark.parametrize(
    "step", ["preprocess", "clip_image_encoder", "fusion_head", "window", "classify"]
)
def test_a_step_runs_from_the_release_alone(published: Repository, step: str) -> None:
    version = published.path / f"{step}__r1" / "1"
    script = (
        "import runpy, sys, types\n"
        "sys.modules.update(dict.fromkeys(['torch', 'pydantic', 'tritonclient', 'rich']))\n"
        f"model = runpy.run_path({str(version / 'model.py')!r})['TritonPythonModel']\n"
        "module = sys.modules[model.__module__]\n"
        f"assert module.__file__.startswith({str(version)!r}), module.__file__"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_preprocess_runs_the_compiled_kernels_of_its_release(published: Repository) -> None:
    version = published.path / "preprocess__r1" / "1"
    script = (
        "import runpy\n"
        f"runpy.run_path({str(version / 'model.py')!r})\n"
        "from fgmclip.kernels import native\n"
        f"assert str(native.module_file()).startswith({str(version)!r}), native.module_file()"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_tags_follow_what_they_are_made_of(tiny: FgmClip) -> None:
    other = build_model(tiny.spec, seed=0)
    assert model_tag(other, "fp32") == model_tag(tiny, "fp32")
    assert embedding_tag(other, "fp32") == embedding_tag(tiny, "fp32")
    linear = other.classifier.linear
    assert linear is not None
    with torch.no_grad():
        linear.bias.add_(1)
    assert model_tag(other, "fp32") != model_tag(tiny, "fp32")
    assert embedding_tag(other, "fp32") == embedding_tag(tiny, "fp32")
    with torch.no_grad():
        next(other.image_encoder.parameters()).add_(1)
    assert embedding_tag(other, "fp32") != embedding_tag(tiny, "fp32")
    assert embedding_tag(tiny, "int8") != embedding_tag(tiny, "fp32")


def test_the_same_weights_in_another_network_have_another_tag(tiny: FgmClip) -> None:
    visual = tiny.spec.visual
    assert visual.config is not None
    quick = visual.config | {"quick_gelu": True}
    other = build_model(tiny.spec.replace(visual=visual.replace(config=quick)), seed=0)
    other.load_state_dict(tiny.state_dict())
    assert embedding_tag(other, "fp32") != embedding_tag(tiny, "fp32")


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_graph_that_gives_no_number_for_any_batch_is_refused(place: int) -> None:
    rows = np.ones((3, 4), np.float32)
    pairs = [(batch, rows[:batch], rows[:batch].copy()) for batch in (1, 2, 3)]
    assert compare("head", pairs).max_abs == 0
    pairs[place][2][0, 0] = np.nan
    with pytest.raises(GateError, match="head: expected ONNX Runtime within"):
        compare("head", pairs)


def test_a_chain_that_differs_publishes_nothing(
    tiny: FgmClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(embedding: Any, classes: Any) -> Any:
        return np.zeros((len(embedding), len(tiny.spec.classes)), np.float32)

    monkeypatch.setattr(release_module, "class_logits", wrong)
    with pytest.raises(GateError, match="chain: expected ONNX Runtime within"):
        export_release(tiny, tmp_path)
    assert Repository(tmp_path).releases() == []
    assert Repository(tmp_path).active() == {}


def test_a_flow_of_another_version_is_refused(tiny: FgmClip, tmp_path: Path) -> None:
    motion = tiny.spec.motion
    assert motion is not None
    spec = tiny.spec.replace(motion=motion.replace(flow=motion.flow.replace(version=1)))
    with pytest.raises(ExportError, match=r"motion\.flow\.version: expected 2"):
        export_release(build_model(spec, seed=0), tmp_path / "repository")


def training_run(model: FgmClip) -> dict[str, Any]:
    """Return what a training run with data parallelism leaves behind."""
    state = {f"module.{name}": tensor for name, tensor in model.state_dict().items()}
    optimizer = {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 1e-3}]}
    return {"epoch": 3, "state_dict": state, "optimizer": optimizer}


def export(checkpoint: Path, repository: Path) -> int:
    return main_code(["export", str(checkpoint), "--repository", str(repository), "--json"])


def main_code(arguments: list[str]) -> int:
    try:
        return main(arguments)
    except SystemExit as end:
        return int(end.code or 0)


def test_a_training_checkpoint_exports(
    tiny: FgmClip, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(training_run(tiny), tmp_path / "run.pt")
    (tmp_path / "run.json").write_text(tiny.spec.to_json(), encoding="utf-8")
    assert export(tmp_path / "run.pt", tmp_path / "repository") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["public"]["model_tag"] == model_tag(tiny, "fp32")


def test_a_missing_key_is_named(
    tiny: FgmClip, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = training_run(tiny)
    del run["state_dict"]["module.classifier.linear.bias"]
    torch.save(run, tmp_path / "run.pt")
    (tmp_path / "run.json").write_text(tiny.spec.to_json(), encoding="utf-8")
    assert export(tmp_path / "run.pt", tmp_path / "repository") != 0
    assert "classifier.linear.bias" in capsys.readouterr().err
    assert not (tmp_path / "repository").exists()


class Payload:
    """Runs code when it is unpickled carelessly."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.target,)


@pytest.mark.parametrize("how", ["torch", "pickle"])
def test_a_checkpoint_that_carries_code_is_refused_without_running_it(
    tiny: FgmClip, tmp_path: Path, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    trace = tmp_path / "ran"
    run = training_run(tiny) | {"callback": Payload(trace)}
    if how == "torch":
        torch.save(run, tmp_path / "run.pt")
    else:
        (tmp_path / "run.pt").write_bytes(pickle.dumps({"callback": Payload(trace)}))
    (tmp_path / "run.json").write_text(tiny.spec.to_json(), encoding="utf-8")
    assert export(tmp_path / "run.pt", tmp_path / "repository") != 0
    assert not trace.exists()
    text = capsys.readouterr().err
    assert "run.pt" in text
    assert "Traceback" not in text
