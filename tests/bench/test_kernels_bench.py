"""`bench/kernels.py`: races, bars, agreement, the CUDA source, costs and exit codes."""

from __future__ import annotations

import io
import json
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from rich.console import Console
from rich.table import Table

from fgmclip.bench import agreement, costs, cuda_source, kernels, racing
from fgmclip.bench.bars import Bar, bars_table
from fgmclip.bench.flow_methods import DIS_MEDIUM, OURS
from fgmclip.bench.flow_table import (
    ZERO,
    FlowRow,
    flow_bars,
)
from fgmclip.bench.opencv_peer import OpenCvPeer, nv12_frames, opencv_threads
from fgmclip.bench.photometric import (
    ClipDataError,
    find_clips,
    measure_clips,
    photometric_bars,
    photometric_table,
)
from fgmclip.bench.preprocess_race import race_preprocess
from fgmclip.bench.racing import Ratio, Timing, geometric_mean, race
from fgmclip.kernels.cuda.binary import FatBinary, KernelFigures
from fgmclip.kernels.cuda.host import HostDevice, compiler
from fgmclip.kernels.errors import BuildError
from fgmclip.kernels.parameters import FlowParameters, PreprocessParameters
from fgmclip.kernels.preprocess import preprocess, preprocess_u8
from fgmclip.kernels.regions import frame_region
from fgmclip.spec import FlowSpec, preset
from fgmclip.video.samples import generate_samples

FLOW = FlowParameters.from_spec(FlowSpec())
PARAMETERS = replace(PreprocessParameters.from_spec(preset("b16")), image_size=32, motion_size=24)


def test_competitors_take_turns_with_numbers_that_count_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[tuple[str, int]] = []

    def competitor(name: str) -> Any:
        return lambda number: calls.append((name, number))

    ticks: list[int] = []
    monkeypatch.setattr(racing, "_waited_for_processor", lambda: 0.0)
    times = race(
        {"a": competitor("a"), "b": competitor("b")},
        rounds=2,
        calls=2,
        tick=lambda: ticks.append(1),
    )
    assert [name for name, _ in calls] == [*"aaabbb", *"bbbaaa"]
    assert [number for name, number in calls if name == "a"] == [0, 1, 2, 3, 4, 5]
    assert len(ticks) == 2
    assert {name: len(timing.milliseconds) for name, timing in times.items()} == {"a": 2, "b": 2}


@pytest.mark.parametrize(("busy", "rounds", "disturbed"), [(3, 5, 0.0), (100, 8, 1.0)])
def test_disturbed_rounds_are_repeated_while_patience_lasts(
    monkeypatch: pytest.MonkeyPatch, busy: int, rounds: int, disturbed: float
) -> None:
    calls: list[int] = []
    # Before and after each of the first rounds, an hour more that the process had to wait.
    waited = iter([3600.0 * min(reading, 2 * busy) for reading in range(1000)])
    monkeypatch.setattr(racing, "_waited_for_processor", lambda: next(waited))
    monkeypatch.setattr(racing, "_PAUSE", 0.0)
    times = race({"a": calls.append}, rounds=2, calls=1)
    assert len(calls) == 2 * rounds
    assert len(times["a"].milliseconds) == 2
    assert times["a"].disturbed == disturbed


def test_a_process_that_waits_for_no_processor_says_so() -> None:
    assert racing._waited_for_processor() >= 0


def test_a_slow_round_slows_both_sides_of_its_ratio() -> None:
    steady, slowed = Timing((2.0, 2.0, 20.0), 1.0), Timing((1.0, 1.0, 10.0), 0.4)
    ratio = Ratio.of(steady, slowed)
    assert (ratio.low, ratio.median, ratio.high) == (2, 2, 2)
    assert ratio.fastest == pytest.approx(2.5)
    assert str(ratio) == "2.00 (2.00-2.00)"


