"""`Thumbnails`: pictures come, and go in time."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fgmclip.client.events.event import Event
from fgmclip.client.gateway.settings import ThumbnailSettings
from fgmclip.client.sinks import thumbnails
from fgmclip.client.sinks.thumbnails import Thumbnails
from fgmclip.storage.atomic import TEMPORARY

MakeEvent = Callable[..., Event]
RED = np.broadcast_to(np.array([220, 30, 40], np.uint8), (32, 32, 3))


def keep(directory: Path, hours: float = 1) -> Thumbnails:
    return Thumbnails(ThumbnailSettings(directory=directory, retention_hours=hours))


def test_a_picture_is_what_the_model_saw_and_stays_with_its_event(
    tmp_path: Path, make_event: MakeEvent
) -> None:
    kept = keep(tmp_path / "new" / "folder")
    event = kept.save(make_event(), RED)
    assert event.thumbnail == str(tmp_path / "new" / "folder" / f"{event.id}.jpg")
    with Image.open(event.thumbnail) as picture:
        assert (picture.format, picture.size, picture.mode) == ("JPEG", (32, 32), "RGB")
        assert np.abs(np.asarray(picture).astype(int) - RED).max() <= 4
    assert kept.attach(make_event(state="ended", end=2.0)).thumbnail == event.thumbnail
    assert kept.attach(make_event(2)).thumbnail is None
    assert len(list((tmp_path / "new" / "folder").iterdir())) == 1


def test_what_is_old_is_removed_and_what_is_not_ours_stays(
    tmp_path: Path, make_event: MakeEvent
) -> None:
    kept = keep(tmp_path)
    old, new = (Path(str(kept.save(make_event(n), RED).thumbnail)) for n in (1, 2))
    left = tmp_path / f"{TEMPORARY}1-ab-{old.name}"
    others = [tmp_path / "holiday.jpg", tmp_path / f"{'g' * 32}.jpg"]
    for path in (left, *others):
        path.touch()
    for path in (old, left, *others):
        os.utime(path, (0, time.time() - 3700))
    kept.sweep()
    assert sorted(tmp_path.iterdir()) == sorted([new, *others])


def test_saving_sweeps_too_and_there_are_never_too_many(
    tmp_path: Path, make_event: MakeEvent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thumbnails, "MAX_FILES", 3)
    monkeypatch.setattr(thumbnails, "SWEEP_SECONDS", 0.0)
    kept = keep(tmp_path)
    names = [Path(str(kept.save(make_event(n), RED).thumbnail)) for n in range(6)]
    for number, path in enumerate(names):
        if path.exists():
            os.utime(path, (0, time.time() - 100 + number))
    kept.sweep()
    assert sorted(tmp_path.iterdir()) == sorted(names[3:])


def test_a_disk_that_fails_costs_the_picture_alone(
    tmp_path: Path, make_event: MakeEvent, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    kept = keep(tmp_path / "file")
    assert kept.save(make_event(), RED) == make_event()
    assert "thumbnails" in caplog.text
    keep(tmp_path / "missing").sweep()
