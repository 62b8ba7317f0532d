"""What a camera's source means."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import pytest
from pydantic import SecretStr

from fgmclip.client.gateway.errors import SourceError
from fgmclip.client.gateway.settings import CameraSettings
from fgmclip.client.gateway.sources import (
    RecordingTimes,
    default_name,
    find_recordings,
    parse_source,
    time_of_name,
)

UTC_TIME = datetime(2026, 11, 24, 10, 15, tzinfo=timezone.utc).timestamp()


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A host one hour east of Greenwich in winter."""
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def camera(source: str, **fields: object) -> CameraSettings:
    return CameraSettings.of(name="door", source=SecretStr(source), **fields)


def test_kinds_and_what_people_see_of_them(tmp_path: Path) -> None:
    kinds = {
        "clip.mp4": ("file", False, "block"),
        str(tmp_path): ("folder", False, "block"),
        "rtsp://u:pw@h/live": ("address", True, "latest"),
        "HTTPS://h/a.m3u8?t=1": ("address", True, "latest"),
        "webcam:2": ("webcam", True, "latest"),
    }
    for text, (kind, is_live, policy) in kinds.items():
        source = parse_source(camera(text))
        assert (source.kind, source.is_live, source.default_policy) == (kind, is_live, policy)
    source = parse_source(camera("rtsp://u:pw@h/live"))
    assert source.location == "rtsp://u:pw@h/live"
    assert source.shown == "rtsp://***@h/live"
    assert "pw" not in repr(source)
    assert parse_source(camera("webcam:2")).location == "/dev/video2"


@pytest.mark.parametrize("text", ["ftp://h/a.mp4", "file:///etc/passwd", "concat://a", ""])
def test_other_schemes_are_refused(text: str) -> None:
    with pytest.raises(SourceError) as raised:
        parse_source(camera(text))
    assert raised.value.exit_code == 2


def test_settings_of_recordings_do_not_go_with_live_sources(tmp_path: Path) -> None:
    start = datetime(2026, 1, 1, tzinfo=timezone.utc)
    boxes = tmp_path / "boxes.jsonl"
    parse_source(camera("a.mp4", start=start, boxes=boxes))
    parse_source(camera(str(tmp_path), start=start))
    for text, fields in (
        ("rtsp://h/live", {"start": start}),
        ("webcam:0", {"boxes": boxes}),
        (str(tmp_path), {"boxes": boxes}),
    ):
        with pytest.raises(SourceError, match="does not go with"):
            parse_source(camera(text, **fields))


def test_a_folder_gives_its_recordings_by_name(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="expected recordings"):
        find_recordings(tmp_path)
    for name in ("b.MP4", "a.mkv", ".hidden.mp4", "notes.txt", "c.avi"):
        (tmp_path / name).touch()
    assert [path.name for path in find_recordings(tmp_path)] == ["a.mkv", "b.MP4", "c.avi"]
    with pytest.raises(SourceError, match="No such file"):
        find_recordings(tmp_path / "none")


@pytest.mark.parametrize(
    ("name", "seconds"),
    [
        ("20261124T101500Z.mkv", UTC_TIME),
        ("door_20261124T101500.250Z_1.mp4", UTC_TIME + 0.25),
        ("20261124T111500+0100.mp4", UTC_TIME),
        ("20261124T051500-0500.mp4", UTC_TIME),
        ("2026-11-24T11:15:00+01:00.mp4", UTC_TIME),
        ("2026-11-24_11-15-00.mp4", UTC_TIME),
        ("2026-11-24_11-15-00-0100.mp4", UTC_TIME),
        ("cam1 2026.11.24 11.15.00.mp4", UTC_TIME),
        ("20261124-111500.mp4", UTC_TIME),
        ("20261124_111500.mp4", UTC_TIME),
        ("clip.mp4", None),
        ("20261324_101500.mp4", None),
        ("20261124.mp4", None),
        ("120261124101500.mp4", None),
        ("s1_q01_4.avi", None),
    ],
)
def test_a_name_may_say_when(berlin: None, name: str, seconds: float | None) -> None:
    assert time_of_name(name) == seconds


def test_recordings_without_a_time_count_the_media_on() -> None:
    times = RecordingTimes(None)
    assert times.begin(Path("a.mp4"), 0.0) == ("media", 0.0)
    assert times.begin(Path("b.mp4"), 12.5) == ("media", 12.5)


def test_names_with_a_time_count_by_themselves() -> None:
    times = RecordingTimes(None)
    assert times.begin(Path("20261124T101500Z.mp4"), 0.0) == ("wall", UTC_TIME)
    assert times.begin(Path("20261124T101700Z.mp4"), UTC_TIME + 60) == ("wall", UTC_TIME + 120)
    assert times.begin(Path("rest.mp4"), UTC_TIME + 180) == ("wall", UTC_TIME + 180)


def test_a_stated_start_goes_before_names() -> None:
    start = datetime(2026, 1, 1, tzinfo=timezone.utc)
    began = start.timestamp()
    times = RecordingTimes(start)
    assert times.begin(Path("20261124T101500Z.mp4"), 0.0) == ("wall", began)
    assert times.begin(Path("20261124T101700Z.mp4"), began + 60) == ("wall", began + 120)
    times = RecordingTimes(start)
    assert times.begin(Path("a.mp4"), 0.0) == ("wall", began)
    assert times.begin(Path("b.mp4"), began + 60) == ("wall", began + 60)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("clips/front door.mp4", "front-door"),
        ("rtsp://admin:${PW}@10.0.0.7:554/Streaming/101?x=1", "10.0.0.7-554-Streaming-101"),
        ("webcam:0", "webcam0"),
        ("clips/.mp4", "mp4"),
        ("клип.mp4", "camera"),
        (f"{'a' * 99}.mp4", "a" * 64),
    ],
)
def test_a_name_is_made_of_the_source(source: str, name: str) -> None:
    assert default_name(source) == name
    camera_settings = CameraSettings.of(name=default_name(source), source=SecretStr(source))
    assert camera_settings.name == name


def test_names_are_made_apart(tmp_path: Path) -> None:
    folder = tmp_path / "yard.2026"
    folder.mkdir()
    assert default_name(str(folder)) == "yard.2026"
    assert default_name("a.mp4", {"a", "a-2"}) == "a-3"
    assert len(default_name("a" * 99 + ".mp4", {"a" * 64})) == 64
    assert os.sep not in default_name("/a/b.mp4")
