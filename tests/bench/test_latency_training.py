"""An epoch of training, as `bench/latency.py --dataset` times it."""

from __future__ import annotations

from pathlib import Path

import pytest

from fgmclip.bench.cost import epoch_process
from fgmclip.bench.cost.epoch_process import main
from fgmclip.spec import preset
from fgmclip.video.samples import generate_samples


def test_an_epoch_over_a_folder_of_videos_is_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    small = preset("demo").replace(
        motion={"encoder": "resnet10_narrow", "size": 32, "width": 32},
        clip={"frames": 2, "window_seconds": 0.5},
    )
    monkeypatch.setattr(epoch_process, "_spec", lambda model: small)
    generate_samples(tmp_path / "videos", per_class=2, seed=1, actions=("jump", "kick"))
    assert main("demo", str(tmp_path / "videos")) == 0
    assert 0 < float(capsys.readouterr().out) < 60


def test_a_data_set_that_is_not_there_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main("demo", str(tmp_path / "none")) != 0
    assert str(tmp_path / "none") in capsys.readouterr().err