def test_ratios_are_averaged_geometrically() -> None:
    assert geometric_mean([0.5, 2.0]) == pytest.approx(1)


@pytest.mark.parametrize("layout", ["rgb", "nv12"])
@pytest.mark.parametrize("interpolation", ["area", "cubic"])
def test_the_opencv_side_does_the_same_steps(layout: str, interpolation: Any) -> None:
    parameters = replace(PARAMETERS, image_size=64, motion_size=48)
    coarse = np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    wide = cv2.resize(coarse, (250, 250), interpolation=cv2.INTER_CUBIC)
    frames = np.stack([wide[10:, 10:], wide[:-10, :-10]]).astype(np.uint8)
    frames = frames if layout == "rgb" else nv12_frames(frames)
    peer = OpenCvPeer(parameters, interpolation)
    peer.preprocess(frames)
    pixels, motion = preprocess(frames, parameters)
    _, luma = preprocess_u8(frames, parameters)
    assert luma is not None
    assert motion is not None
    # Square frames: in others the definition's square may lie a few pixels aside.
    assert np.abs(peer.pixels - pixels).mean() < 0.03
    assert np.abs(peer.luma.astype(int) - luma[0]).mean() < 1
    assert np.abs(motion[0]).mean(axis=(1, 2)).min() > 0.015
    assert np.abs(peer.motion - motion)[0].mean(axis=(1, 2)).max() < 0.01


def test_opencvs_threads_are_put_back() -> None:
    before = cv2.getNumThreads()
    with opencv_threads(1):
        assert cv2.getNumThreads() == 1
    assert cv2.getNumThreads() == before


@pytest.mark.parametrize(
    ("bar", "reached"),
    [
        (Bar("speed", 3.0, 3.0, at_least=True), True),
        (Bar("speed", 3.0, 2.9, at_least=True), False),
        (Bar("error", 1.0, 1.0), True),
        (Bar("error", 1.0, 1.1), False),
        (Bar("error", 1.0, float("nan")), False),
    ],
)
def test_a_bar_is_reached_or_missed(bar: Bar, reached: bool) -> None:
    assert bar.reached is reached
    assert bar.to_json()["reached"] is reached
    assert "NO" in text(bars_table([bar])) or reached


def test_the_error_bar_is_a_geometric_mean() -> None:
    timing = Timing((1.0, 1.0), 1.0)
    times = {"fgmclip": timing, "DIS medium": timing, "DIS fast": timing}
    rows = [
        FlowRow("a", 112, {"fgmclip": 1.0, "DIS medium": 2.0, ZERO: 3.0}, times),
        FlowRow("b", 112, {"fgmclip": 40.0, "DIS medium": 20.0, ZERO: 50.0}, times),
    ]
    error, time = flow_bars(rows)
    assert error.measured == pytest.approx(1)
    assert time.measured == pytest.approx(1)


def test_real_clips_make_a_row_for_each_size_and_spacing(tmp_path: Path) -> None:
    clip = generate_samples(tmp_path, per_class=1, seed=5)[0].path
    rows = measure_clips([clip], FLOW, threads=1, per_clip=2, sides=(32,), tick=lambda: None)
    assert [(row.side, row.spacing) for row in rows] == [(32, "1/8 s"), (32, "next frame")]
    for row in rows:
        assert 1 <= len(row.errors[OURS]) <= 2
        assert row.to_json()["pairs"] == len(row.errors[DIS_MEDIUM])
    assert len(photometric_bars(rows)) == 2
    assert "next frame" in text(photometric_table(rows))


def test_a_folder_without_clips_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ClipDataError, match="FGMCLIP_TEST_DATA"):
        find_clips(tmp_path)


