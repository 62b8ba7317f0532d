"""Releases under a running server: every answer is one release's, whatever is killed when."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton
from numpy.typing import NDArray

from fgmclip.client import ActionClient
from fgmclip.export.release import export_release
from fgmclip.export.repository import Repository
from fgmclip.model.build import build_model
from fgmclip.model.checkpoint import save_checkpoint
from fgmclip.serve import EmbeddedServer
from fgmclip.spec import ModelSpec, preset

pytestmark = pytest.mark.e2e

MovingClip = Callable[..., NDArray[np.uint8]]

KILLS = int(os.environ.get("FGMCLIP_KILLS", "4"))
"""How often export is killed; more with FGMCLIP_KILLS=20."""

SEEDS = (1, 2)


def small() -> ModelSpec:
    """A spec that exports in seconds."""
    return preset("demo").replace(name="small", clip={"frames": 2, "window_seconds": 0.25})


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two models of one spec with other weights."""
    folder = tmp_path_factory.mktemp("checkpoints")
    paths = [folder / f"seed{seed}.safetensors" for seed in SEEDS]
    for seed, path in zip(SEEDS, paths, strict=True):
        save_checkpoint(build_model(small(), seed=seed), path)
    return paths


@pytest.fixture
def repository(tmp_path: Path, tritonserver: None) -> Repository:
    """A repository that serves the first model."""
    export_release(build_model(small(), seed=SEEDS[0]), tmp_path / "repository")
    return Repository(tmp_path / "repository")


@pytest.fixture
def frames(moving_clip: MovingClip) -> NDArray[np.uint8]:
    return moving_clip(0, frames=3)


def ask(url: str, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    tensor = triton.InferInput("FRAMES", list(frames.shape), "UINT8")
    tensor.set_data_from_numpy(frames)
    with triton.InferenceServerClient(url) as stock:
        answer = stock.infer("fgm_clip", [tensor], client_timeout=30)
    logits: NDArray[np.float32] = answer.as_numpy("LOGITS")
    return logits


def answers_of(
    checkpoints: list[Path], frames: NDArray[np.uint8], folder: Path
) -> list[NDArray[np.float32]]:
    """Return what each model answers when it is served alone."""
    answers = []
    for index, seed in enumerate(SEEDS):
        path = folder / f"alone{index}"
        export_release(build_model(small(), seed=seed), path)
        with EmbeddedServer(path) as server:
            answers.append(ask(server.url, frames))
    assert np.abs(answers[0] - answers[1]).max() > 1e-3
    return answers


def which(answer: NDArray[np.float32], known: list[NDArray[np.float32]]) -> int:
    """Return the model that gave an answer; an answer of neither is a mixture."""
    near = [index for index, other in enumerate(known) if np.abs(answer - other).max() < 1e-5]
    assert len(near) == 1, f"answer of neither release: {answer}"
    return near[0]


def start_export(checkpoint: Path, repository: Repository) -> subprocess.Popen[bytes]:
    command = ["export", str(checkpoint), "--repository", str(repository.path)]
    return subprocess.Popen(
        [sys.executable, "-m", "fgmclip.cli", *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def test_a_killed_export_leaves_one_complete_release(
    repository: Repository, checkpoints: list[Path], frames: NDArray[np.uint8], tmp_path: Path
) -> None:
    known = answers_of(checkpoints, frames, tmp_path)
    started = time.monotonic()
    assert start_export(checkpoints[1], repository).wait() == 0
    duration = time.monotonic() - started
    dice = random.Random(0)
    with EmbeddedServer(repository.path, watch=True) as server:
        for kill in range(KILLS):
            export = start_export(checkpoints[kill % 2], repository)
            # Half of the kills fall into the last fifth, where folders and configs are renamed.
            early = 0.0 if kill % 2 else 0.8
            try:
                export.wait(timeout=duration * dice.uniform(early, 1.05))
            except subprocess.TimeoutExpired:
                export.send_signal(signal.SIGKILL)
                export.wait()
            which(ask(server.url, frames), known)
            time.sleep(1.5)
            which(ask(server.url, frames), known)
            assert set(repository.active().values()) <= set(repository.releases())
            copy = tmp_path / "copy"
            shutil.copytree(repository.path, copy)
            with EmbeddedServer(copy) as restarted:
                which(ask(restarted.url, frames), known)
            shutil.rmtree(copy)


def test_a_hammering_client_sees_one_release_at_a_time(
    repository: Repository, checkpoints: list[Path], frames: NDArray[np.uint8], tmp_path: Path
) -> None:
    known = answers_of(checkpoints, frames, tmp_path)
    export_release(build_model(small(), seed=SEEDS[1]), repository.path)
    seen: list[int] = []
    failures: list[Exception] = []
    stop = threading.Event()

    def hammer(url: str) -> None:
        try:
            while not stop.is_set():
                seen.append(which(ask(url, frames), known))
        except Exception as error:
            failures.append(error)

    with EmbeddedServer(repository.path) as server:
        thread = threading.Thread(target=hammer, args=(server.url,))
        thread.start()
        for release in (1, 2, 1, 2):
            repository.activate(release)
            server.reload()
            begun = len(seen)
            deadline = time.monotonic() + 30
            # A request that was on its way may still be the old release's; later ones may not.
            while len(seen) < begun + 4 and not failures and time.monotonic() < deadline:
                time.sleep(0.01)
            assert seen[begun + 1 :] == [release - 1] * len(seen[begun + 1 :])
            assert len(seen) >= begun + 4
        stop.set()
        thread.join()
    assert not failures


def test_a_stream_of_the_old_release_is_refused_by_the_new(
    repository: Repository, frames: NDArray[np.uint8]
) -> None:
    with EmbeddedServer(repository.path) as server:
        with ActionClient(server.url) as client:
            old = client.manifest.embedding_tag
        export_release(build_model(small(), seed=SEEDS[1]), repository.path)
        server.reload()
        with ActionClient(server.url) as client:
            assert client.manifest.embedding_tag != old
            assert client.manifest.release == 2
