"""A camera's process: what it says, and whatever happens to it."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import cast

import numpy as np
import psutil
import pytest
from pydantic import SecretStr

from fgmclip.client.gateway import pipeline as pipeline_module
from fgmclip.client.gateway import worker as worker_module
from fgmclip.client.gateway import worker_main
from fgmclip.client.gateway.messages import Ended, Lost, Message, Opened, Samples, Waiting
from fgmclip.client.gateway.pipeline import CameraPipeline, Resume, WorkerTask
from fgmclip.client.gateway.settings import CameraSettings
from fgmclip.client.gateway.sources import parse_source
from fgmclip.client.gateway.worker import CameraWorker
from fgmclip.client.gateway.worker_main import EXIT_HUNG, EXIT_MEMORY
from fgmclip.client.streams.samples import SamplePreparer, StreamSample
from fgmclip.spec import ModelSpec, preset
from fgmclip.video.decode import decode
from fgmclip.video.grid import Sample, sample_grid

WriteRecording = Callable[..., Path]
StartWorker = Callable[..., CameraWorker]

PATIENCE_SECONDS = 60.0
"""For a busy machine; nothing here takes so long."""


@pytest.fixture(scope="module")
def spec() -> ModelSpec:
    return preset("demo")


@pytest.fixture
def start_worker(spec: ModelSpec) -> Iterator[StartWorker]:
    """Return a function that starts a camera's worker, ended with the test."""
    workers: list[CameraWorker] = []

    def start(source: object, **fields: object) -> CameraWorker:
        settings = CameraSettings.of(name="door", source=SecretStr(str(source)), **fields)
        worker = CameraWorker(settings, spec)
        workers.append(worker)
        worker.start()
        return worker

    yield start
    for worker in workers:
        worker.kill()


@pytest.fixture
def silent_address() -> Iterator[str]:
    """An address that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def messages(worker: CameraWorker, wait_seconds: float = 1.0) -> Iterator[Message]:
    """Yield what a worker says up to its end."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        message = worker.next(wait_seconds)
        yield message
        if isinstance(message, Ended):
            return
    raise AssertionError(f"no end in {PATIENCE_SECONDS} s")


def until(worker: CameraWorker, kind: type[Message]) -> Message:
    return next(message for message in messages(worker, 0.2) if isinstance(message, kind))


def watch(worker: CameraWorker) -> tuple[list[Opened], list[StreamSample], Ended]:
    """Return all that a worker says."""
    opened: list[Opened] = []
    samples: list[StreamSample] = []
    end: Ended | None = None
    for message in messages(worker):
        if isinstance(message, Opened):
            opened.append(message)
        elif isinstance(message, Samples):
            samples += message.samples
        elif isinstance(message, Ended):
            end = message
    assert end is not None
    return opened, samples, end


def pid_of(worker: CameraWorker) -> int:
    assert worker.pid is not None
    return worker.pid


# Recordings


def test_a_file_gives_the_samples_of_its_grid(
    start_worker: StartWorker, write_recording: WriteRecording, spec: ModelSpec
) -> None:
    path = write_recording("a.mp4", 2.0)
    worker = start_worker(path)
    opened, samples, end = watch(worker)
    assert opened == [Opened(str(path), 64, 48, "media")]
    preparer = SamplePreparer(spec)
    expected = [
        preparer.prepare(item)
        for item in sample_grid(decode(path), spec.clip.dt)
        if isinstance(item, Sample)
    ]
    assert [(item.index, item.time) for item in samples] == [
        (item.index, item.time) for item in expected
    ]
    for came, wanted in zip(samples, expected, strict=True):
        assert came.tensors.keys() == wanted.tensors.keys()
        for name, tensor in came.tensors.items():
            np.testing.assert_array_equal(tensor, wanted.tensors[name])
    assert end.cause is None
    assert (end.counts.frames, end.counts.samples, end.counts.dropped) == (50, len(samples), 0)
    assert worker.next(0) == end
    assert worker.pid is None


