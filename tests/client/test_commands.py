"""`fgmclip classify`: one line a video, and no file stops the others."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fgmclip.client import (
    ActionClient,
    ConnectError,
    ManifestError,
    MockTransport,
    RefusedError,
    SettingsError,
    VideoResult,
)
from fgmclip.client.commands import VideoFailure, classify_videos, run_classify
from fgmclip.video.errors import NotAVideoError

TOP = (("jump", 0.75), ("kick", 0.25))


def classify(self: ActionClient, path: Path) -> VideoResult:
    if path.name == "text.mp4":
        raise NotAVideoError(path, "no moving pictures")
    if path.name == "tiny.mp4":
        raise RefusedError("FRAMES: expected sides of at least 16 pixels")
    if path.name == "bug.mp4":
        raise KeyError("two\nlines")
    if path.name == "mute.mp4":
        raise MemoryError
    lost = 2 if path.name == "last.mp4" else 0
    return VideoResult(path, "jump", 0.75, TOP, 3, 12.25, 98, lost)


@pytest.fixture
def client(transport: MockTransport, monkeypatch: pytest.MonkeyPatch) -> ActionClient:
    monkeypatch.setattr(ActionClient, "classify", classify)
    return ActionClient("nowhere:1", transport=transport)


@pytest.fixture
def without_server(client: ActionClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the command's own client find a manifest without a server."""
    manifest = client.manifest
    monkeypatch.setattr(ActionClient, "manifest", property(lambda self: manifest))


NAMES = ["good.mp4", "text.mp4", "tiny.mp4", "bug.mp4", "mute.mp4", "last.mp4"]
CAUSES = {
    "text.mp4": "no moving pictures",
    "tiny.mp4": "FRAMES: expected sides of at least 16 pixels",
    "bug.mp4": "unexpected KeyError: 'two\\nlines'",
    "mute.mp4": "MemoryError",
}


def run(names: list[str], *, as_json: bool) -> tuple[int, list[str]]:
    console = Console(file=io.StringIO(), width=40)
    code = run_classify([Path(name) for name in names], "nowhere:1", as_json, console)
    stream: Any = console.file
    return code, stream.getvalue().splitlines()


def test_every_video_gets_its_answer_or_its_cause(client: ActionClient) -> None:
    answers = list(classify_videos(client, map(Path, NAMES)))
    assert [answer.video.name for answer in answers] == NAMES
    assert {item.video.name: item.cause for item in answers if isinstance(item, VideoFailure)} == (
        CAUSES
    )


def test_an_interrupt_is_not_a_files_fault(
    client: ActionClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(self: ActionClient, path: Path) -> VideoResult:
        raise KeyboardInterrupt

    monkeypatch.setattr(ActionClient, "classify", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(classify_videos(client, [Path("a.mp4")]))


def test_a_server_that_cannot_be_asked_is_asked_once(
    client: ActionClient, transport: MockTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = []

    def down(model: str, *, timeout_seconds: float) -> dict[str, str]:
        attempts.append(model)
        raise ConnectError("no server takes requests at nowhere:1")

    monkeypatch.setattr(transport, "model_parameters", down)
    answers = list(classify_videos(client, map(Path, NAMES)))
    assert len(attempts) == 1
    assert {getattr(answer, "cause", "") for answer in answers} == {
        "no server takes requests at nowhere:1"
    }


@pytest.mark.usefixtures("without_server")
def test_json_is_one_object_a_line() -> None:
    code, lines = run(NAMES, as_json=True)
    assert code == 1
    objects = [json.loads(line) for line in lines]
    assert objects[0] == {
        "video": "good.mp4",
        "label": "jump",
        "probability": 0.75,
        "top": [["jump", 0.75], ["kick", 0.25]],
        "windows": 3,
        "latency_ms": 12.25,
        "frames": 98,
        "frames_lost": 0,
    }
    assert objects[5]["frames_lost"] == 2
    assert objects[1] == {"video": "text.mp4", "error": "text.mp4: no moving pictures"}
    assert [item["video"] for item in objects] == NAMES
    assert all("\n" not in item.get("error", "") for item in objects)


@pytest.mark.usefixtures("without_server")
def test_text_is_one_aligned_line_a_video() -> None:
    code, lines = run([*NAMES, "a/longer/name.mp4"], as_json=False)
    assert code == 1
    assert len(lines) == 7
    good, text = lines[0], lines[1]
    assert good.split() == ["good.mp4", "jump", "75.0%", "3", "windows", "12.2", "ms"]
    assert text.split(maxsplit=1) == ["text.mp4", "error: no moving pictures"]
    assert lines[5].endswith("12.2 ms  2 of 100 frames lost")
    assert lines[6].startswith("a/longer/name.mp4  jump")
    assert lines[0].index("jump") == lines[5].index("jump") == lines[6].index("jump")


@pytest.mark.usefixtures("without_server")
def test_all_answered_is_exit_code_0() -> None:
    assert run(["good.mp4", "last.mp4"], as_json=True)[0] == 0


@pytest.mark.usefixtures("without_server")
@pytest.mark.parametrize("name", ["new\nline.mp4", "[bold]red[/].mp4", "caf\udce9.mp4", "\x1b[31m"])
def test_odd_names_stay_on_one_printable_line(name: str) -> None:
    for as_json in (True, False):
        _, lines = run([name], as_json=as_json)
        assert len(lines) == 1
        assert lines[0].isprintable()
        lines[0].encode()
    assert json.loads(run([name], as_json=True)[1][0])["video"] == name
    if "[bold]" in name:
        assert name in run([name], as_json=False)[1][0]


@pytest.mark.parametrize("as_json", [True, False])
def test_no_server_is_a_line_for_each_video(as_json: bool) -> None:
    console = Console(file=io.StringIO(), width=400)
    assert run_classify([Path("a.mp4"), Path("b.mp4")], "127.0.0.1:1", as_json, console) == 1
    stream: Any = console.file
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2
    assert all("no server takes requests at 127.0.0.1:1" in line for line in lines)


def test_a_wrong_address_is_the_callers_mistake() -> None:
    with pytest.raises(SettingsError, match="expected HOST:PORT"):
        run_classify([Path("a.mp4")], "http://x", False, Console(file=io.StringIO()))


def test_a_manifest_of_another_format_is_a_line_for_each_video(
    client: ActionClient, transport: MockTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    def foreign(model: str, *, timeout_seconds: float) -> dict[str, str]:
        raise ManifestError("expected a manifest of format 1, got 2")

    monkeypatch.setattr(transport, "model_parameters", foreign)
    (answer,) = classify_videos(client, [Path("a.mp4")])
    assert isinstance(answer, VideoFailure)
    assert answer.to_json()["error"] == "a.mp4: expected a manifest of format 1, got 2"


@pytest.mark.data
def test_hostile_files_get_an_answer_or_a_cause_each(
    test_data: Path, transport: MockTransport
) -> None:
    paths = sorted((test_data / "hostile").iterdir())
    client = ActionClient("nowhere:1", transport=transport)
    answers = list(classify_videos(client, paths))
    assert [answer.video for answer in answers] == paths
    for answer in answers:
        if isinstance(answer, VideoFailure):
            assert answer.cause.isprintable()
            assert not answer.cause.startswith("unexpected")
            assert str(answer.video) in answer.to_json()["error"]
    assert any(isinstance(answer, VideoResult) for answer in answers)
    assert any(isinstance(answer, VideoFailure) for answer in answers)
