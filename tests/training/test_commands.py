from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from fgmclip.model.build import build_model
from fgmclip.spec import ClassSpec, ModelSpec, preset
from fgmclip.training.baseline import flow_histogram
from fgmclip.training.commands import evaluate_checkpoint, spec_for, train, without_motion
from fgmclip.training.crossval import cross_validate, joined
from fgmclip.training.dataset import Dataset
from fgmclip.training.errors import DatasetError, SettingsError
from fgmclip.training.initial import take_weights
from fgmclip.training.run import Initial, Workshop
from fgmclip.training.settings import TrainSettings

SHORT = TrainSettings(epochs=2, batch=4)


def test_a_checkpoint_is_written_and_evaluated(
    squares_csv: Path, tiny_spec: ModelSpec, workshop: Workshop, tmp_path: Path
) -> None:
    spec_file = tmp_path / "spec.json"
    spec_file.write_text(tiny_spec.to_json(), encoding="utf-8")
    out = tmp_path / "models" / "tiny.safetensors"
    said: list[str] = []
    train(squares_csv, out, workshop=workshop, settings=SHORT, spec_file=spec_file, say=said.append)
    assert sorted(path.name for path in out.parent.iterdir()) == [
        "tiny.log.jsonl",
        "tiny.safetensors",
    ]
    assert "2 epochs over 12 videos" in said[-1]
    evaluation = evaluate_checkpoint(out, squares_csv, workshop=workshop)
    assert len(evaluation.predictions) == 12
    assert json.loads(json.dumps(evaluation.to_dict()))["labels"] == ["left", "right"]

    train(
        squares_csv,
        tmp_path / "next.safetensors",
        workshop=workshop,
        settings=SHORT,
        spec_file=spec_file,
        motion="none",
        initial=Initial(checkpoint=out),
        say=said.append,
    )
    assert any(line.startswith("initial weights taken: image_encoder") for line in said)
    assert any(line.startswith("initial weights unused: motion_encoder") for line in said)


def test_a_preset_takes_its_classes_from_the_data_set(squares: Dataset) -> None:
    assert spec_for(squares, preset_name="demo").labels == ("left", "right")
    without = spec_for(squares, preset_name="demo", motion="none")
    assert without.motion is None
    assert without.align.method == "none"


def test_a_preset_and_a_file_exclude_each_other(squares: Dataset, tmp_path: Path) -> None:
    for name, file in ((None, None), ("demo", tmp_path / "spec.json")):
        with pytest.raises(SettingsError, match="either a preset or a spec file"):
            spec_for(squares, preset_name=name, spec_file=file)


def test_another_suffix_is_refused(squares_csv: Path, workshop: Workshop, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"NAME\.safetensors"):
        train(
            squares_csv,
            tmp_path / "x.pt",
            workshop=workshop,
            settings=SHORT,
            preset_name="demo",
        )


def test_labels_that_a_spec_file_does_not_name_are_refused(
    squares_csv: Path, tiny_spec: ModelSpec, workshop: Workshop, tmp_path: Path
) -> None:
    spec = tiny_spec.replace(classes=(ClassSpec(name="up"), ClassSpec(name="right")))
    spec_file = tmp_path / "spec.json"
    spec_file.write_text(spec.to_json(), encoding="utf-8")
    with pytest.raises(DatasetError, match="labels left are not among"):
        train(
            squares_csv,
            tmp_path / "x.safetensors",
            workshop=workshop,
            settings=SHORT,
            spec_file=spec_file,
        )


def test_partial_initial_weights_say_what_was_left(tiny_spec: ModelSpec) -> None:
    source = build_model(tiny_spec, seed=1)
    wide = tiny_spec.replace(classes=(*tiny_spec.classes, ClassSpec(name="up")), name="wide")
    model = build_model(wide, seed=2)
    untouched = {key: value.clone() for key, value in model.state_dict().items()}
    taken = take_weights(model, source)
    assert taken.absent == taken.unused == ()
    assert taken.misshapen
    assert all("here [3" in line and "there [2" in line for line in taken.misshapen)
    changed = model.state_dict()
    for key in taken.taken:
        assert changed[key].equal(source.state_dict()[key])
    for line in taken.misshapen:
        key = line.split(":")[0]
        assert changed[key].equal(untouched[key])
    assert any("taken: motion_encoder" in line for line in taken.summary())

    frames_only = take_weights(build_model(without_motion(tiny_spec), seed=0), source)
    assert any(key.startswith("motion_encoder") for key in frames_only.unused)


def test_cross_validation_names_every_video_by_a_model_that_never_saw_its_group(
    squares: Dataset, tiny_spec: ModelSpec, workshop: Workshop, tmp_path: Path
) -> None:
    said: list[str] = []
    result = cross_validate(
        tiny_spec, squares, SHORT, workshop, folds=2, out=tmp_path, say=said.append
    )
    assert len(result.total.predictions) == len(squares)
    assert {item.path for item in result.total.predictions} == {v.path for v in squares.videos}
    assert joined(result.baseline).top1 == 1.0
    written = json.loads((tmp_path / "crossval.json").read_text(encoding="utf-8"))
    assert written["total"]["top1"] == result.total.top1
    assert len(said) == 2
    for fold, checkpoint in zip(result.folds, result.checkpoints, strict=True):
        assert checkpoint.is_file()
        held_out = {item.path for item in fold.predictions}
        assert held_out != {v.path for v in squares.videos}


def test_a_flow_histogram_tells_directions(
    squares: Dataset, tiny_spec: ModelSpec, workshop: Workshop
) -> None:
    rows = workshop.rows(squares, tiny_spec)
    features = [flow_histogram(video) for video in rows]
    assert all((feature**2).sum() == pytest.approx(1, abs=1e-4) for feature in features)
    same = ((features[0] - features[2]) ** 2).sum()
    other = ((features[0] - features[1]) ** 2).sum()
    assert other > same


def test_the_demo_without_motion_is_the_same_model_else() -> None:
    demo = preset("demo")
    without = without_motion(demo)
    assert without.motion is None
    assert without.visual == demo.visual
    assert without.fusion == demo.fusion
    assert replace(SHORT, seed=0) == SHORT
