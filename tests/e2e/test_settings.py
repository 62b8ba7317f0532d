"""Serving settings in a real server: warm at the first request, and at work under overload."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fgmclip.client import (
    ActionClient,
    OverloadedError,
    RequestTimeoutError,
    StreamSession,
    Timeouts,
)
from fgmclip.export.configs import format_config, parse_config
from fgmclip.export.settings import apply_settings, serving_settings
from fgmclip.serve import EmbeddedServer
from fgmclip.spec import preset

MovingClip = Callable[..., NDArray[np.uint8]]

BURST = 60
"""More clients at once than a server answers in time."""


@pytest.fixture
def settled_server(repository: Path, tmp_path: Path) -> Iterator[EmbeddedServer]:
    """A server on a release with the settings of one that nothing was measured of."""
    path = tmp_path / "settled"
    shutil.copytree(repository, path)
    folders = {folder.name.partition("__")[0]: folder for folder in path.glob("*__r1")}
    configs = {
        step: parse_config((folder / "config.pbtxt").read_text(encoding="utf-8"))
        for step, folder in folders.items()
    }
    settings = serving_settings(configs, preset("demo"), "cpu", None)
    for step, config in configs.items():
        apply_settings(config, settings)
        (folders[step] / "config.pbtxt").write_text(format_config(config), encoding="utf-8")
    with EmbeddedServer(path) as running:
        yield running


def test_settings_are_taken_and_change_no_answer(
    settled_server: EmbeddedServer, client: ActionClient, moving_clip: MovingClip
) -> None:
    clip = moving_clip(0, frames=9)
    with ActionClient(settled_server.url) as settled_client:
        answer = settled_client.classify_window(clip)
    log = settled_server.log_path.read_text(encoding="utf-8", errors="replace")
    assert "warmup" not in "".join(line for line in log.splitlines() if line.startswith("E"))
    np.testing.assert_allclose(answer.logits, client.classify_window(clip).logits, atol=1e-4)


@pytest.mark.parametrize("edge", [False, True])
def test_an_overloaded_server_works_on_and_recovers(
    settled_server: EmbeddedServer, moving_clip: MovingClip, edge: bool
) -> None:
    frames = moving_clip(0, frames=9)
    hurried, patient = Timeouts(request_seconds=0.5), Timeouts(request_seconds=60)
    with (
        ActionClient(settled_server.url, timeouts=hurried) as client,
        ActionClient(settled_server.url, timeouts=patient) as waiting,
    ):
        waiting.classify_window(frames)

        def ask(decisions: int) -> list[bool]:
            session, answered = StreamSession(client, edge=edge), list[bool]()
            for _ in range(decisions):
                try:
                    session.push(frames if session.empty else frames[-2:])
                    answered.append(True)
                except (RequestTimeoutError, OverloadedError):
                    answered.append(False)
            return answered

        with ThreadPoolExecutor(BURST) as pool:
            answers = [answer for found in pool.map(ask, [20] * BURST) for answer in found]
        # It answers far more than one each half second, which is what a stuck scheduler manages.
        assert sum(answers) > len(answers) / 10
        assert waiting.classify_window(frames).label
        # And was never gone: deadlines of ours do not kill it.
        assert settled_server.restarts == 0
