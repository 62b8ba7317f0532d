from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from fgmclip.model.build import build_model
from fgmclip.model.network import FgmClip
from fgmclip.spec import ModelSpec
from fgmclip.training.augment import Augmentation
from fgmclip.training.batches import Example, epoch_batches
from fgmclip.training.commands import without_motion
from fgmclip.training.dataset import Dataset
from fgmclip.training.embeddings import FrozenVisual
from fgmclip.training.errors import ResumeError, SettingsError
from fgmclip.training.evaluate import evaluate
from fgmclip.training.loop import EpochRecord, fit, learning_rate
from fgmclip.training.losses import classification_loss
from fgmclip.training.run import Workshop, train_model
from fgmclip.training.settings import TrainSettings

QUICK = TrainSettings(
    epochs=4,
    batch=4,
    learning_rate=3e-3,
    visual_dropout=0.2,
    augmentation=Augmentation(scale=0.05, shift=0.03),
)


def _examples(dataset: Dataset, spec: ModelSpec, workshop: Workshop) -> list[Example]:
    rows = workshop.rows(dataset, spec)
    return [
        Example(video, spec.labels.index(item.label))
        for item, video in zip(dataset.videos, rows, strict=True)
    ]


def _same_weights(one: FgmClip, two: FgmClip) -> bool:
    here, there = one.state_dict(), two.state_dict()
    return all(torch.equal(here[key], there[key]) for key in here)


def test_the_loss_is_the_mean_negative_log_likelihood() -> None:
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([0, 2, 1, 1, 0])
    expected = -logits.softmax(dim=1)[torch.arange(5), targets].log().mean()
    torch.testing.assert_close(classification_loss(logits, targets), expected)


def test_directions_are_learned_from_motion(
    squares: Dataset, tiny_spec: ModelSpec, workshop: Workshop
) -> None:
    settings = replace(QUICK, epochs=25, visual_dropout=0.0)
    trained = train_model(tiny_spec, squares, settings, workshop)
    assert trained.records[-1].loss < 0.5 * trained.records[0].loss
    assert not trained.model.training
    evaluation = evaluate(trained.model, squares, workshop.rows(squares, tiny_spec), progress=False)
    assert evaluation.top1 == 1.0
    assert evaluation.recall == {"left": 1.0, "right": 1.0}
    assert evaluation.confusion.tolist() == [[6, 0], [0, 6]]
    assert evaluation.to_dict()["top1"] == 1.0


class _KilledError(Exception):
    pass


@pytest.mark.parametrize("freeze", [False, True])
def test_a_run_taken_up_again_equals_one_that_was_never_stopped(
    squares: Dataset, tiny_spec: ModelSpec, workshop: Workshop, tmp_path: Path, freeze: bool
) -> None:
    settings = replace(QUICK, freeze_image=freeze, mirror=True)
    examples = _examples(squares, tiny_spec, workshop)
    whole = build_model(tiny_spec, seed=1)
    records = fit(whole, examples, settings, progress=False)

    def dies(record: EpochRecord) -> None:
        if record.epoch == 2:
            raise _KilledError

    state, log = tmp_path / "run.state.pt", tmp_path / "run.log.jsonl"
    stopped = build_model(tiny_spec, seed=1)
    with pytest.raises(_KilledError):
        fit(stopped, examples, settings, state_path=state, progress=False, after_epoch=dies)
    again = build_model(tiny_spec, seed=1)
    resumed = fit(again, examples, settings, state_path=state, log_path=log, progress=False)
    assert resumed == records
    assert _same_weights(whole, again)
    assert not _same_weights(whole, stopped)
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4]


def test_the_seed_decides_the_run(
    squares: Dataset, tiny_spec: ModelSpec, workshop: Workshop
) -> None:
    settings = replace(QUICK, epochs=1)
    before = torch.get_rng_state()
    one, same, other = (
        train_model(tiny_spec, squares, replace(settings, seed=seed), workshop).model
        for seed in (0, 0, 1)
    )
    assert _same_weights(one, same)
    assert not _same_weights(one, other)
    assert torch.equal(before, torch.get_rng_state())