def test_the_twin_agrees_with_itself() -> None:
    pictures = agreement.random_pictures(sizes=[(20, 31)], sides=(24,))
    rows = agreement.measure_agreement(agreement.TWIN, pictures, PARAMETERS)
    operations = {"resize", "luma", "normalize", "frame_difference", "optical_flow"}
    assert {row.operation for row in rows} == operations
    assert all(row.largest == 0 and row.share == 1 for row in rows)
    assert all(bar.reached for bar in agreement.agreement_bars(rows))
    json.dumps([row.to_json() for row in rows])


def test_an_operation_that_disagrees_is_found() -> None:
    pictures = agreement.random_pictures(sizes=[(20, 31)], sides=(24,))
    wrong = replace(
        agreement.TWIN,
        name="wrong",
        luma=lambda *arguments: agreement.TWIN.luma(*arguments) >> np.uint8(1),
        optical_flow=lambda *arguments: agreement.TWIN.optical_flow(*arguments) + np.float32(0.1),
    )
    rows = agreement.measure_agreement(wrong, pictures, PARAMETERS)
    levels, flow = agreement.agreement_bars(rows)
    assert not levels.reached
    assert not flow.reached
    assert flow.measured == 0
    assert "wrong" in text(agreement.agreement_table(rows))


needs_compiler = pytest.mark.skipif(
    compiler() is None,
    reason="NO C++ COMPILER: the CUDA source was not run; install g++ or set CXX",
)


@needs_compiler
def test_the_cuda_source_agrees_on_the_host_layer() -> None:
    pictures = agreement.random_pictures(sizes=[(20, 31)], sides=(24,))
    operations = cuda_source.cuda_operations(HostDevice())
    rows = agreement.measure_agreement(operations, pictures, PARAMETERS)
    assert len(rows) == 5
    assert all(bar.reached for bar in agreement.agreement_bars(rows))


@needs_compiler
def test_moved_bytes_are_held_against_the_least_possible() -> None:
    device = HostDevice()
    square = replace(PARAMETERS, image_size=32, motion_size=16)
    rgb, rgb_half, nv12, _ = cuda_source.measure_traffic(device, square, sizes=[(32, 32)])
    # Nothing is scaled: every pixel of both frames counts, of NV12's earlier frame its luma alone.
    results = 3 * 32 * 32 * 4 + 2 * 16 * 16
    assert rgb.minimum == 2 * 3 * 32 * 32 + results
    assert nv12.minimum == 32 * 32 * 3 // 2 + 32 * 32 + results
    assert rgb.stored == results
    assert rgb_half.minimum == rgb.minimum - 3 * 32 * 32 * 2
    assert rgb.loaded + rgb.stored >= rgb.minimum
    assert cuda_source.traffic_bar([rgb, nv12]).measured == max(rgb.ratio, nv12.ratio)
    assert "NV12" in text(cuda_source.traffic_table([rgb, nv12]))
    json.dumps(rgb.to_json())


def test_pixels_that_no_weight_reaches_need_not_be_moved() -> None:
    region = frame_region(64, 128, 32, "center")
    whole = frame_region(64, 128, 32, "squash")
    center, squashed = (cuda_source._needed((64, 128), one, 16, "RGB") for one in (region, whole))
    assert squashed == 2 * 3 * 64 * 128
    assert squashed / 2 <= center < 0.6 * squashed


def test_a_kernel_that_spills_anywhere_misses_the_bar() -> None:
    figures = [
        KernelFigures("resize", "sm_75", 64, 0, 0, 0, 0, 1, 256),
        KernelFigures("resize", "sm_90", 64, 8, 4, 0, 0, 1, 256),
    ]
    assert cuda_source.spill_bar(figures[:1]).reached
    assert cuda_source.spill_bar(figures).measured == 12
    assert "64 + 12" in text(cuda_source.ptxas_table(figures))


