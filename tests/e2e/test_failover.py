"""Several real servers under streams: one is killed, one never answers, releases differ."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from fgmclip.client import (
    ActionClient,
    ClientError,
    Decision,
    StreamSession,
    TagMismatchError,
    Timeouts,
)
from fgmclip.client.endpoints.pool import EndpointPool, rank
from fgmclip.export.release import export_release
from fgmclip.model.build import build_model
from fgmclip.serve import EmbeddedServer
from fgmclip.spec import ModelSpec, preset

pytestmark = pytest.mark.e2e

MovingClip = Callable[..., NDArray[np.uint8]]

CAMERAS = 4
PATIENCE_SECONDS = 120.0
DECISION_SECONDS = 60.0

TOLERANCE = 1e-4
"""Frames of several requests are one batch, and the order of sums may depend on its size."""


def process_of(server: EmbeddedServer) -> psutil.Process:
    """Return the tritonserver itself, not what watches over it."""
    (process,) = (
        child
        for child in psutil.Process().children(recursive=True)
        if child.name() == "tritonserver"
        and f"--grpc-port={server.url.rpartition(':')[2]}" in child.cmdline()
    )
    return process


@dataclass
class Camera:
    """A stream that never pauses; remembers every decision by the index of its last sample."""

    name: str
    client: ActionClient
    video: NDArray[np.uint8]
    decisions: list[tuple[int, Decision]] = field(default_factory=list)
    refills: int = 0
    failure: Exception | None = None

    def run(self, stop: threading.Event) -> None:
        try:
            self._run(stop)
        except Exception as error:
            self.failure = error

    def _run(self, stop: threading.Event) -> None:
        session = StreamSession(self.client, edge=True)
        window = self.client.manifest.spec.clip.frames
        end = window
        while not stop.is_set():
            count = window if session.empty else 1
            try:
                decision = session.push(self._samples(end - count, end))
            except TagMismatchError:
                self.refills += 1
                session.reset()
                continue
            self.decisions.append((end, decision))
            end += 1
            stop.wait(0.02)

    def _samples(self, first: int, last: int) -> NDArray[np.uint8]:
        """Return samples of a video that goes round."""
        samples: NDArray[np.uint8] = self.video[np.arange(first, last + 1) % len(self.video)]
        return samples

    def window(self, end: int, frames: int) -> NDArray[np.uint8]:
        return self._samples(end - frames, end)


@contextlib.contextmanager
def running(cameras: list[Camera]) -> Iterator[Callable[[Callable[[], bool], str], None]]:
    """Run the cameras; yield a function that waits for something while none of them fails."""
    stop = threading.Event()
    threads = [threading.Thread(target=camera.run, args=(stop,)) for camera in cameras]

    def until(reached: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not reached():
            failures = [f"{camera.name}: {camera.failure!r}" for camera in cameras]
            assert not any(camera.failure for camera in cameras), f"{failures} before {what}"
            assert time.monotonic() < deadline, f"expected {what}"
            time.sleep(0.02)

    for thread in threads:
        thread.start()
    try:
        yield until
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def more_decisions(cameras: list[Camera], count: int) -> Callable[[], bool]:
    goals = {camera.name: len(camera.decisions) + count for camera in cameras}
    return lambda: all(len(camera.decisions) >= goals[camera.name] for camera in cameras)


def asked_again(pool: EndpointPool, place: int) -> Callable[[], bool]:
    """Return whether a server was given a request since now."""
    before = pool.status()[place].requests
    return lambda: pool.status()[place].requests > before


def spread_names(urls: tuple[str, str]) -> list[str]:
    """Return names of cameras, half of which prefer either server."""
    names = [f"camera{number}" for number in range(100)]
    first = [name for name in names if rank(name, urls[0]) < rank(name, urls[1])]
    second = [name for name in names if name not in first]
    return first[: CAMERAS // 2] + second[: CAMERAS // 2]


@pytest.fixture
def videos(moving_clip: MovingClip) -> list[NDArray[np.uint8]]:
    return [moving_clip(seed, frames=40) for seed in range(CAMERAS)]


def cameras_on(
    pool: EndpointPool, urls: tuple[str, str], videos: list[NDArray[np.uint8]]
) -> list[Camera]:
    return [
        Camera(name, ActionClient(urls[0], transport=pool.transport(name)), video)
        for name, video in zip(spread_names(urls), videos, strict=True)
    ]


def check(camera: Camera, client: ActionClient) -> None:
    """Compare every decision with that of its whole window, and look for one that is missing."""
    frames = client.manifest.spec.clip.frames
    ends = [end for end, _ in camera.decisions]
    assert ends == list(range(frames, frames + len(ends)))
    whole: dict[int, Decision] = {}
    for end, decision in camera.decisions:
        place = end % len(camera.video)
        if place not in whole:
            whole[place] = client.classify_window(camera.window(end, frames))
        np.testing.assert_allclose(decision.logits, whole[place].logits, atol=TOLERANCE)


def test_a_server_killed_under_load_loses_no_decision_and_takes_its_cameras_again(
    tritonserver: None, repository: Path, videos: list[NDArray[np.uint8]]
) -> None:
    with EmbeddedServer(repository) as stays, contextlib.ExitStack() as stack:
        dies = stack.enter_context(EmbeddedServer(repository))
        port = int(dies.url.rpartition(":")[2])
        urls = (stays.url, dies.url)
        with EndpointPool(urls, decision_seconds=DECISION_SECONDS) as pool:
            cameras = cameras_on(pool, urls, videos)
            with running(cameras) as until:
                until(more_decisions(cameras, 20), "decisions before")
                assert all(item.requests > 20 for item in pool.status())
                process_of(dies).kill()
                until(lambda: not pool.status()[1].healthy, "the dead server out of use")
                until(more_decisions(cameras, 40), "decisions without it")
                with EmbeddedServer(repository, grpc_port=port):
                    until(lambda: pool.status()[1].healthy, "the server in use again")
                    until(asked_again(pool, 1), "its cameras at home")
                    until(more_decisions(cameras, 20), "decisions with it")
                    status = pool.status()
        with ActionClient(stays.url) as client:
            for camera in cameras:
                assert camera.failure is None
                assert camera.refills == 0
                check(camera, client)
    assert status[0].failures == 0
    # Each of its cameras had one request out at most, and health may have seen it first.
    assert status[1].failures <= CAMERAS // 2


@contextlib.contextmanager
def silent_server() -> Iterator[str]:
    """Accept TCP connections and never answer."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def test_a_server_that_never_answers_is_not_used(
    server: EmbeddedServer, videos: list[NDArray[np.uint8]]
) -> None:
    with silent_server() as silent:
        urls = (server.url, silent)
        timeouts = Timeouts(connect_seconds=1)
        with EndpointPool(urls, timeouts, decision_seconds=DECISION_SECONDS) as pool:
            cameras = cameras_on(pool, urls, videos)
            with running(cameras) as until:
                until(more_decisions(cameras, 20), "decisions")
            status = pool.status()
        with ActionClient(server.url) as client:
            for camera in cameras:
                check(camera, client)
    assert (status[0].healthy, status[1].healthy) == (True, False)
    assert status[1].requests == 0