def test_a_state_of_another_run_is_refused(
    squares: Dataset, tiny_spec: ModelSpec, workshop: Workshop, tmp_path: Path
) -> None:
    examples = _examples(squares, tiny_spec, workshop)
    state = tmp_path / "run.state.pt"
    settings = replace(QUICK, epochs=1)
    fit(build_model(tiny_spec, seed=0), examples, settings, state_path=state, progress=False)
    for model, run_settings in (
        (build_model(tiny_spec, seed=0), replace(settings, learning_rate=1e-4)),
        (build_model(tiny_spec, seed=3), settings),
    ):
        with pytest.raises(ResumeError, match="other settings, data, spec or initial weights"):
            fit(model, examples, run_settings, state_path=state, progress=False)
    state.write_bytes(b"torn")
    with pytest.raises(ResumeError, match="not the state of a run"):
        fit(build_model(tiny_spec, seed=0), examples, settings, state_path=state, progress=False)


def test_a_frozen_image_encoder_stays_and_its_embeddings_are_those_of_the_frames(
    squares: Dataset, tiny_spec: ModelSpec, workshop: Workshop
) -> None:
    settings = replace(QUICK, epochs=1, freeze_image=True, mirror=True, augmentation=None)
    examples = _examples(squares, tiny_spec, workshop)
    model = build_model(tiny_spec, seed=2)
    frozen = FrozenVisual.of(model.image_encoder, tiny_spec.visual)
    assert (
        frozen.tag
        != FrozenVisual.of(build_model(tiny_spec, seed=3).image_encoder, tiny_spec.visual).tag
    )
    before = {key: value.clone() for key, value in model.image_encoder.state_dict().items()}
    fit(model, examples, settings, progress=False)
    after = model.image_encoder.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    video = examples[0].video
    pixels = torch.from_numpy(video.pixels()[:].copy()).permute(0, 3, 1, 2).float() / 255
    mean = torch.tensor(tiny_spec.visual.mean)[:, None, None]
    std = torch.tensor(tiny_spec.visual.std)[:, None, None]
    for mirrored, seen in ((False, pixels), (True, pixels.flip(-1))):
        with torch.inference_mode():
            expected = model.image_encoder((seen - mean) / std)
        cached = torch.from_numpy(frozen.rows(video, mirrored=mirrored).copy())
        torch.testing.assert_close(cached, expected, atol=1e-5, rtol=1e-5)


def test_without_motion_a_model_trains(
    squares: Dataset, tiny_spec: ModelSpec, workshop: Workshop
) -> None:
    trained = train_model(without_motion(tiny_spec), squares, QUICK, workshop)
    assert len(trained.records) == 4


def test_an_epoch_takes_every_video_once_in_batches_above_one(
    squares: Dataset, tiny_spec: ModelSpec, workshop: Workshop
) -> None:
    import numpy as np

    examples = _examples(squares, tiny_spec, workshop)[:9]
    batches = list(
        epoch_batches(
            examples, frames=4, size=4, mirror=True, frozen=None, random=np.random.default_rng(0)
        )
    )
    assert [len(batch.targets) for batch in batches] == [5, 4]
    assert sum(int(batch.targets.sum()) for batch in batches) == sum(e.target for e in examples)
    assert batches[0].pixels is not None
    assert batches[0].pixels.shape == (5, 4, 3, 32, 32)
    assert batches[0].motion is not None
    assert batches[0].motion.shape == (5, 4, 3, 32, 32)
    assert any(bool(batch.mirrored.any()) for batch in batches)


def test_the_rate_warms_up_and_falls_to_zero() -> None:
    settings = TrainSettings(epochs=10, warmup_epochs=2, learning_rate=1.0)
    rates = [learning_rate(settings, step / 10) for step in range(101)]
    assert 0 < rates[0] < rates[10] < rates[20] == max(rates) == 1.0
    assert all(late <= early for early, late in pairwise(rates[20:]))
    assert rates[-1] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "epochs is 0; expected more than 0"),
        ({"learning_rate": -1.0}, "learning_rate is -1.0"),
        ({"visual_dropout": 1.0}, "visual_dropout is 1.0"),
        ({"warmup_epochs": 31.0}, "expected 0 to 30, the epochs"),
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, float], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        TrainSettings(**changes)  # type: ignore[arg-type]
