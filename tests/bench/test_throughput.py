"""`bench/throughput.py`: loops without coordinated omission, counters, searches, reports."""

from __future__ import annotations

import asyncio
import io
import json
import math
import threading
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import numpy as np
import pytest
from rich.console import Console
from tritonclient.grpc import service_pb2, service_pb2_grpc

from fgmclip.bench.load.counters import StepLoad, counts_of, steps_between
from fgmclip.bench.load.curves import draw_throughput
from fgmclip.bench.load.generator import answer, read_traffic, write_traffic
from fgmclip.bench.load.loops import Record, closed_loop, open_loop
from fgmclip.bench.load.plan import LoadPlan, LoadResult, Traffic
from fgmclip.bench.load.point import Point, Rig
from fgmclip.bench.load.process import LoadProcess, LoadProcessError
from fgmclip.bench.load.search import Carried, carried, crossing, search
from fgmclip.bench.load.throughput_report import (
    KindReport,
    disturbed,
    points_table,
    steps_table,
    summary_table,
)
from fgmclip.bench.load.traffic import KINDS, make_traffic
from fgmclip.bench.load.usage import CoreMeter, Cores
from fgmclip.bench.throughput import Curve, Effort, every, numbers_of_cameras
from fgmclip.spec import Limits, PublicManifest, preset

DEMO = preset("demo")
MANIFEST = PublicManifest(
    release=7,
    model_tag="m" * 16,
    embedding_tag="e" * 16,
    precision="fp32",
    dt=DEMO.clip.dt,
    spec=DEMO,
    limits=Limits(),
)
TRAFFIC = Traffic(
    "probe", "echo", {"X": np.ones((1, 3), np.float32)}, {"HISTORY_TAG": "tag"}, ("Y",)
)


class SerialServer:
    """Answers one request at a time; the first takes long."""

    def __init__(self, first: float) -> None:
        self.first = first
        self.asked = self.most = self.in_flight = 0
        self._lock = asyncio.Lock()

    async def ask(self) -> bool:
        self.asked += 1
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        async with self._lock:
            await asyncio.sleep(self.first)
            self.first = 0.001
        self.in_flight -= 1
        return True


def test_a_stall_is_charged_with_every_request_that_it_keeps_waiting() -> None:
    async def run() -> tuple[Record, SerialServer]:
        server = SerialServer(first=0.2)
        arrivals = [0.0, 0.05, 0.1, 0.15]
        return await open_loop(server.ask, arrivals, warm_up=0.0, seconds=1.0), server

    record, server = asyncio.run(run())
    # Each was sent during the stall; one at a time, as a closed loop does, would have shown one.
    assert server.most == 4
    waits = [one for one in record.latencies if one is not None]
    assert len(waits) == 4
    for wait, offset in zip(waits, (0.0, 0.05, 0.1, 0.15), strict=True):
        assert wait >= 0.2 - offset - 1e-3
    assert len(record.lags) == 4


def test_an_open_loop_counts_what_is_due_between_warm_up_and_end() -> None:
    async def run() -> tuple[Record, SerialServer]:
        server = SerialServer(first=0.001)
        arrivals = np.arange(0.005, 5.0, 0.01).tolist()
        return await open_loop(server.ask, arrivals, warm_up=0.1, seconds=0.2), server

    record, server = asyncio.run(run())
    assert len(record.latencies) == 20
    # The load behind the last counted request ends with its answer, not with the list.
    assert 30 <= server.asked < 400


def test_a_closed_loop_keeps_its_number_in_flight() -> None:
    async def run() -> tuple[Record, SerialServer]:
        server = SerialServer(first=0.001)
        return await closed_loop(server.ask, concurrency=3, warm_up=0.05, seconds=0.1), server

    record, server = asyncio.run(run())
    assert server.most == 3
    assert 0 < len(record.latencies) < server.asked
    assert None not in record.latencies


def test_a_refusal_is_counted_and_is_no_spin() -> None:
    asked = 0

    async def refuse() -> bool:
        nonlocal asked
        asked += 1
        return False

    record = asyncio.run(closed_loop(refuse, concurrency=2, warm_up=0.0, seconds=0.1))
    assert record.latencies
    assert set(record.latencies) == {None}
    assert asked <= 24


