"""Serving settings in a real server: warm at the first request, and refusing what it cannot do."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fgmclip.client import ActionClient, Decision, OverloadedError, StreamSession, Timeouts
from fgmclip.export.configs import format_config, parse_config
from fgmclip.export.settings import apply_settings, serving_settings
from fgmclip.serve import EmbeddedServer
from fgmclip.spec import preset

MovingClip = Callable[..., NDArray[np.uint8]]

BURST = 200
"""More requests at once than any queue of a server holds."""


def settled(repository: Path, path: Path, change: Callable[[str, Any], None]) -> Path:
    """Copy a repository with the settings of a release that nothing was measured of."""
    shutil.copytree(repository, path)
    folders = {folder.name.partition("__")[0]: folder for folder in path.glob("*__r1")}
    configs = {
        step: parse_config((folder / "config.pbtxt").read_text())
        for step, folder in folders.items()
    }
    settings = serving_settings(configs, preset("demo"), "cpu", None)
    for step, config in configs.items():
        apply_settings(config, settings)
        change(step, config)
        (folders[step] / "config.pbtxt").write_text(format_config(config))
    return path


def test_settings_are_taken_and_change_no_answer(
    repository: Path, client: ActionClient, moving_clip: MovingClip, tmp_path: Path
) -> None:
    clip = moving_clip(0, frames=9)
    path = settled(repository, tmp_path / "settled", lambda step, config: None)
    with EmbeddedServer(path) as server, ActionClient(server.url) as settled_client:
        log = server.log_path.read_text(errors="replace")
        answer = settled_client.classify_window(clip)
    assert "warmup" not in "".join(line for line in log.splitlines() if line.startswith("E"))
    np.testing.assert_allclose(answer.logits, client.classify_window(clip).logits, atol=1e-4)


@pytest.mark.parametrize("fault", ["full queue", "long wait"])
def test_an_overloaded_server_refuses_and_recovers(
    repository: Path, moving_clip: MovingClip, tmp_path: Path, fault: str
) -> None:
    clip = moving_clip(0, frames=9)

    def shrink(step: str, config: Any) -> None:
        if step == "preprocess":
            policy = config.dynamic_batching.default_queue_policy
            if fault == "full queue":
                policy.max_queue_size = 1
            else:
                policy.default_timeout_microseconds = 20_000

    path = settled(repository, tmp_path / "small", shrink)
    with EmbeddedServer(path) as server, ActionClient(server.url) as client:

        def ask(_: int) -> Decision | OverloadedError:
            try:
                return client.classify_window(clip)
            except OverloadedError as error:
                return error

        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(ask, range(48)))
        refused = [answer for answer in answers if isinstance(answer, OverloadedError)]
        assert 0 < len(refused) < len(answers)
        words = {"full queue": "Exceeds maximum queue size", "long wait": "Request timeout expired"}
        assert all(words[fault] in str(error) for error in refused)
        assert client.classify_window(clip).label


@pytest.mark.parametrize("edge", [False, True])
def test_a_burst_leaves_nothing_stuck(
    repository: Path, moving_clip: MovingClip, tmp_path: Path, edge: bool
) -> None:
    frames = moving_clip(0, frames=9)
    path = settled(repository, tmp_path / "settled", lambda step, config: None)
    timeouts = Timeouts(request_seconds=40)
    with EmbeddedServer(path) as server, ActionClient(server.url, timeouts=timeouts) as client:
        client.classify_window(frames)

        def ask(decisions: int) -> int:
            session, refused = StreamSession(client, edge=edge), 0
            for _ in range(decisions):
                try:
                    session.push(frames if session.empty else frames[-2:])
                except OverloadedError:
                    refused += 1
            return refused

        with ThreadPoolExecutor(BURST) as pool:
            refused = sum(pool.map(ask, [40] * BURST))
        assert refused
        assert ask(1) == 0
        assert client.classify_window(frames).label
