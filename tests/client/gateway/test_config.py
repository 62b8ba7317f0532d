"""`watch.yaml`: what it may say, and that no message shows a secret."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fgmclip.client.gateway.config import ConfigError, check_config, hide_secrets, read_config
from fgmclip.client.gateway.secrets import Secrets
from fgmclip.client.gateway.settings import WatchSettings

LEAST: dict[str, Any] = {
    "servers": {"urls": ["localhost:8001"]},
    "cameras": [{"name": "door", "source": "door.mp4"}],
}


def check(**changes: Any) -> WatchSettings:
    return check_config(LEAST | changes, "watch.yaml", {"PASSWORD": "hunter2"})


def camera(**fields: Any) -> list[dict[str, Any]]:
    return [{"name": "door", "source": "door.mp4"} | fields]


def test_servers_and_cameras_are_enough() -> None:
    settings = check()
    assert settings.cameras[0].edge
    assert settings.cameras[0].gate is None
    assert settings.thumbnails is None
    assert settings.web is None


def test_a_file_is_read_as_it_stands(tmp_path: Path) -> None:
    file = tmp_path / "watch.yaml"
    file.write_text(
        "version: 1\n"
        "servers: {urls: [localhost:8001, 'other:8001']}\n"
        "cameras:\n"
        "  - {name: door, source: 'rtsp://user:${PASSWORD}@10.0.0.5/a', gate: {}}\n"
        "  - {name: hall, source: hall.mp4, start: 2026-11-24T10:00:00+01:00}\n"
        "events: {classes: {kick: {start: 0.7}, wave: null}}\n"
        "sinks: {webhook: {url: 'https://example.com/?key=${PASSWORD}', secret: abc}}\n",
        encoding="utf-8",
    )
    settings = check_config(read_config(file), str(file), {"PASSWORD": "hunter2"})
    assert settings.cameras[0].source.get_secret_value() == "rtsp://user:hunter2@10.0.0.5/a"
    assert settings.cameras[0].gate is not None
    assert settings.cameras[1].start is not None
    assert settings.events.classes["wave"] is None
    assert "hunter2" not in repr(settings)
    secrets = Secrets()
    hide_secrets(settings, secrets)
    assert secrets.redact("hunter2 and abc") == "*** and ***"


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"cameras": camera(polcy="latest")}, r"cameras.0.polcy: unknown, did you mean policy\?"),
        ({"cameras": camera(policy="newest")}, "cameras.0.policy: .*'latest'.*got 'newest'"),
        ({"cameras": camera() * 2}, "cameras: expected each camera's name once, got door twice"),
        ({"cameras": camera(name="a/b")}, r"cameras.0.name: .*got 'a/b'"),
        ({"cameras": camera(start="2026-11-24T10:00:00")}, "start: expected a time with its zone"),
        ({"cameras": []}, "cameras: .*at least 1"),
        ({"servers": {"urls": []}}, "servers.urls: .*at least 1"),
        ({"version": 2}, "version: .*1"),
        ({"events": {"default": {"start": 0.3, "keep": 0.5}}}, "expected keep up to start"),
        ({"events": {"default": {"start": 1.5}}}, "events.default.start: .*got 1.5"),
    ],
)
def test_a_wrong_field_is_named(changes: dict[str, Any], place: str) -> None:
    with pytest.raises(ConfigError, match=rf"^watch\.yaml: .*{place}"):
        check(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"cameras": camera(source=["rtsp://a:hunter2@b"])},
        {"sinks": {"webhook": {"url": "ftp://a:hunter2@b"}}},
        {"sinks": {"webhook": {"url": "ftp://a:${PASSWORD}@b", "secret": 7}}},
    ],
)
def test_no_message_shows_a_secret(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        check(**changes)
    assert "hunter2" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_an_unset_variable_is_named() -> None:
    with pytest.raises(ConfigError, match="expected NOWHERE in the environment"):
        check(cameras=camera(source="rtsp://${NOWHERE}@b"))


def test_a_variable_stands_for_text_not_for_more_variables() -> None:
    settings = check_config(
        LEAST | {"cameras": camera(source="rtsp://a:${A}@b")}, "x", {"A": "${B}", "B": "no"}
    )
    assert settings.cameras[0].source.get_secret_value() == "rtsp://a:%24%7BB%7D@b"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a mapping with servers and cameras, got nothing"),
        ("- a", "expected a mapping with servers and cameras, got list"),
        ("a: [", r"got a fault in line \d+, column \d+"),
        ("a: 1\na: 2", "'a' stands twice"),
        ("source: 'rtsp://a:hunter2@b\n x: [", "got a fault"),
    ],
)
def test_a_file_that_is_not_ours_is_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "watch.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message) as caught:
        read_config(file)
    assert "hunter2" not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: expected a readable text file"):
        read_config(tmp_path / "none.yaml")


def test_the_example_of_the_document_is_valid(tmp_path: Path) -> None:
    document = (Path(__file__).parents[3] / "docs" / "watch.md").read_text(encoding="utf-8")
    file = tmp_path / "watch.yaml"
    file.write_text(document.partition("```yaml\n")[2].partition("```")[0], encoding="utf-8")
    passwords = dict.fromkeys(("DOOR_PASSWORD", "MQTT_PASSWORD", "WEBHOOK_KEY"), "hunter2")
    settings = check_config(read_config(file), "watch.yaml", passwords)
    assert [camera.name for camera in settings.cameras] == ["door", "archive"]
    assert settings.sinks.mqtt is not None