def test_what_was_refused_never_comes() -> None:
    result = LoadResult((0.1,) * 90 + (None,) * 10, late=0.0, cores=0.1, failure="full")
    assert result.percentile(50) == 0.1
    assert result.percentile(95) == math.inf
    assert result.refused == 10
    assert result.mean == pytest.approx(0.1)
    assert LoadResult((), 0.0, 0.0).percentile(95) == math.inf


def test_plans_and_results_survive_the_pipe() -> None:
    plans = (
        LoadPlan("probe", ("a:1", "b:2"), 0.5, 2.0, concurrency=4),
        LoadPlan("probe", ("a:1",), 0.5, 2.0, arrivals=(0.0, 0.25)),
    )
    for plan in plans:
        assert LoadPlan.from_json(plan.to_json()) == plan
    result = LoadResult((0.1, None), 0.001, 0.2, "full")
    assert LoadResult.from_json(result.to_json()) == result


@pytest.mark.parametrize("kind", KINDS)
def test_requests_are_those_of_the_protocol(kind: Any, tmp_path: Path) -> None:
    traffic = make_traffic(kind, MANIFEST, "240p")
    window, width = DEMO.clip.frames, DEMO.visual.width
    shapes = {name: array.shape for name, array in traffic.arrays.items()}
    if kind == "clip":
        assert shapes == {"FRAMES": (window + 1, 240, 426, 3)}
        assert traffic.strings == {}
    else:
        assert shapes["VISUAL_HISTORY"] == (1, window - 1, width)
        assert traffic.strings == {"HISTORY_TAG": MANIFEST.embedding_tag}
        assert {"VISUAL_NEW", "MOTION_NEW", "TAG"} < set(traffic.outputs)
    if kind == "stream":
        assert shapes["FRAMES"] == (2, 240, 426, 3)
    if kind == "edge":
        assert shapes["PIXELS_U8"] == (1, 64, 64, 3)
        assert shapes["LUMA_U8"] == (1, 2, 64, 64)
    write_traffic(traffic, tmp_path)
    read = read_traffic(traffic.name, tmp_path)
    assert (read.model, read.strings, read.outputs) == (
        traffic.model,
        traffic.strings,
        traffic.outputs,
    )
    assert all(np.array_equal(read.arrays[name], traffic.arrays[name]) for name in shapes)