def test_a_server_that_falls_silent_costs_one_request_of_each_camera(
    tritonserver: None,
    server: EmbeddedServer,
    repository: Path,
    videos: list[NDArray[np.uint8]],
) -> None:
    with EmbeddedServer(repository) as stalls:
        urls = (server.url, stalls.url)
        process = process_of(stalls)
        timeouts = Timeouts(connect_seconds=1, request_seconds=5)
        with EndpointPool(urls, timeouts, decision_seconds=DECISION_SECONDS) as pool:
            cameras = [
                Camera(
                    name,
                    ActionClient(urls[0], timeouts=timeouts, transport=pool.transport(name)),
                    video,
                )
                for name, video in zip(spread_names(urls), videos, strict=True)
            ]
            with running(cameras) as until:
                until(more_decisions(cameras, 10), "decisions before")
                process.suspend()
                try:
                    until(lambda: not pool.status()[1].healthy, "the silent server out of use")
                    until(more_decisions(cameras, 20), "decisions without it")
                    failures = pool.status()[1].failures
                finally:
                    process.resume()
                until(lambda: pool.status()[1].healthy, "the server in use again")
                until(asked_again(pool, 1), "its cameras at home")
        with ActionClient(server.url) as client:
            for camera in cameras:
                assert camera.failure is None
                check(camera, client)
    assert failures <= CAMERAS // 2


def small() -> ModelSpec:
    """A spec that exports in seconds."""
    return preset("demo").replace(name="small", clip={"frames": 2, "window_seconds": 0.25})


