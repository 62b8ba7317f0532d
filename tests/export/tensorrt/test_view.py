"""`fgmclip engine view`: what Triton is started on, whatever is proven and published meanwhile."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

import fgmclip.serve.runtimes.proven as proven
from fgmclip.cli import main
from fgmclip.export.configs import parse_config
from fgmclip.export.errors import RepositoryError
from fgmclip.export.names import ENSEMBLES, PARTS, Part, step_name
from fgmclip.export.tensorrt.released import read_released
from fgmclip.export.tensorrt.view import make_view
from fgmclip.serve.runtimes.gpu import Gpu
from fgmclip.serve.runtimes.proof import (
    CACHE_VARIABLE,
    Proof,
    file_sha256,
    proof_file,
    recipe_hash,
)

L4 = Gpu("NVIDIA L4", 89)
PLAN = b"ftrt" + bytes(20) + bytes((10, 13, 0, 35)) + bytes(60)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, noting: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with a GPU, TensorRT, and nothing proven."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "engines"))
    monkeypatch.setitem(sys.modules, "tensorrt", noting)
    monkeypatch.setattr(proven, "find_gpu", lambda ordinal: L4)
    return tmp_path / "engines"


def prove(repository: Path, part: Part, cache: Path, key: str = "key") -> Path:
    """Prove an engine of a release, and return it."""
    recipe = read_released(repository).recipes[part]
    engine = cache / key / f"{part}.plan"
    engine.parent.mkdir(parents=True, exist_ok=True)
    engine.write_bytes(PLAN + key.encode())
    proof = Proof(
        part=part,
        model_tag=recipe.model_tag,
        onnx_sha256=recipe.onnx_sha256,
        recipe_sha256=recipe_hash(recipe),
        engine_sha256=file_sha256(engine),
        library="tensorrt",
        library_version="10.13.0.35",
        gpu=L4.name,
        sm=L4.sm,
        precision="fp16",
        figures={},
        passed=True,
        reason="",
    )
    proof_file(engine, part, recipe.model_tag).write_text(proof.to_json(), encoding="utf-8")
    return engine


def models(view: Path) -> dict[str, Any]:
    """Return the config of each model that Triton would find, parsed by its own protobuf."""
    # Triton takes every folder for a model, hidden ones too.
    folders = sorted(path for path in view.iterdir() if path.is_dir())
    return {
        path.name: parse_config((path / "config.pbtxt").read_text(encoding="utf-8"))
        for path in folders
    }


def steps_of(view: Path) -> set[str]:
    """Return the steps that the ensembles of a view name."""
    configs = models(view)
    return {
        step.model_name for name in ENSEMBLES for step in configs[name].ensemble_scheduling.step
    }


def test_where_nothing_is_proven_the_release_serves_as_it_is(
    repository: Path, tmp_path: Path
) -> None:
    view = tmp_path / "view"
    steps = {step.step: step for step in make_view(repository, view)}
    configs = models(view)
    assert set(configs) == set(steps) | set(ENSEMBLES)
    for name, config in configs.items():
        assert config == parse_config(
            (repository / name / "config.pbtxt").read_text(encoding="utf-8")
        )
        if name in steps:
            assert (view / name).resolve() == (repository / name).resolve()
            assert config.name == name
        else:
            assert (view / name / "labels-r1.txt").read_text(encoding="utf-8")
            assert (view / name / "1").is_dir()
    for part in PARTS:
        step = steps[step_name(part, 1)]
        assert (step.backend, "expected a proof" in step.why) == ("onnxruntime", True)
    assert steps["window__r1"].line == "window__r1: python"


def test_a_proven_engine_serves_by_the_tensorrt_backend(
    repository: Path, tmp_path: Path, cache: Path
) -> None:
    view = tmp_path / "view"
    engine = prove(repository, "clip_image_encoder", cache)
    steps = {step.step: step for step in make_view(repository, view)}
    name = "clip_image_encoder__r1"
    config = models(view)[name]
    assert (config.backend, config.name) == ("tensorrt", name)
    assert config == parse_config(
        (repository / name / "configs" / "tensorrt.pbtxt").read_text(encoding="utf-8")
    )
    assert (view / name / "1" / "model.plan").resolve() == engine.resolve()
    # The graph is not there to be taken instead.
    assert [path.name for path in (view / name / "1").iterdir()] == ["model.plan"]
    assert steps[name].line == (
        f"{name}: tensorrt, fp16, proven on NVIDIA L4 with TensorRT 10.13.0.35"
    )
    assert steps["motion_encoder__r1"].backend == "onnxruntime"


def test_a_view_follows_proofs_and_releases_and_keeps_no_leftovers(
    repository: Path, tmp_path: Path, cache: Path
) -> None:
    source, view = tmp_path / "repository", tmp_path / "view"
    shutil.copytree(repository, source)
    make_view(source, view)
    first = prove(source, "fusion_head", cache)
    make_view(source, view)
    assert models(view)["fusion_head__r1"].backend == "tensorrt"
    # A better engine is proven; then the first one is damaged.
    second = prove(source, "fusion_head", cache, "second")
    first.write_bytes(b"")
    first.with_name(f"fusion_head.{read_released(source).recipes['fusion_head'].model_tag}"
                    ".proof.json").unlink()  # fmt: skip
    make_view(source, view)
    plan = view / "fusion_head__r1" / "1" / "model.plan"
    assert plan.resolve() == second.resolve()
    second.write_bytes(b"")
    make_view(source, view)
    assert models(view)["fusion_head__r1"].backend == "onnxruntime"
    publish_again(source)
    make_view(source, view)
    assert all(step.endswith("__r2") for step in steps_of(view))
    assert steps_of(view) <= set(models(view))
    assert not list(view.glob("*__r1"))
    assert not list(view.rglob("labels-r1.txt"))
    assert not list((view / ENSEMBLES[0] / ".engines").iterdir())


def publish_again(source: Path) -> None:
    """Make the one release of a repository its second, as a new export does."""
    text = (source / "manifest-r1.json").read_text(encoding="utf-8")
    manifest = json.loads(text.replace("__r1", "__r2").replace("labels-r1", "labels-r2"))
    manifest["public"]["release"] = 2
    for name, config in manifest["ensembles"].items():
        renumbered = config.replace('\\"release\\":1,', '\\"release\\":2,')
        manifest["ensembles"][name] = renumbered
        (source / name / "config.pbtxt").write_text(renumbered, encoding="utf-8")
    (source / "manifest-r2.json").write_text(json.dumps(manifest), encoding="utf-8")
    for folder in source.glob("*__r1"):
        config = folder / "config.pbtxt"
        config.write_text(
            config.read_text(encoding="utf-8").replace("__r1", "__r2"), encoding="utf-8"
        )
        folder.rename(source / folder.name.replace("__r1", "__r2"))


def test_until_it_is_renewed_a_view_stays_whole_while_a_release_is_published(
    repository: Path, tmp_path: Path
) -> None:
    source, view = tmp_path / "repository", tmp_path / "view"
    shutil.copytree(repository, source)
    make_view(source, view)
    before = {name: models(view)[name] for name in ENSEMBLES}
    publish_again(source)
    assert {
        name: parse_config((view / name / "config.pbtxt").read_text(encoding="utf-8"))
        for name in ENSEMBLES
    } == before


def test_a_step_is_never_missing_while_a_view_is_renewed(
    repository: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = tmp_path / "view"
    make_view(repository, view)
    prove(repository, "fusion_head", cache)
    # Killed at any rename, the view names only steps that are there.
    left = [0]
    replace = Path.replace

    def die(path: Path, target: Path) -> Path:
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", die)
    for renames in range(1, 14):
        left[0] = renames
        with pytest.raises(KeyboardInterrupt):
            make_view(repository, view)
        assert steps_of(view) <= set(models(view))
    left[0] = 0
    make_view(repository, view)
    assert models(view)["fusion_head__r1"].backend == "tensorrt"


def test_a_folder_that_is_no_view_is_left_alone(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "file").touch()
    with pytest.raises(RepositoryError, match="expected a new or empty folder, or an earlier view"):
        make_view(repository, tmp_path / "own")
    assert [path.name for path in (tmp_path / "own").iterdir()] == ["file"]


def test_a_release_of_another_target_needs_no_view(repository: Path, tmp_path: Path) -> None:
    source = tmp_path / "repository"
    shutil.copytree(repository, source)
    manifest = json.loads((source / "manifest-r1.json").read_text(encoding="utf-8"))
    manifest["target"] = "rtx"
    (source / "manifest-r1.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(RepositoryError, match="got r1 of rtx, which Triton serves as it is"):
        make_view(source, tmp_path / "view")


def test_the_command_prints_a_line_each_step(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["engine", "view", str(repository), "--out", str(tmp_path / "view")]
    assert main(arguments) == 0
    assert capsys.readouterr().out.count("__r1: ") == 7
    assert main([*arguments, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 7