class Echo(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """Answers Y for X.

    Attributes:
        requests: How many came.
        full: Whether each third is refused as a full queue does; the first is.
    """

    def __init__(self) -> None:
        self.requests = 0
        self.full = False
        self._lock = threading.Lock()

    def ServerMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        return service_pb2.ServerMetadataResponse(name="triton", version="2.51.0")

    def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
        assert {item.name for item in request.inputs} == {"X", "HISTORY_TAG"}
        with self._lock:
            self.requests += 1
            full = self.full and self.requests % 3 == 1
        if full:
            context.abort(grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size")
        response = service_pb2.ModelInferResponse(model_name="echo")
        response.outputs.add(name="Y", datatype="FP32", shape=[1])
        response.raw_output_contents.append(np.ones(1, np.float32).tobytes())
        return response


@pytest.fixture
def echo() -> Iterator[tuple[str, Echo]]:
    """A gRPC server of the protocol, and its address."""
    server = grpc.server(futures.ThreadPoolExecutor(4))
    servicer = Echo()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}", servicer
    server.stop(None).wait()


def test_the_generator_answers_a_line_with_a_line(echo: tuple[str, Echo], tmp_path: Path) -> None:
    url, servicer = echo
    servicer.full = True
    write_traffic(TRAFFIC, tmp_path)
    arrivals = tuple(np.arange(0.0, 1.0, 0.01).tolist())
    plans = (
        LoadPlan("probe", (url,), 0.05, 0.2, concurrency=2),
        LoadPlan("probe", (url, url), 0.05, 0.2, arrivals=arrivals),
    )
    told = io.StringIO()
    answer(tmp_path, io.StringIO("".join(f"{plan.to_json()}\n" for plan in plans)), told)
    closed, opened = map(LoadResult.from_json, told.getvalue().splitlines())
    assert servicer.requests > len(closed.latencies) > 2
    assert len(opened.latencies) == 20
    assert 0 < opened.refused < 20
    assert "Exceeds maximum queue size" in opened.failure
    assert opened.cores > 0


def test_the_generator_is_a_process_that_says_when_it_ends(echo: tuple[str, Echo]) -> None:
    with LoadProcess() as load:
        load.give(TRAFFIC)
        result = load.run(LoadPlan("probe", (echo[0],), 0.0, 0.05, concurrency=1))
        assert result.latencies
        cores = CoreMeter(load.pid).read()
        assert min(cores.served, cores.generated, cores.others) >= 0
        with pytest.raises(LoadProcessError, match="exit status 1"):
            load.run(LoadPlan("unknown", (echo[0],), 0.0, 0.05, concurrency=1))


def statistics(requests: int, executions: int, rows: int, milliseconds: int) -> list[Any]:
    spent = {
        name: SimpleNamespace(ns=milliseconds * 1_000_000 * part)
        for part, name in enumerate(
            ("queue", "compute_input", "compute_infer", "compute_output"), start=1
        )
    }
    counted = SimpleNamespace(success=SimpleNamespace(count=requests), **spent)
    step = SimpleNamespace(
        name="clip_image_encoder__r3",
        inference_stats=counted,
        execution_count=executions,
        inference_count=rows,
    )
    ensemble = SimpleNamespace(
        name="fgm_clip", inference_stats=counted, execution_count=1, inference_count=1
    )
    return [step, ensemble]


def test_time_by_step_is_that_of_the_requests_in_between() -> None:
    before, after = counts_of(statistics(10, 10, 10, 5)), counts_of(statistics(30, 15, 50, 25))
    (step,) = steps_between(before, after)
    assert step == StepLoad("clip_image_encoder", 20, 8.0, 1.0, 2.0, 3.0, 4.0)
    assert steps_between(after, after) == ()


def test_cameras_are_found_in_few_steps() -> None:
    asked: list[int] = []

    def measure(cameras: int) -> float:
        asked.append(cameras)
        return 0.02 if cameras <= 37 else math.inf

    found = search(measure, {20: 0.02, 80: math.inf}, 0.1, steps=6)
    assert found == Carried(37, 38)
    assert len(asked) <= 6
    assert str(found) == "37"
    assert str(search(measure, {10: 0.02}, 0.1, steps=1)) == "at least 12"
    assert str(search(measure, {20: 0.02, 80: math.inf}, 0.1, steps=1)) == "20 (<50)"
    assert search(measure, {1: 0.3}, 0.1, steps=5) == Carried(0, 1)


def test_one_slow_number_of_cameras_is_not_passed_over() -> None:
    assert carried({10: 0.01, 20: 0.3, 30: 0.02}, 0.1) == Carried(10, 20)


def test_a_target_is_crossed_between_points() -> None:
    assert crossing({10: 0.01, 20: 1.0}, 0.1) == pytest.approx(15.0)
    assert crossing({10: 0.01, 20: math.inf}, 0.1) == 15.0
    # 20 and 30 cameras cannot wait longer than 25: both, and 25, count as their mean.
    noisy = {10: 0.01, 20: 0.12, 25: 0.08, 30: 0.09, 40: 0.9}
    pooled = (0.12 * 0.08 * 0.09) ** (1 / 3)
    share = math.log(0.1 / pooled) / math.log(0.9 / pooled)
    assert crossing(noisy, 0.1) == pytest.approx(30 + 10 * share)
    assert crossing({10: 0.01}, 0.1) is None
    assert crossing({10: 0.2}, 0.1) is None


def test_cameras_are_whole_and_at_least_one() -> None:
    assert numbers_of_cameras(40.0, (0.25, 0.5, 1.1)) == [10, 20, 44]
    assert numbers_of_cameras(0.6, (0.25, 0.5, 1.1)) == [1]


def test_a_camera_of_clips_slides_by_half_a_window_as_the_client_does() -> None:
    assert every("clip", MANIFEST) == 0.5
    assert every("edge", MANIFEST) == every("stream", MANIFEST) == 0.125


def point(arrivals: str, load: int, p95: float, others: float = 0.0) -> Point:
    steps = (StepLoad("clip_image_encoder", 50, 2.5, 1.0, 0.1, 7.25, 0.1),)
    return Point(
        "probe", arrivals, load, load * 8.0, 100, 0, 0.01, p95, 0.01, 0.0005,
        Cores(1.5, 0.25, others), steps, "",
    )  # fmt: skip


REPORT = KindReport(
    "edge",
    20_000,
    0.125,
    0.125,
    (
        point("closed", 1, 0.01), point("closed", 4, 0.02), point("cameras", 8, 0.05),
        point("cameras", 9, math.inf, others=0.5), point("poisson", 8, 0.06),
    ),
    Carried(8, 9),
)  # fmt: skip


def test_the_report_says_what_was_measured(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=120)
    for table in (summary_table([REPORT], "demo"), points_table(REPORT), steps_table(REPORT)):
        console.print(table)
    file = console.file
    assert isinstance(file, io.StringIO)
    text = file.getvalue()
    assert "never" in text
    assert "7.25" in text
    assert "8 cameras" in text
    assert REPORT.most.load == 4
    # JSON knows no infinity.
    figures = json.loads(json.dumps(REPORT.to_json(), allow_nan=False))
    assert figures["cameras_within_target"] == 8
    assert [one["p95_ms"] for one in figures["points"]][3] is None
    assert disturbed(REPORT.points, cores=2) == pytest.approx(0.2)
    draw_throughput([REPORT], "demo", tmp_path / "out" / "throughput.png")
    assert (tmp_path / "out" / "throughput.png").stat().st_size > 5_000


def test_a_curve_has_every_load_and_ends_at_the_target(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fgmclip.bench.throughput.find_perf_analyzer", lambda: None)

    class FakeRig:
        urls = ("nowhere:1",)

        def closed(self, traffic: Traffic, count: int, *, seconds: float) -> Point:
            return point("closed", count, 0.01)

        def cameras(self, traffic: Traffic, count: int, dt: float, *, seconds: float) -> Point:
            return point("cameras", count, 0.02 if count <= 21 else 5.0)

        def poisson(self, traffic: Traffic, count: int, dt: float, *, seconds: float) -> Point:
            return point("poisson", count, 0.02)

    ticks: list[int] = []
    rig: Any = FakeRig()
    curve = Curve(rig, TRAFFIC, lambda: ticks.append(1))
    effort = Effort(concurrency=(1, 3), loads=(0.5, 1.1), poisson=(0.5,), steps=5, seconds=1.0)
    # 24 requests a second, one a camera: 24 cameras at most.
    report = curve.measure("edge", 1.0, None, effort)
    assert report.carried == Carried(21, 22)
    assert report.at_target is not None
    assert [one.load for one in report.of("closed")] == [1, 3]
    assert [one.load for one in report.of("poisson")] == [12]
    assert len(ticks) == len(report.points) <= effort.runs
    # A target of one's own.
    assert Curve(rig, TRAFFIC, lambda: None).measure("edge", 1.0, 0.015, effort).carried == Carried(
        0, 1
    )


def test_a_rig_puts_loads_on_a_server(
    echo: tuple[str, Echo], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Counters:
        def __init__(self, url: str) -> None: ...

        def read(self) -> dict[str, tuple[int, ...]]:
            return {}

        def __enter__(self) -> Counters:
            return self

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr("fgmclip.bench.load.point.StepCounters", Counters)
    with LoadProcess() as load:
        load.give(TRAFFIC)
        rig = Rig(load, [echo[0]])
        closed = rig.closed(TRAFFIC, 2, seconds=0.1)
        assert closed.offered == pytest.approx(2 / closed.mean)
        cameras = rig.cameras(TRAFFIC, 3, 0.05, seconds=0.2)
        assert cameras.offered == pytest.approx(60.0)
        assert cameras.arrivals == "cameras"
        assert 9 <= cameras.requests <= 15
        assert rig.poisson(TRAFFIC, 3, 0.05, seconds=0.2).arrivals == "poisson"
