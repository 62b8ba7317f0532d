"""A real RTSP camera, read by a worker; the camera's power is cut and comes back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil
import pytest
from pydantic import SecretStr

from fgmclip.bench.rtsp_camera import RtspCamera, find_gstreamer
from fgmclip.client.gateway.messages import Lost, Message, Opened, Samples
from fgmclip.client.gateway.settings import CameraSettings
from fgmclip.client.gateway.worker import CameraWorker
from fgmclip.spec import preset

pytestmark = pytest.mark.e2e

PATIENCE_SECONDS = 60.0
RATE = 25


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty seconds of a bright bar that moves."""
    missing = find_gstreamer()
    if missing:
        pytest.skip(f"no RTSP camera: {missing}")
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    with av.open(str(path), "w") as container:
        options = {"preset": "ultrafast", "g": str(RATE), "bf": "0"}
        stream = container.add_stream("libx264", rate=RATE, options=options)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for number in range(40 * RATE):
            picture = np.full((240, 320, 3), 60, np.uint8)
            left = 40 + (4 * number) % 220
            picture[:, left : left + 20] = 220
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.fixture
def camera(film: Path) -> Iterator[RtspCamera]:
    """That film as a camera which asks for a password."""
    with RtspCamera(film, login=("viewer", "correct-horse")) as running:
        yield running


def watch(worker: CameraWorker, kind: type[Message], count: int = 1) -> list[Any]:
    """Return what a worker says until `count` messages of a kind have come."""
    said: list[Message] = []
    deadline = time.monotonic() + PATIENCE_SECONDS
    while sum(isinstance(message, kind) for message in said) < count:
        assert time.monotonic() < deadline, f"no {kind.__name__}: {said[-3:]}"
        said.append(worker.next(0.5))
    return said


@pytest.fixture
def worker(camera: RtspCamera) -> Iterator[CameraWorker]:
    source = camera.address
    settings = CameraSettings.of(name="yard", source=SecretStr(source), stall_seconds=3)
    running = CameraWorker(settings, preset("demo"))
    running.start()
    yield running
    running.stop()


def samples_of(said: list[Any]) -> list[Any]:
    return [each for message in said if isinstance(message, Samples) for each in message.samples]


def test_a_camera_is_read_in_real_time(worker: CameraWorker, camera: RtspCamera) -> None:
    said = watch(worker, Opened)
    opened = said[-1]
    assert opened == Opened(f"rtsp://***@127.0.0.1:{camera.port}/camera", 320, 240, "wall")
    samples = samples_of(watch(worker, Samples, 40))
    indices = [sample.index for sample in samples]
    assert indices == list(range(indices[0], indices[0] + len(indices)))
    late = samples[len(samples) // 2 :]
    steps = np.diff([sample.time for sample in late])
    assert steps == pytest.approx(np.full(len(steps), 0.125), abs=0.02)
    assert abs(samples[-1].time - time.time()) < 2.0
    # The bar moves: one sample is not the one before.
    pixels = [sample.tensors["PIXELS_U8"] for sample in late]
    assert all((a != b).any() for a, b in pairwise(pixels))


def test_a_camera_whose_power_is_cut_is_lost_and_comes_back(
    worker: CameraWorker, camera: RtspCamera
) -> None:
    before = samples_of(watch(worker, Samples, 10))
    process = psutil.Process(worker.pid)
    camera.kill()
    lost = watch(worker, Lost)[-1]
    assert lost.cause
    assert "correct-horse" not in lost.cause
    assert 0 < lost.retry_seconds <= 30
    camera.start()
    said = watch(worker, Samples, 10)
    after = samples_of(said)
    assert after[0].index > before[-1].index + 1
    assert after[0].time > before[-1].time
    last = [message for message in said if isinstance(message, Samples)][-1]
    assert last.counts.reconnects == 1
    assert process.is_running()
    assert worker.pid == process.pid


def test_a_camera_that_freezes_is_lost(worker: CameraWorker, camera: RtspCamera) -> None:
    watch(worker, Samples, 5)
    psutil.Process(camera.pid).suspend()
    lost = watch(worker, Lost)[-1]
    assert lost.cause == "nothing came for 3 s"


def test_a_wrong_password_is_said_without_it(camera: RtspCamera) -> None:
    address = camera.address.replace("correct-horse", "wrong-battery")
    settings = CameraSettings.of(name="yard", source=SecretStr(address))
    worker = CameraWorker(settings, preset("demo"))
    worker.start()
    try:
        lost = watch(worker, Lost)[-1]
        assert "401" in lost.cause
        assert "wrong-battery" not in lost.cause
    finally:
        worker.stop()


def test_udp_works_as_well(camera: RtspCamera) -> None:
    settings = CameraSettings.of(
        name="yard", source=SecretStr(camera.address), rtsp_transport="udp"
    )
    worker = CameraWorker(settings, preset("demo"))
    worker.start()
    try:
        assert samples_of(watch(worker, Samples, 10))
    finally:
        worker.stop()
