"""`bench/scale.py`: the queueing model against queues whose answer is known, and the law."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from fgmclip.bench.load.arrivals import camera_arrivals, poisson_arrivals
from fgmclip.bench.load.experiment import CAMERAS, FITTED, HELD_OUT, QUICK, Case, Effort, scale_spec
from fgmclip.bench.load.law import CostLaw, Observation, Shape
from fgmclip.bench.load.point import Point
from fgmclip.bench.load.queueing import BatchServer, servers_for
from fgmclip.bench.load.scale_picture import draw_scale
from fgmclip.bench.load.scale_report import (
    CamerasRow,
    ScaleReport,
    cameras_table,
    closed_table,
    law_text,
    model_cameras,
    plan_table,
)
from fgmclip.bench.load.usage import Cores
from fgmclip.bench.scale import fit


def test_cameras_come_every_dt_at_moments_of_their_own() -> None:
    times = camera_arrivals(5, 0.2, 10.0, np.random.default_rng(1))
    assert len(times) == 250
    assert (np.diff(times) >= 0).all()
    assert times[5:] - times[:-5] == pytest.approx(np.full(245, 0.2))
    assert not np.array_equal(
        times[:5], camera_arrivals(5, 0.2, 10.0, np.random.default_rng(2))[:5]
    )


def test_poisson_arrivals_have_their_rate_and_know_nothing_of_each_other() -> None:
    times = poisson_arrivals(100.0, 200.0, np.random.default_rng(1))
    assert len(times) == pytest.approx(20_000, rel=0.03)
    gaps = np.diff(times)
    # Of exponential gaps the standard deviation is the mean.
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.03)


def test_a_lone_request_takes_a_batch_of_one_and_company_waits_and_is_merged() -> None:
    server = BatchServer(fixed=1.0, each=0.5)
    waits = server.latencies(np.array([0.0, 0.1, 1.0, 10.0]))
    # 0 is served till 1.5; the two that came meanwhile are one batch till 3.5.
    assert waits == pytest.approx([1.5, 3.4, 2.5, 1.5])


def test_a_batch_has_a_largest_size() -> None:
    server = BatchServer(fixed=1.0, each=0.5, largest=1)
    assert server.latencies(np.array([0.0, 0.1, 1.0])) == pytest.approx([1.5, 2.9, 3.5])


def test_without_merging_it_is_the_queue_of_the_textbook() -> None:
    server = BatchServer(fixed=0.0, each=1.0, largest=1)
    load = 0.7
    times = poisson_arrivals(load, 60_000.0, np.random.default_rng(3))
    # M/D/1: Pollaczek and Khinchine's mean wait.
    expected = 1.0 + load / (2 * (1 - load))
    assert server.latencies(times).mean() == pytest.approx(expected, rel=0.04)


def test_replicas_on_one_machine_share_it() -> None:
    one, two = BatchServer(1.0, 0.5), BatchServer(1.0, 0.5, replicas=2)
    assert two.latencies(np.array([0.0, 5.0])) == pytest.approx([1.5, 1.5])
    # Side by side from 0.5 on: the first has 1.0 left and gets half, the second then the rest.
    assert two.latencies(np.array([0.0, 0.5])) == pytest.approx([2.5, 2.5])
    assert one.in_flight_seconds(4) == pytest.approx(3.0)
    assert two.in_flight_seconds(4) == pytest.approx(4.0)


def test_a_fixed_part_that_needs_half_the_machine_leaves_the_other_to_a_replica() -> None:
    two = BatchServer(1.0, 0.5, replicas=2, shared=0.5)
    # Side by side for 1.0, then each at half the speed.
    assert two.latencies(np.array([0.0, 0.0])) == pytest.approx([2.0, 2.0])
    assert two.in_flight_seconds(2) == pytest.approx(2.0)
    # From 1.0 on work for one and a half machines: 0.5 takes 0.75, and then it is alone.
    assert two.latencies(np.array([0.0, 1.0])) == pytest.approx([1.75, 1.75])


def test_the_largest_number_of_cameras_is_the_last_within_the_target() -> None:
    server = BatchServer(fixed=0.004, each=0.01)
    most = server.cameras_within(0.06, dt=0.25)
    assert 1 < most < 25
    assert server.percentile(most, 0.25) <= 0.06 < server.percentile(most + 1, 0.25)
    assert server.cameras_within(0.01, dt=0.25) == 0
    assert server.cameras_within(10.0, dt=0.25) <= 26


def test_servers_keep_their_headroom() -> None:
    assert servers_for(10_000, 20, 0.3) == 715
    assert servers_for(10_000, 1, 0.3) is None
    # 0.7 times 90 is 63, not a little less.
    assert servers_for(630, 90, 0.3) == 10


TRUTH = CostLaw((0.004, 0.002, 0.006, 0.003, 0.0001), 0.75)


def observed(noise: float) -> list[Observation]:
    random = np.random.default_rng(0)
    shapes = [
        Shape(1, 4, 0.0), Shape(1, 8, 0.0), Shape(1, 32, 0.0), Shape(1, 8, 0.1),
        Shape(1, 8, 2.0), Shape(4, 4, 0.1), Shape(8, 8, 0.1),
    ]  # fmt: skip
    return [
        Observation(
            shape,
            count,
            TRUTH.server(shape).in_flight_seconds(count) * (1 + noise * random.normal()),
        )
        for shape in shapes
        for count in (1, 2, 4, 8)
    ]


def replicas() -> list[Observation]:
    shape = Shape(1, 8, 0.0)
    return [
        Observation(shape, count, TRUTH.server(shape, 2).in_flight_seconds(count), 2)
        for count in (2, 4, 8)
    ]


def test_the_law_finds_what_made_its_points() -> None:
    law = CostLaw.fit([*observed(0.0), *replicas()])
    assert law.seconds == pytest.approx(TRUTH.seconds)
    assert law.shared == pytest.approx(TRUTH.shared)
    # Without replicas nothing is known of that: as if everything were shared.
    assert CostLaw.fit(observed(0.0)).shared == 1.0


def test_the_law_predicts_shapes_that_it_has_not_seen() -> None:
    law = CostLaw.fit(observed(0.03))
    for shape in (Shape(1, 16, 0.0), Shape(1, 8, 0.4), Shape(16, 16, 0.1)):
        expected = TRUTH.server(shape).in_flight_seconds(4)
        assert law.server(shape).in_flight_seconds(4) == pytest.approx(expected, rel=0.1)


def test_no_term_of_the_law_gives_time_back() -> None:
    shape = Shape(1, 8, 0.0)
    falling = [Observation(shape, count, 0.1 / count) for count in (1, 2, 4)]
    assert min(CostLaw.fit(falling).seconds) >= 0


def test_a_long_clip_fills_a_batch_alone() -> None:
    assert TRUTH.server(Shape(40, 40, 0.1)).largest == 1
    assert TRUTH.server(Shape(1, 40, 0.0)).largest == 64


def point(case: Case, arrivals: str, load: int, latency: float, others: float = 0.0) -> Point:
    return Point(
        case.name, arrivals, load, 1.0, 10, 0, latency, latency, latency, 0.0,
        Cores(1.0, 0.1, others), (), "",
    )  # fmt: skip


Closed = dict[tuple[Case, int], list[Point]]


def closed_loops(effort: Effort, distort: Callable[[Case], float] = lambda case: 1.0) -> Closed:
    """Closed loops as `TRUTH` makes them, times a factor by case."""
    return {
        (case, count): [
            point(
                case,
                "closed",
                count,
                distort(case) * TRUTH.server(case.shape, case.replicas).in_flight_seconds(count),
            )
        ]
        for case, count in effort.closed()
    }


def test_the_split_is_a_split() -> None:
    assert not set(FITTED) & set(HELD_OUT)
    assert len(set(FITTED)) == len(FITTED)
    for effort in (Effort(), QUICK):
        assert {case for case, _ in effort.closed()} == {*FITTED, *HELD_OUT}
        assert all(count >= case.replicas for case, count in effort.closed())


def test_held_out_points_do_not_move_the_law() -> None:
    law, rows = fit(closed_loops(QUICK, lambda case: 2.0 if case in HELD_OUT else 1.0))
    assert law.seconds == pytest.approx(TRUTH.seconds)
    errors = {row.held_out: set() for row in rows}  # type: dict[bool, set[float]]
    for row in rows:
        errors[row.held_out].add(round(row.error, 6))
    assert errors == {False: {0.0}, True: {-0.5}}


def test_the_median_round_counts() -> None:
    closed = closed_loops(QUICK)
    for (case, count), points in closed.items():
        slow, fast = (
            point(case, "closed", count, factor * points[0].mean) for factor in (3.0, 0.5)
        )
        points[:] = [slow, points[0], fast]
    assert fit(closed)[0].seconds == pytest.approx(TRUTH.seconds)


def cameras_row(case: Case, target: float, factor: float = 1.0) -> CamerasRow:
    predicted = model_cameras(TRUTH, case, target)
    server = TRUTH.server(case.shape, case.replicas)
    points = []
    for share in (0.8, 0.9, 1.1, 1.2):
        count = round(share * predicted)
        p95 = server.percentile(max(1, round(count * factor)), case.every)
        points.append(point(case, "cameras", count, p95))
    return CamerasRow(case, target, predicted, tuple(points))


def test_cameras_are_held_to_what_was_measured_around_them() -> None:
    row = cameras_row(CAMERAS[0], 0.25)
    assert row.enclosed
    assert abs(row.error) < 0.1
    # A machine on which half as many cameras cost as much: no point is within the target.
    slow = cameras_row(CAMERAS[0], 0.25, factor=2.0)
    assert not slow.enclosed
    assert slow.error > 0.15
    fast = cameras_row(CAMERAS[0], 0.25, factor=0.5)
    assert not fast.enclosed
    assert fast.error < -0.15


def test_the_report_stands_or_falls_with_its_worst_held_out_point(tmp_path: Path) -> None:
    law, rows = fit(closed_loops(QUICK))
    good = ScaleReport(law, rows, (cameras_row(CAMERAS[0], 0.25),))
    assert good.bar().reached
    assert len(good.errors()) == sum(row.held_out for row in rows) + 1
    bad = ScaleReport(law, rows, (cameras_row(CAMERAS[0], 0.25, factor=2.0),))
    assert not bad.bar().reached
    console = Console(file=io.StringIO(), width=140)
    for table in (closed_table(good), cameras_table(good), plan_table(good), law_text(law)):
        console.print(table)
    file = console.file
    assert isinstance(file, io.StringIO)
    assert "held out" in file.getvalue()
    figures = json.loads(json.dumps(bad.to_json(), allow_nan=False))
    assert figures["bar"]["reached"] is False
    plan = {row["case"]: row for row in figures["plan"]}
    edge = plan["edge T=8"]
    assert edge["servers"] == math.ceil(10_000 / int(0.7 * edge["cameras_per_server"]))
    draw_scale(good, "made up", tmp_path / "scale.png")
    assert (tmp_path / "scale.png").stat().st_size > 5_000


def test_the_measured_model_keeps_its_dt_whatever_t() -> None:
    assert {scale_spec(window).clip.dt for window in (4, 32)} == {0.25}