def test_the_binary_is_built_only_where_that_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    def find(_: object) -> FatBinary:
        raise BuildError("expected a fat binary, got none")

    figures = (KernelFigures("resize", "sm_75", 64, 0, 0, 0, 0, 1, 256),)
    built = SimpleNamespace(record=SimpleNamespace(figures=figures))
    monkeypatch.setattr(cuda_source, "find_binary", find)
    monkeypatch.setattr(cuda_source, "build_binary", lambda progress: built)
    assert cuda_source.read_ptxas(lambda *_: None) == figures
    with pytest.raises(BuildError):
        cuda_source.read_ptxas(None)


def test_what_cannot_be_measured_here_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_binary(_: object) -> tuple[KernelFigures, ...]:
        raise BuildError("expected a fat binary, got none")

    monkeypatch.setattr(kernels, "compiler", lambda: None)
    monkeypatch.setattr(cuda_source, "read_ptxas", no_binary)
    arguments = Namespace(only=["cuda"], quick=True, data=tmp_path, pairs=None, out=tmp_path)
    report = kernels.run(arguments, Console(quiet=True))
    assert list(report.figures["left_out"]) == ["CUDA source", "ptxas"]
    assert report.bars == []


def test_a_cuda_source_that_does_not_compile_fails_the_bench(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(_: object) -> tuple[KernelFigures, ...]:
        raise BuildError("expected kernels.cu to compile, got: error", log="error: ;")

    monkeypatch.setattr(kernels, "compiler", lambda: None)
    monkeypatch.setattr(cuda_source, "read_ptxas", broken)
    assert kernels.main(["--only", "cuda", "--quick", "--data", str(tmp_path)]) == 1
    assert "expected kernels.cu to compile" in " ".join(capsys.readouterr().err.split())


def test_costs_make_tables_and_a_picture(tmp_path: Path) -> None:
    sizes, counts = ((24, 32), (32, 48)), (1, 3)
    whole = costs.measure_costs(PARAMETERS, rounds=2, tick=lambda: None, sizes=sizes, counts=counts)
    stages = costs.measure_stages(PARAMETERS, rounds=2, tick=lambda: None, sizes=sizes)
    assert len(whole) == len(sizes) * len(counts) * len(costs.THREADS)
    assert len(stages) == len(sizes) * len(costs.THREADS) * (len(costs.STAGES) + 1)
    assert "48x32" in text(costs.cost_table(whole))
    assert costs.STAGES[0] in text(costs.stage_table(stages))
    json.dumps([item.to_json() for item in (*whole, *stages)])
    costs.draw_costs(whole, stages, tmp_path / "out" / "kernels.png")
    assert cv2.imread(str(tmp_path / "out" / "kernels.png")).shape[1] > 1000


def test_the_race_of_preprocess_makes_a_table_and_bars() -> None:
    result = race_preprocess(PARAMETERS, threads=1, rounds=2, tick=lambda: None, size=(48, 64))
    assert len(result.times) == 12
    assert len(result.bars()) == 6
    assert text(result.table()).count("OpenCV") == 8
    json.dumps(result.to_json())


@pytest.mark.parametrize(("reached", "status"), [(True, 0), (False, 3)])
def test_the_exit_status_says_whether_every_bar_is_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reached: bool, status: int
) -> None:
    def section(bench: kernels.Bench, report: kernels.Report, progress: object) -> None:
        report.bars.append(Bar("made up", 1.0, 0.5 if reached else 2.0))

    monkeypatch.setitem(kernels.SECTIONS, "flow", section)
    figures = tmp_path / "figures.json"
    assert kernels.main(["--only", "flow", "--json", str(figures)]) == status
    assert json.loads(figures.read_text(encoding="utf-8"))["bars"][0]["reached"] is reached


def test_missing_data_ends_the_bench_with_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert kernels.main(["--only", "flow", "--data", str(tmp_path)]) == 1
    assert "expected folders with frame1.*" in " ".join(capsys.readouterr().err.split())


def text(table: Table) -> str:
    stream = io.StringIO()
    Console(file=stream, width=250).print(table)
    return stream.getvalue()
