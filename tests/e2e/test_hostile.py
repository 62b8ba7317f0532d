"""Hostile and odd sources beside a good camera, all in one gateway with a real server."""

from __future__ import annotations

from pathlib import Path

import pytest

from fgmclip.bench.camera_video import camera_video
from fgmclip.bench.hostile import HOSTILE, hostile_sources
from fgmclip.client import ActionClient
from fgmclip.client.gateway.board import Board
from fgmclip.client.gateway.config import check_config
from fgmclip.client.gateway.gateway import Gateway
from fgmclip.serve import EmbeddedServer

pytestmark = pytest.mark.e2e


def test_a_good_camera_misses_nothing_beside_thirty_that_are_not(
    server: EmbeddedServer, client: ActionClient, tmp_path: Path
) -> None:
    video = tmp_path / "good.mp4"
    camera_video(video, seconds=8)
    with hostile_sources(tmp_path) as sources:
        assert len(sources) >= HOSTILE
        cameras = [{"name": f"bad{number}", "source": one} for number, one in enumerate(sources)]
        cameras.append({"name": "good", "source": str(video), "pace": "live", "policy": "latest"})
        fields = {
            "servers": {"urls": [server.url]},
            "cameras": cameras,
            "outbox": {"path": str(tmp_path / "outbox.sqlite")},
        }
        board = Board()
        with Gateway(check_config(fields, "test"), board, report=lambda _: None) as gateway:
            for _ in range(240):
                gateway.wait(0.5)
                states = {camera.name: camera for camera in board.snapshot().cameras}
                settled = all(one.state not in ("starting", "live") for one in states.values())
                if settled:
                    break
            assert settled, {name: one.state for name, one in states.items()}
    good = states.pop("good")
    assert (good.state, good.cause) == ("ended", "")
    assert (good.dropped, good.skipped) == (0, 0)
    assert good.decisions == good.samples - (client.manifest.spec.clip.frames - 1)
    for camera in states.values():
        assert camera.state in ("ended", "failed", "reconnecting", "stalled")
        assert camera.cause or camera.decisions
        assert "secret" not in camera.cause