def test_times_start_when_the_settings_say(
    start_worker: StartWorker, write_recording: WriteRecording
) -> None:
    start = datetime(2026, 11, 24, 10, tzinfo=timezone.utc)
    opened, samples, _ = watch(start_worker(write_recording("a.mp4", 1.0), start=start))
    assert opened[0].clock == "wall"
    assert [sample.time - start.timestamp() for sample in samples] == pytest.approx(
        [i / 8 for i in range(len(samples))]
    )


def test_a_folder_is_watched_in_order_and_no_two_moments_share_a_time(
    start_worker: StartWorker, write_recording: WriteRecording, tmp_path: Path
) -> None:
    for name in ("b.mp4", "a.mp4", "c.mp4"):
        write_recording(f"day/{name}", 1.0)
    (tmp_path / "day" / "b2.mp4").write_bytes(b"not a video")
    opened, samples, end = watch(start_worker(tmp_path / "day"))
    assert [Path(item.what).name for item in opened] == ["a.mp4", "b.mp4", "c.mp4"]
    times = [sample.time for sample in samples]
    assert times == sorted(set(times))
    indices = [sample.index for sample in samples]
    steps = np.diff(indices)
    assert sorted(steps[steps != 1]) == [2, 2]
    assert end.cause is not None
    assert end.cause.startswith("1 of 4 recordings failed: b2.mp4: cannot be read as a video")


def test_recordings_leave_no_memory_behind(
    start_worker: StartWorker, write_recording: WriteRecording, tmp_path: Path
) -> None:
    recording = write_recording("a.mp4", 0.2, size=(480, 640))
    (tmp_path / "day").mkdir()
    for number in range(30):
        (tmp_path / "day" / f"{number:02}.mp4").symlink_to(recording)
    worker = start_worker(tmp_path / "day")
    held = [
        psutil.Process(pid_of(worker)).memory_full_info().uss
        for message in messages(worker)
        if isinstance(message, Opened)
    ]
    assert len(held) == 30
    # One frame that stays for each recording would be 9 MB.
    assert max(held[-5:]) - max(held[5:10]) < 4e6


def test_a_policy_drops_and_counts(
    start_worker: StartWorker, write_recording: WriteRecording, spec: ModelSpec
) -> None:
    worker = start_worker(write_recording("a.mp4", 4.0), policy="latest")
    assert isinstance(worker.next(30.0), Opened)
    # The decoder does not wait: by now all but a window and one sample are gone.
    deadline = time.monotonic() + PATIENCE_SECONDS
    psutil_worker = psutil.Process(pid_of(worker))
    while psutil_worker.num_threads() > 1 and time.monotonic() < deadline:
        time.sleep(0.05)
    _, samples, end = watch(worker)
    assert end.counts.dropped > 0
    assert len(samples) + end.counts.dropped == end.counts.samples
    assert [sample.index for sample in samples[-spec.clip.frames :]] == list(
        range(end.counts.samples - spec.clip.frames, end.counts.samples)
    )


def test_pace_live_plays_in_real_time(
    start_worker: StartWorker, write_recording: WriteRecording
) -> None:
    began = time.monotonic()
    worker = start_worker(write_recording("a.mp4", 1.0), pace="live")
    _, samples, end = watch(worker)
    assert end.cause is None
    assert time.monotonic() - began >= 0.96
    assert len(samples) == 9


def test_boxes_become_tracks(
    start_worker: StartWorker, write_recording: WriteRecording, tmp_path: Path
) -> None:
    boxes = tmp_path / "boxes.jsonl"
    with boxes.open("w", encoding="utf-8") as file:
        for i in range(5):
            entry = {"time": 0.5 + i / 10, "boxes": {"p1": [0, 0, 20, 20], "p2": [9, 9, 40, 40]}}
            file.write(json.dumps(entry) + "\n")
    _, samples, end = watch(start_worker(write_recording("a.mp4", 1.5), boxes=boxes))
    assert end.cause is None
    tracks = {sample.time: sample.tracks for sample in samples}
    assert tracks[0.0] == ()
    assert tracks[0.5] == ("p1", "p2")
    assert tracks[1.25] == ()
    assert all(sample.rows == 2 for sample in samples if sample.tracks)

    boxes.write_text("nonsense\n", encoding="utf-8")
    _, _, end = watch(start_worker(write_recording("a.mp4", 0.5), boxes=boxes))
    assert end.cause is not None
    assert "line 1" in end.cause


