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
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton
from numpy.typing import NDArray

from fgmclip.client import ActionClient, Decision, StreamClient, StreamDecision, StreamSession
from fgmclip.export.release import export_release
from fgmclip.export.repository import Repository
from fgmclip.model.build import build_model
from fgmclip.model.checkpoint import save_checkpoint
from fgmclip.model.network import FgmClip
from fgmclip.serve import EmbeddedServer
from fgmclip.spec import ModelSpec, preset

pytestmark = pytest.mark.e2e

MovingClip = Callable[..., NDArray[np.uint8]]

KILLS = int(os.environ.get("FGMCLIP_KILLS", "4"))
"""How often export is killed; more with FGMCLIP_KILLS=20."""

SEEDS = (1, 2)

WINDOW = 8

ORDERS = (range(12), range(11, -1, -1), range(0, 12, 3))
"""Classes of the demo in each release that differs in its class file alone, by their number."""


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


def with_classes(model: FgmClip, order: Sequence[int]) -> FgmClip:
    """Return the model with some of its classes, in an order; all but the head is as before."""
    spec = model.spec.replace(classes=[model.spec.classes[index] for index in order])
    weights = {
        name: value[list(order)] if name.startswith("classifier.linear.") else value
        for name, value in model.state_dict().items()
    }
    other = build_model(spec, seed=0)
    other.load_state_dict(weights)
    return other


class Heads:
    """Releases of the demo that differ in their class file, and what each says of known windows.

    Attributes:
        repository: Holds them.
        tags: `model_tag` of each.
    """

    def __init__(self, repository: Repository, frames: NDArray[np.uint8]) -> None:
        self.repository = repository
        self.frames = frames
        publics = [repository.manifest(number).public for number in repository.releases()]
        self.tags = [public.model_tag for public in publics]
        assert len(set(self.tags)) == len(ORDERS)
        assert len({public.embedding_tag for public in publics}) == 1
        self._labels = [public.spec.labels for public in publics]
        self._logits: list[NDArray[np.float32]] = []

    def learn(self, client: ActionClient) -> None:
        """Ask the first release about every window of the frames, which go round in a ring."""
        for end in range(len(self.frames)):
            self._logits.append(client.classify_window(self.window(end)).logits)

    def window(self, end: int, count: int = WINDOW + 1) -> NDArray[np.uint8]:
        return self.frames[[index % len(self.frames) for index in range(end + 1 - count, end + 1)]]

    def release_of(self, decision: Decision, end: int) -> int:
        """Return the release, from 0, whose logits came, after its labels were found with them."""
        known = self._logits[end % len(self.frames)]
        near = [
            number
            for number, order in enumerate(ORDERS)
            if len(order) == len(decision.logits)
            and np.abs(known[list(order)] - decision.logits).max() < 1e-3
        ]
        (release,) = near
        values = dict(zip(self._labels[release], decision.probabilities.tolist(), strict=True))
        assert [(label, values[label]) for label, _ in decision.top] == list(decision.top)
        assert decision.top[0][1] == max(values.values())
        assert decision.label in ("unknown", decision.top[0][0])
        return release


@pytest.fixture(scope="module")
def heads(
    model: FgmClip, tmp_path_factory: pytest.TempPathFactory, moving_clip: MovingClip
) -> Heads:
    path = tmp_path_factory.mktemp("heads") / "repository"
    for order in ORDERS:
        export_release(with_classes(model, order), path)
    return Heads(Repository(path), moving_clip(900, frames=11))


@pytest.fixture(scope="module")
def headed(tritonserver: None, heads: Heads) -> Iterator[EmbeddedServer]:
    """A server of the first of these releases."""
    heads.repository.activate(1)
    with EmbeddedServer(heads.repository.path) as server:
        with ActionClient(server.url) as client:
            heads.learn(client)
        yield server


