"""`fgmclip watch` as a process against a real server: files in, events out, whatever ends it."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fgmclip.bench.camera_video import Shot, camera_video
from fgmclip.serve import EmbeddedServer

pytestmark = pytest.mark.e2e

pytest.importorskip("paho.mqtt", reason="the gateway extra is not installed")

SECONDS = 14.0
ACTIONS = ("walk_left", "sit_down", "stand_up", "circle_clockwise")
RULE = {"start": 0.6, "keep": 0.4, "min_seconds": 0.1, "release_seconds": 0.2}
FGMCLIP = Path(sys.executable).with_name("fgmclip")


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Shot]]:
    path = tmp_path_factory.mktemp("video") / "door.mp4"
    return path, camera_video(path, seconds=SECONDS, actions=ACTIONS)


class Watch:
    """One gateway in a folder of its own."""

    def __init__(self, folder: Path, server: EmbeddedServer, cameras: list[dict[str, Any]]) -> None:
        self.folder = folder
        self.config: dict[str, Any] = {
            "servers": {"urls": [server.url], "decision_seconds": 5},
            "cameras": cameras,
            "events": {"default": RULE},
            "outbox": {"path": str(folder / "outbox.sqlite")},
            "sinks": {"jsonl": {"path": str(folder / "events.jsonl")}},
            "web": {"port": 0},
        }
        self.write()
        self.process: subprocess.Popen[str]

    def write(self) -> None:
        (self.folder / "watch.yaml").write_text(json.dumps(self.config), encoding="utf-8")

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[str]]:
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                [FGMCLIP, "watch", "--config", "watch.yaml", "--json", "--log-format", "json"],
                cwd=self.folder,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                encoding="utf-8",
            )
        try:
            yield self.process
        finally:
            self.process.kill()
            self.process.communicate()

    @property
    def log(self) -> list[dict[str, Any]]:
        return [
            json.loads(line)
            for line in (self.folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
        ]

    @property
    def events(self) -> list[dict[str, Any]]:
        file = self.folder / "events.jsonl"
        return (
            [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
            if file.exists()
            else []
        )


def wait_for(condition: Callable[[], object], seconds: float = 40.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not come about"
        time.sleep(0.1)


def refused(watch: Watch) -> list[str]:
    return [line["message"] for line in watch.log if "not reloaded" in line["message"]]


def test_a_recording_gives_its_actions_with_their_times(
    server: EmbeddedServer, video: tuple[Path, list[Shot]], tmp_path: Path
) -> None:
    path, shots = video
    cameras = [
        {"name": "door", "source": str(path), "start": "2026-11-24T10:00:00+00:00"},
        {"name": "hall", "source": str(path)},
        {"name": "gone", "source": str(tmp_path / "gone.mp4")},
    ]
    watch = Watch(tmp_path, server, cameras)
    with watch.running() as process:
        out, _ = process.communicate(timeout=120)
    assert process.returncode == 1  # one source is not there
    printed = [json.loads(line) for line in out.splitlines()]
    stored = {event["message_id"] for event in watch.events}
    assert {event["message_id"] for event in printed} == stored
    began = 1795514400.0
    for camera, origin in (("door", began), ("hall", 0.0)):
        ended = [e for e in printed if e["camera"] == camera and e["state"] == "ended"]
        assert {e["clock"] for e in ended} == {"wall" if origin else "media"}
        for shot in shots[1:-1]:
            # A window reaches one second back.
            found = [
                e["label"] for e in ended if shot.start < e["peak_time"] - origin <= shot.end + 0.3
            ]
            assert shot.label in found, (shot, found)
    said = [line["message"] for line in watch.log if line.get("camera") == "gone"]
    assert any("no such file" in message for message in said)


def test_events_survive_kill_9_and_open_ones_end_as_interrupted(
    server: EmbeddedServer, video: tuple[Path, list[Shot]], tmp_path: Path
) -> None:
    camera = {"name": "door", "source": str(video[0]), "pace": "live"}
    watch = Watch(tmp_path, server, [camera])
    with watch.running() as process:
        wait_for(lambda: any(e["state"] == "open" for e in watch.events))
        # At once, while it is open; workers must go with it.
        process.kill()
        process.wait()
    still_open = {e["id"] for e in watch.events} - {
        e["id"] for e in watch.events if e["state"] != "open"
    }
    with watch.running() as process:
        wait_for(lambda: any(e["state"] == "interrupted" for e in watch.events))
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    interrupted = {e["id"] for e in watch.events if e["state"] == "interrupted"}
    assert still_open <= interrupted
    everything = [e["message_id"] for e in watch.events]
    with sqlite3.connect(tmp_path / "outbox.sqlite") as outbox:
        (check,) = outbox.execute("PRAGMA integrity_check").fetchone()
    outbox.close()
    assert check == "ok"
    opened = {e["id"] for e in watch.events if e["state"] == "open"}
    assert {e["id"] for e in watch.events if e["state"] != "open"} >= opened, everything


def test_a_signal_to_the_whole_group_fails_no_camera(
    server: EmbeddedServer, video: tuple[Path, list[Shot]], tmp_path: Path
) -> None:
    camera = {"name": "door", "source": str(video[0]), "pace": "live"}
    watch = Watch(tmp_path, server, [camera])
    with watch.running() as process:
        wait_for(lambda: any(e["state"] == "open" for e in watch.events))
        # As a service manager does.
        os.killpg(process.pid, signal.SIGTERM)
        assert process.wait(30) == 0
    assert not any("camera ended" in line["message"] for line in watch.log)


def test_sighup_takes_cameras_in_and_out_and_a_wrong_file_changes_nothing(
    server: EmbeddedServer, video: tuple[Path, list[Shot]], tmp_path: Path
) -> None:
    one, two = ({"name": n, "source": str(video[0]), "pace": "live"} for n in ("one", "two"))
    watch = Watch(tmp_path, server, [one])
    with watch.running() as process:
        wait_for(lambda: any(e["camera"] == "one" for e in watch.events))
        (tmp_path / "watch.yaml").write_text("cameras: 7", encoding="utf-8")
        process.send_signal(signal.SIGHUP)
        wait_for(lambda: any("not reloaded" in line["message"] for line in watch.log))
        # Valid YAML whose addresses have no meaning: found out when the servers are to be asked.
        good = dict(watch.config)
        for changed in (
            {"servers": {"urls": ["nonsense"]}},
            {"sinks": {"mqtt": {"url": "http://nowhere"}}},
        ):
            before = len(watch.events)
            refusals = len(refused(watch))
            watch.config = good | changed
            watch.write()
            process.send_signal(signal.SIGHUP)
            wait_for(lambda n=refusals: len(refused(watch)) > n)  # type: ignore[misc]
            wait_for(lambda n=before: len(watch.events) > n)  # type: ignore[misc]
        watch.config = good
        watch.config["cameras"] = [two]
        watch.write()
        process.send_signal(signal.SIGHUP)
        wait_for(lambda: any(e["camera"] == "two" for e in watch.events))
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    first = [e for e in watch.events if e["camera"] == "one"]
    assert {e["id"] for e in first if e["state"] == "open"} == {
        e["id"] for e in first if e["state"] != "open"
    }


def test_two_gateways_do_not_share_an_outbox(
    server: EmbeddedServer, video: tuple[Path, list[Shot]], tmp_path: Path
) -> None:
    watch = Watch(tmp_path, server, [{"name": "a", "source": str(video[0]), "pace": "live"}])
    with watch.running():
        wait_for(lambda: (tmp_path / "outbox.sqlite").exists() and watch.log)
        second = subprocess.run(
            [FGMCLIP, "watch", "--config", "watch.yaml"],
            cwd=tmp_path,
            capture_output=True,
            timeout=60,
            check=False,
            encoding="utf-8",
        )
    assert second.returncode != 0
    assert "outbox" in second.stderr
    assert "Traceback" not in second.stderr


def test_a_password_on_the_command_line_is_refused(tmp_path: Path) -> None:
    done = subprocess.run(
        [FGMCLIP, "watch", "rtsp://user:hunter2@10.0.0.1/a", "--url", "localhost:1", "--check"],
        cwd=tmp_path,
        capture_output=True,
        timeout=60,
        check=False,
        encoding="utf-8",
    )
    assert done.returncode == 2
    assert "hunter2" not in done.stdout + done.stderr
    done = subprocess.run(
        [FGMCLIP, "watch", "rtsp://user:${CAMERA}@10.0.0.1/a", "--url", "localhost:1", "--check"],
        cwd=tmp_path,
        capture_output=True,
        timeout=60,
        check=False,
        env=os.environ | {"CAMERA": "hunter2"},
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    assert "hunter2" not in done.stdout + done.stderr


def test_the_schema_is_json(tmp_path: Path) -> None:
    done = subprocess.run(
        [FGMCLIP, "watch", "--schema"],
        capture_output=True,
        timeout=60,
        check=True,
        encoding="utf-8",
    )
    assert {"servers", "cameras", "events", "sinks"} <= set(json.loads(done.stdout)["properties"])