def test_an_annotated_file_holds_every_frame(
    start_worker: StartWorker, write_recording: WriteRecording, tmp_path: Path
) -> None:
    out = tmp_path / "out.mp4"
    worker = start_worker(write_recording("a.mp4", 2.0), annotate=out)
    for message in messages(worker):
        if isinstance(message, Samples):
            worker.show(message.samples[-1].time, {None: ("wave", 0.5)})
    assert len(list(decode(out))) == 50


def test_stopping_finishes_the_annotated_file(
    start_worker: StartWorker, write_recording: WriteRecording, tmp_path: Path
) -> None:
    out = tmp_path / "out.mp4"
    worker = start_worker(write_recording("a.mp4", 20.0), annotate=out, pace="live")
    until(worker, Samples)
    until(worker, Samples)
    worker.stop()
    assert worker.pid is None
    assert isinstance(worker.next(0), Ended)
    assert 3 <= len(list(decode(out))) < 400


def test_a_recording_that_cannot_be_written_is_said_once_and_stops_nothing(
    start_worker: StartWorker,
    write_recording: WriteRecording,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    worker = start_worker(write_recording("a.mp4", 20.0), annotate=tmp_path / "no" / "out.mp4")
    _, samples, end = watch(worker)
    assert end.cause is None
    assert len(samples) == 161
    assert [record.message for record in caplog.records] == [
        f"{tmp_path}/no/out.mp4: recording stopped: No such file or directory"
    ]


# Crashes


def test_a_crash_over_a_file_ends_it_with_the_cause(
    start_worker: StartWorker, write_recording: WriteRecording
) -> None:
    worker = start_worker(write_recording("a.mp4", 20.0), pace="live")
    until(worker, Samples)
    os.kill(pid_of(worker), signal.SIGSEGV)
    _, _, end = watch(worker)
    assert end.cause is not None
    assert "signal 11" in end.cause
    assert end.counts.frames > 0


def test_a_crash_in_a_folder_costs_one_recording(
    start_worker: StartWorker, write_recording: WriteRecording, tmp_path: Path
) -> None:
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        write_recording(f"day/{name}", 1.0)
    worker = start_worker(tmp_path / "day", pace="live")
    seen: list[str] = []
    samples: list[StreamSample] = []
    for message in messages(worker, 0.2):
        if isinstance(message, Opened):
            seen.append(Path(message.what).name)
            if seen[-1] == "b.mp4":
                os.kill(pid_of(worker), signal.SIGKILL)
        elif isinstance(message, Samples):
            samples += message.samples
        elif isinstance(message, Ended):
            assert message.cause is not None
            assert message.cause.startswith("b.mp4: the worker was ended by signal 9")
    assert seen == ["a.mp4", "b.mp4", "c.mp4"]
    times = [sample.time for sample in samples]
    assert times == sorted(set(times))
    indices = [sample.index for sample in samples]
    assert indices == sorted(set(indices))


def test_a_crash_over_a_live_source_is_a_loss_and_it_is_opened_again(
    start_worker: StartWorker, silent_address: str
) -> None:
    worker = start_worker(f"rtsp://{silent_address}/a")
    assert isinstance(worker.next(0.1), Waiting)
    first = pid_of(worker)
    os.kill(first, signal.SIGKILL)
    lost = worker.next(0.1)
    assert isinstance(lost, Lost)
    assert "signal 9" in lost.cause
    assert worker.pid is None
    message = until(worker, Waiting)
    while worker.pid is None:
        message = until(worker, Waiting)
    assert worker.pid != first
    assert isinstance(message, Waiting)
    assert message.counts.reconnects == 1


def test_a_worker_that_does_not_answer_is_killed(
    start_worker: StartWorker, write_recording: WriteRecording, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = start_worker(write_recording("a.mp4", 20.0), pace="live")
    until(worker, Samples)
    process = psutil.Process(pid_of(worker))
    process.suspend()
    monkeypatch.setattr(worker_module, "ANSWER_SECONDS", 0.3)
    end = until(worker, Ended)
    assert isinstance(end, Ended)
    assert "no answer" in (end.cause or "")
    with contextlib.suppress(psutil.NoSuchProcess):
        assert process.status() == psutil.STATUS_ZOMBIE


def test_a_picture_that_needs_too_much_memory_is_not_decoded(
    start_worker: StartWorker, write_recording: WriteRecording, tmp_path: Path
) -> None:
    write_recording("day/a.mp4", 1.0)
    write_recording("day/b.mp4", 0.08, size=(4320, 7680))
    worker = start_worker(tmp_path / "day", pace="live")
    until(worker, Samples)
    process = psutil.Process(pid_of(worker))
    soft, hard = process.rlimit(psutil.RLIMIT_AS)
    assert soft < 8 * 2**30
    # As if it had grown up to its limit.
    resource.prlimit(process.pid, resource.RLIMIT_AS, (process.memory_info().vms // 2, hard))
    _, _, end = watch(worker)
    # FFmpeg names it differently in each decoder.
    assert end.cause is not None
    assert "b.mp4: " in end.cause


class SickPipeline:
    def __init__(self, hangs: bool) -> None:
        self.hangs = hangs


@pytest.mark.parametrize(
    ("hangs", "resident", "code"),
    [(True, 2**30, EXIT_HUNG), (False, 2**20, EXIT_MEMORY), (False, 2**40, None)],
)
def test_a_sick_worker_ends_itself(
    monkeypatch: pytest.MonkeyPatch, hangs: bool, resident: int, code: int | None
) -> None:
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    monkeypatch.setattr(worker_main, "RESIDENT_BYTES", resident)
    worker_main.end_if_sick(cast("CameraPipeline", SickPipeline(hangs)))
    assert ended[:1] == ([] if code is None else [code])


def test_a_decoder_that_gives_nothing_hangs(
    spec: ModelSpec, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    decoding = threading.Event()
    release = threading.Event()

    def hang(path: Path, **options: object) -> Iterator[object]:
        decoding.set()
        release.wait(PATIENCE_SECONDS)
        return iter(())

    monkeypatch.setattr(pipeline_module, "read_pictures", hang)
    settings = CameraSettings.of(name="a", source=SecretStr("a.mp4"))
    source = parse_source(settings)
    pipeline = CameraPipeline(WorkerTask(settings, source, spec, Resume()))
    thread = threading.Thread(target=pipeline.run)
    thread.start()
    assert decoding.wait(PATIENCE_SECONDS)
    assert not pipeline.hangs
    monkeypatch.setattr(pipeline_module, "HANG_SECONDS", 0.0)
    assert pipeline.hangs
    release.set()
    thread.join(PATIENCE_SECONDS)
    assert not pipeline.hangs
    assert pipeline.queue.take(0) == Ended(None, pipeline.counts)


def test_a_process_that_cannot_be_started_is_tried_again(
    start_worker: StartWorker, silent_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    with monkeypatch.context() as patch:
        patch.setattr(worker_module, "_forkserver", refuse)
        patch.setattr(refuse, "Pipe", refuse, raising=False)
        worker = start_worker(f"rtsp://{silent_address}/a")
        lost = worker.next(0.1)
        assert isinstance(lost, Lost)
        assert "no process can be started" in lost.cause
    message = until(worker, Waiting)
    while worker.pid is None:
        message = until(worker, Waiting)
    assert isinstance(message, Waiting)


def test_an_address_that_never_answers_holds_nothing_up(
    start_worker: StartWorker, silent_address: str, write_recording: WriteRecording
) -> None:
    silent = start_worker(f"http://{silent_address}/a")
    assert isinstance(silent.next(0.0), Waiting)
    _, samples, _ = watch(start_worker(write_recording("a.mp4", 1.0)))
    assert samples
    silent.stop(0.5)
    assert silent.pid is None


def test_stopping_lets_another_thread_that_waits_go(
    start_worker: StartWorker, silent_address: str
) -> None:
    worker = start_worker(f"http://{silent_address}/a")
    said: list[Message] = []
    waiting = threading.Thread(target=lambda: said.append(worker.next(5.0)))
    waiting.start()
    time.sleep(0.1)
    worker.stop(0.5)
    waiting.join(PATIENCE_SECONDS)
    assert isinstance(said[0], (Ended, Waiting))


# Secrets and signals


def test_secrets_reach_a_worker_through_its_pipe_alone(
    start_worker: StartWorker, silent_address: str
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    source = f"rtsp://admin:hunter2hunter2@127.0.0.1:{port}/a?token=qwertz123"
    worker = start_worker(source)
    process = psutil.Process(pid_of(worker))
    for relative in (process, process.parent()):
        assert relative is not None
        told = " ".join([*relative.cmdline(), *relative.environ().values()])
        assert "hunter2" not in told
        assert "qwertz" not in told
    lost = until(worker, Lost)
    assert isinstance(lost, Lost)
    assert lost.cause == "cannot be opened: Connection refused"
    assert "hunter2" not in repr(worker.source)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_the_whole_group_is_the_gateways_business(
    start_worker: StartWorker, write_recording: WriteRecording, number: signal.Signals
) -> None:
    worker = start_worker(write_recording("a.mp4", 1.0), pace="live")
    until(worker, Samples)
    forkserver = psutil.Process(pid_of(worker)).parent()
    assert forkserver is not None
    for pid in (forkserver.pid, pid_of(worker)):
        os.kill(pid, number)
    assert watch(worker)[2].cause is None
    assert forkserver.status() != psutil.STATUS_ZOMBIE


def test_no_worker_outlives_its_gateway(write_recording: WriteRecording, tmp_path: Path) -> None:
    script = tmp_path / "gateway.py"
    script.write_text(
        "import sys, time\n"
        "from fgmclip.client.gateway.settings import CameraSettings\n"
        "from fgmclip.client.gateway.worker import CameraWorker\n"
        "from fgmclip.spec import preset\n"
        "if __name__ == '__main__':\n"
        "    settings = CameraSettings(name='a', source=sys.argv[1], pace='live')\n"
        "    worker = CameraWorker(settings, preset('demo'))\n"
        "    worker.start()\n"
        "    worker.next(30.0)\n"
        "    print(worker.pid, flush=True)\n"
        "    time.sleep(600)\n",
        encoding="utf-8",
    )
    path = write_recording("a.mp4", 30.0)
    gateway = subprocess.Popen(
        [sys.executable, str(script), str(path)],
        stdout=subprocess.PIPE,
        encoding="utf-8",
    )
    assert gateway.stdout is not None
    worker = psutil.Process(int(gateway.stdout.readline()))
    forkserver = worker.parent()
    assert forkserver is not None
    gateway.kill()
    gateway.wait()
    gateway.stdout.close()
    _, alive = psutil.wait_procs([worker, forkserver], timeout=PATIENCE_SECONDS)
    assert alive == []


@pytest.mark.data
def test_hostile_files_end_with_a_cause_or_their_samples(
    start_worker: StartWorker, test_data: Path
) -> None:
    opened, samples, end = watch(start_worker(test_data / "hostile"))
    assert len(opened) >= 10
    assert len(samples) == end.counts.samples > 300
    assert end.cause is not None
    assert "empty_0_bytes.webm: is empty" in end.cause
    # Of corrupted.mp4, two of fifty.
    assert end.counts.lost == 2
    for name in ("audio_only.mp3", "bad_huffman.jpg", "empty_0_bytes.webm"):
        _, none, end = watch(start_worker(test_data / "hostile" / name))
        assert none == []
        assert end.cause
        assert "\n" not in end.cause