def test_another_class_file_between_two_questions(heads: Heads, headed: EmbeddedServer) -> None:
    box = np.tile(np.array([0, 0, 128, 96], np.float32), (2, WINDOW + 1, 1))
    with ActionClient(headed.url) as client:
        streams = [StreamClient(client, edge=edge) for edge in (True, False)]
        sessions = [StreamSession(client, edge=edge) for edge in (True, False)]
        for index in range(WINDOW + 16):
            if index >= WINDOW and index % 2 == 0:
                heads.repository.activate(index // 2 % 3 + 1)
                headed.reload()
            serving = index // 2 % 3 if index >= WINDOW else 0
            for stream in streams:
                made = stream.push(heads.frames[index % 11], index / 8)
                assert len(made) == (index >= WINDOW - 1)
                for item in made:
                    assert isinstance(item, StreamDecision)
                    assert item.model_tag == heads.tags[serving]
                    assert item.samples == (WINDOW if index == WINDOW - 1 else 1)
                    # The first frame has none before it.
                    if index >= WINDOW:
                        assert heads.release_of(item.decision, index) == serving
            if index >= WINDOW:
                for session in sessions:
                    count = WINDOW + 1 if session.empty else 2
                    decision = session.push(heads.window(index, count))
                    assert heads.release_of(decision, index) == serving
                decision = client.classify_window(heads.window(index))
                assert heads.release_of(decision, index) == serving
                for decision in client.classify_tracks(heads.window(index), box):
                    assert len(decision.probabilities) == len(ORDERS[serving])


def test_another_class_file_under_questions(heads: Heads, headed: EmbeddedServer) -> None:
    heads.repository.activate(1)
    headed.reload()
    stop = threading.Event()
    seen: dict[str, list[int]] = {}
    failures: list[Exception] = []

    def stream(client: ActionClient, index: int, kept: StreamClient) -> list[int]:
        found = []
        made = kept.push(heads.frames[index % 11], index / 8)
        assert len(made) == (index >= WINDOW - 1)
        for item in made:
            assert isinstance(item, StreamDecision)
            assert (item.index, item.skipped_decisions) == (index, 0)
            assert item.samples == (WINDOW if index == WINDOW - 1 else 1)
            if index >= WINDOW:
                found.append(heads.release_of(item.decision, index))
                assert item.model_tag == heads.tags[found[-1]]
        return found

    def session(client: ActionClient, index: int, kept: StreamSession) -> list[int]:
        count = WINDOW + 1 if kept.empty else 2
        return [heads.release_of(kept.push(heads.window(index, count)), index)]

    def window(client: ActionClient, index: int, kept: None) -> list[int]:
        return [heads.release_of(client.classify_window(heads.window(index)), index)]

    def hammer(name: str, ask: Callable[..., list[int]], keep: Callable[..., object]) -> None:
        try:
            with ActionClient(headed.url) as client:
                kept, index = keep(client), 0
                while not stop.is_set():
                    seen[name] += ask(client, index, kept)
                    index += 1
        except Exception as error:
            failures.append(error)

    asking: dict[str, tuple[Callable[..., list[int]], Callable[..., object]]] = {
        "edge stream": (stream, StreamClient),
        "raw stream": (stream, lambda client: StreamClient(client, edge=False)),
        "session": (session, StreamSession),
        "clip": (window, lambda client: None),
    }
    seen |= {name: [] for name in asking}
    threads = [threading.Thread(target=hammer, args=(name, *how)) for name, how in asking.items()]
    for thread in threads:
        thread.start()
    try:
        for release in (2, 3, 1, 3, 2, 1, 2):
            heads.repository.activate(release)
            headed.reload()
            begun = {name: len(found) for name, found in seen.items()}
            deadline = time.monotonic() + 60
            while not failures and time.monotonic() < deadline:
                if all(len(found) >= begun[name] + 3 for name, found in seen.items()):
                    break
                time.sleep(0.01)
            for name, found in seen.items():
                # What was on its way may still be the old release's.
                assert found[begun[name] + 1 :][:2] == [release - 1] * 2, (name, failures)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not failures