def test_streams_go_over_to_a_server_of_another_release_and_back(
    tritonserver: None, videos: list[NDArray[np.uint8]], tmp_path: Path
) -> None:
    for seed in (1, 2):
        export_release(build_model(small(), seed=seed), tmp_path / f"release{seed}")
    with EmbeddedServer(tmp_path / "release1") as old, contextlib.ExitStack() as stack:
        new = stack.enter_context(EmbeddedServer(tmp_path / "release2"))
        port = int(new.url.rpartition(":")[2])
        urls = (old.url, new.url)
        with EndpointPool(urls, decision_seconds=DECISION_SECONDS) as pool:
            cameras = cameras_on(pool, urls, videos)
            movers = cameras[CAMERAS // 2 :]
            with running(cameras) as until:
                until(more_decisions(cameras, 20), "decisions before")
                # Two releases beside each other, and nobody goes to and fro.
                assert [camera.refills for camera in cameras] == [0] * CAMERAS
                process_of(new).kill()
                until(more_decisions(cameras, 20), "decisions of the old release")
                assert all(camera.refills >= 1 for camera in movers)
                over = [len(camera.decisions) for camera in movers]
                with EmbeddedServer(tmp_path / "release2", grpc_port=port):
                    until(lambda: pool.status()[1].healthy, "the server in use again")
                    until(
                        lambda: all(camera.refills >= 2 for camera in movers),
                        "its cameras at home",
                    )
                    until(more_decisions(cameras, 20), "decisions of both releases")
                    back = [len(camera.decisions) for camera in movers]
                    by_release = {url: answers_by_place(url, cameras) for url in (old.url, new.url)}
        assert not any(camera.failure for camera in cameras)
        for camera in cameras:
            ends = [end for end, _ in camera.decisions]
            assert ends == list(range(2, 2 + len(ends)))
            if camera not in movers:
                assert camera.refills == 0
                assert releases_of(camera, by_release) == [old.url] * len(ends)
        for camera, then, at_last in zip(movers, over, back, strict=True):
            came_from = releases_of(camera, by_release)[:at_last]
            assert came_from[0] == came_from[-1] == new.url
            assert came_from[then - 1] == old.url
            changes = sum(a != b for a, b in itertools.pairwise(came_from))
            assert changes == 2


def answers_by_place(url: str, cameras: list[Camera]) -> dict[tuple[str, int], NDArray[Any]]:
    """Return the release's own logits of every window that the cameras can have."""
    with ActionClient(url) as client:
        frames = client.manifest.spec.clip.frames
        return {
            (camera.name, place): client.classify_window(
                camera.window(place + len(camera.video), frames)
            ).logits
            for camera in cameras
            for place in range(len(camera.video))
        }


def releases_of(
    camera: Camera, by_release: dict[str, dict[tuple[str, int], NDArray[Any]]]
) -> list[str]:
    """Return which server's release each decision is of; one of neither is a mixture."""
    came_from = []
    for end, decision in camera.decisions:
        place = (camera.name, end % len(camera.video))
        near = [
            url
            for url, answers in by_release.items()
            if np.abs(answers[place] - decision.logits).max() < TOLERANCE
        ]
        assert len(near) == 1, f"{camera.name}, {end}: of {len(near)} releases"
        came_from.extend(near)
    return came_from


def test_all_servers_gone_is_an_error_and_the_stream_goes_on_later(
    tritonserver: None, repository: Path, videos: list[NDArray[np.uint8]]
) -> None:
    with contextlib.ExitStack() as stack:
        only = stack.enter_context(EmbeddedServer(repository))
        port = int(only.url.rpartition(":")[2])
        with EndpointPool([only.url], decision_seconds=0.5) as pool:
            client = ActionClient(only.url, transport=pool.transport("x"))
            session = StreamSession(client, edge=True)
            session.push(videos[0][:9])
            process_of(only).kill()
            with pytest.raises(ClientError):
                session.push(videos[0][8:10])
            with EmbeddedServer(repository, grpc_port=port) as again:
                deadline = time.monotonic() + PATIENCE_SECONDS
                while not pool.status()[0].healthy:
                    assert time.monotonic() < deadline
                    time.sleep(0.02)
                decision = session.push(videos[0][8:10])
                with ActionClient(again.url) as plain:
                    whole = plain.classify_window(videos[0][1:10])
            np.testing.assert_allclose(decision.logits, whole.logits, atol=TOLERANCE)
