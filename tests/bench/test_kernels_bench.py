"""The kernels' bench: readers, error measures, pictures and reports; no test looks at a clock."""

from __future__ import annotations

import io
import json
import struct
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from fgmclip.bench import agreement, costs, cuda_source, kernels, racing
from fgmclip.bench.bars import Bar, bars_table
from fgmclip.bench.flow_methods import DIS_MEDIUM, FARNEBACK, OURS, flow_methods
from fgmclip.bench.flow_picture import draw_flow
from fgmclip.bench.flow_table import (
    ZERO,
    FlowRow,
    error_table,
    flow_bars,
    measure_flow,
    time_table,
)
from fgmclip.bench.flow_truth import (
    FlowDataError,
    FlowPair,
    read_flo,
    read_kitti,
    read_pair,
    read_pairs,
)
from fgmclip.bench.flow_wheel import color_wheel, flow_colors, wheel_picture
from fgmclip.bench.opencv_peer import OpenCvPeer, nv12_frames, opencv_threads
from fgmclip.bench.photometric import (
    ClipDataError,
    find_clips,
    measure_clips,
    photometric_bars,
    photometric_table,
    warp_back,
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


def smooth(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    noise = np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)
    return cv2.equalizeHist(cv2.GaussianBlur(noise, (0, 0), 2)).astype(np.uint8)


def write_flo(path: Path, flow: NDArray[np.float32]) -> None:
    height, width = flow.shape[:2]
    path.write_bytes(struct.pack("<fii", 202021.25, width, height) + flow.astype("<f4").tobytes())


def write_kitti(path: Path, flow: NDArray[np.float32], known: NDArray[np.bool_]) -> None:
    values = np.rint(flow * 64 + 32768).astype(np.uint16)
    cv2.imwrite(str(path), np.dstack([known.astype(np.uint16), values[..., 1], values[..., 0]]))


def write_pair(
    folder: Path, *, flow: tuple[float, float] = (3.0, -1.0), size: tuple[int, int] = (48, 64)
) -> Path:
    """Write a texture that moves by whole pixels."""
    folder.mkdir(parents=True)
    height, width = size
    wide = smooth(height + 16, width + 16)
    right, down = (int(value) for value in flow)
    later = wide[8 - down : 8 - down + height, 8 - right : 8 - right + width]
    cv2.imwrite(str(folder / "frame1.png"), wide[8 : 8 + height, 8 : 8 + width])
    cv2.imwrite(str(folder / "frame2.png"), later)
    write_flo(folder / "flow.flo", np.tile(np.array(flow, np.float32), (height, width, 1)))
    return folder


def some_flow(height: int, width: int) -> NDArray[np.float32]:
    steps = np.random.default_rng(0).integers(-64 * 200, 64 * 200, (height, width, 2))
    return (steps / 64).astype(np.float32)


def test_a_flo_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    flow = some_flow(5, 7)
    flow[0, 0], flow[1, 1], flow[2, 2] = 1.7e9, np.nan, -1e10
    write_flo(tmp_path / "flow.flo", flow)
    read, known = read_flo(tmp_path / "flow.flo")
    np.testing.assert_array_equal(read, flow)
    assert np.argwhere(~known).tolist() == [[0, 0], [1, 1], [2, 2]]


def test_a_kitti_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    flow, known = some_flow(5, 7), np.random.default_rng(1).random((5, 7)) > 0.5
    write_kitti(tmp_path / "flow.png", flow, known)
    read, read_known = read_kitti(tmp_path / "flow.png")
    np.testing.assert_array_equal(read, flow)
    np.testing.assert_array_equal(read_known, known)


@pytest.mark.parametrize("cut", [0, 8, 12, 30])
def test_a_flo_file_that_is_cut_off_is_refused(tmp_path: Path, cut: int) -> None:
    write_flo(tmp_path / "flow.flo", some_flow(5, 7))
    (tmp_path / "flow.flo").write_bytes((tmp_path / "flow.flo").read_bytes()[:cut])
    with pytest.raises(FlowDataError, match=r"expected .* got .*fetch it again"):
        read_flo(tmp_path / "flow.flo")


def test_a_picture_that_holds_no_flow_is_refused(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "flow.png"), smooth(8, 8))
    with pytest.raises(FlowDataError, match=r"expected a 16-bit RGB picture, got uint8"):
        read_kitti(tmp_path / "flow.png")


def test_pairs_are_found_in_folders_below(tmp_path: Path) -> None:
    for name in ("b", "set/a"):
        write_pair(tmp_path / name)
    (tmp_path / "empty").mkdir()
    assert sorted(pair.name for pair in read_pairs(tmp_path)) == ["a", "b"]


def test_pixels_marked_invalid_do_not_count(tmp_path: Path) -> None:
    folder = write_pair(tmp_path / "pair")
    invalid = np.zeros((48, 64), np.uint8)
    invalid[:, :10] = 255
    cv2.imwrite(str(folder / "invalid.png"), invalid)
    pair = read_pair(folder)
    np.testing.assert_array_equal(pair.known, invalid == 0)
    assert not pair.flow[:, :10].any()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: (folder / "frame2.png").unlink(), r"expected frame2\.\*, got none"),
        (lambda folder: (folder / "flow.flo").unlink(), "expected flow.flo or flow.png, got none"),
        (lambda folder: (folder / "frame1.png").write_text("no"), "expected a picture"),
        (
            lambda folder: write_flo(folder / "flow.flo", some_flow(5, 7)),
            "one size, got 7x5 and 64x48",
        ),
        (
            lambda folder: write_flo(folder / "flow.flo", np.full((48, 64, 2), 2e9, np.float32)),
            "expected known flow, got none",
        ),
    ],
)
def test_an_incomplete_pair_is_refused(tmp_path: Path, spoil: Any, words: str) -> None:
    folder = write_pair(tmp_path / "pair")
    spoil(folder)
    with pytest.raises(FlowDataError, match=words):
        read_pairs(tmp_path)


def test_a_folder_without_pairs_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(FlowDataError, match="--pairs"):
        read_pairs(tmp_path)


def test_flow_shrinks_with_its_frames(tmp_path: Path) -> None:
    scaled = read_pair(write_pair(tmp_path / "pair", flow=(4.0, -3.0))).scaled(16)
    assert scaled.luma.shape == (2, 16, 16)
    np.testing.assert_allclose(
        scaled.flow, np.tile(np.array([1, -1], np.float32), (16, 16, 1)), atol=1e-5
    )
    assert scaled.known.all()


def test_unknown_flow_does_not_leak_into_scaled_pixels() -> None:
    flow = np.zeros((8, 8, 2), np.float32)
    flow[:, :3] = 2
    known = np.zeros((8, 8), bool)
    known[:, :3] = True
    scaled = FlowPair("half", np.zeros((2, 8, 8), np.uint8), flow, known).scaled(4)
    np.testing.assert_allclose(scaled.flow[:, :2], 1, atol=1e-6)
    assert scaled.known.tolist() == [[True, False, False, False]] * 4


def test_the_error_of_a_known_flow_is_known() -> None:
    known = np.ones((4, 4), bool)
    known[0] = False
    flow = np.zeros((4, 4, 2), np.float32)
    pair = FlowPair("still", np.zeros((2, 4, 4), np.uint8), flow, known)
    guess = np.tile(np.array([3, 4], np.float32), (4, 4, 1))
    guess[0] = 1000
    assert pair.error(flow) == 0
    assert pair.error(guess) == pytest.approx(5)


def test_every_method_finds_a_translation(tmp_path: Path) -> None:
    pair = read_pair(write_pair(tmp_path / "pair", flow=(2.0, 1.0), size=(64, 64)))
    for name, method in flow_methods(FLOW, 64, threads=1).items():
        assert pair.error(method(pair.luma)) < 1, name


def test_the_wheel_has_a_color_for_each_direction() -> None:
    wheel = color_wheel()
    assert wheel.shape == (55, 3)
    assert wheel.min() == 0
    assert wheel.max() == 1
    flow = np.array([[[1, 0], [-1, 0], [0, 0], [0, 1]]], np.float32)
    right, left, still, down = flow_colors(flow, 1.0)[0]
    np.testing.assert_allclose(right, [1, 0, 0], atol=1e-6)
    np.testing.assert_allclose(still, 1)
    assert left[0] < 0.25
    assert left[2] > 0.9
    assert down[:2].min() > 0.9
    assert down[2] < 0.1


def test_longer_flow_is_fuller_and_too_long_flow_darker() -> None:
    flow = np.array([[[0.1, 0], [0.5, 0], [1, 0], [3, 0]]], np.float32)
    colors = flow_colors(flow, 1.0)[0]
    assert np.all(np.diff(colors[:3, 1]) < 0)
    assert colors[3].max() < colors[2].max()


def test_the_legend_is_a_disc() -> None:
    picture = wheel_picture(33)
    assert picture.shape == (33, 33, 4)
    assert picture[0, 0, 3] == 0
    assert picture[16, 16, 3] == 1


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


def test_warping_back_by_the_true_flow_gives_the_earlier_frame() -> None:
    wide = smooth(40, 40).astype(np.float32)
    earlier, later = wide[4:36, 4:36], wide[6:38, 1:33]
    flow = np.tile(np.array([3, -2], np.float32), (32, 32, 1))
    difference = np.abs(warp_back(later, flow) - earlier)
    assert difference[4:-4, 4:-4].max() < 1e-3
    assert np.abs(later - earlier)[4:-4, 4:-4].mean() > 5


def test_flow_rows_make_tables_bars_and_a_picture(tmp_path: Path) -> None:
    pairs = [read_pair(write_pair(tmp_path / name)) for name in ("a", "b")]
    ticks: list[int] = []
    rows = measure_flow(
        pairs, FLOW, threads=1, rounds=2, tick=lambda: ticks.append(1), sides=(24, 32)
    )
    assert [(row.pair, row.side) for row in rows] == [("a", 24), ("b", 24), ("a", 32), ("b", 32)]
    assert len(ticks) == len(rows)
    assert set(rows[0].errors) == {*rows[0].times, ZERO} >= {OURS, DIS_MEDIUM, FARNEBACK}
    for table in (error_table(rows), time_table(rows)):
        assert text(table).count("geometric mean") == 2
    assert len(flow_bars(rows)) == 2
    json.dumps([row.to_json() for row in rows])
    draw_flow(pairs, FLOW, tmp_path / "out" / "flow.png", threads=1)
    assert cv2.imread(str(tmp_path / "out" / "flow.png")).shape[1] > 1000


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


needs_compiler = pytest.mark.skipif(compiler() is None, reason="no C++ compiler")


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


def test_a_run_reports_the_machine_and_the_sections_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pair(tmp_path / "pairs" / "one")
    monkeypatch.setattr(kernels, "QUICK", kernels.Effort(flow=1))
    arguments = Namespace(
        only=["flow"], quick=True, data=tmp_path, pairs=tmp_path / "pairs", out=tmp_path / "out"
    )
    report = kernels.run(arguments, Console(quiet=True))
    assert report.figures["machine"]["opencv"] == cv2.__version__
    assert report.figures["machine"]["instruction set"]
    assert {"machine", "quick", "optical_flow", "disturbed", "bars"} == set(report.figures)
    assert len(report.figures["bars"]) == len(report.bars) == 2
    assert (tmp_path / "out" / "flow.png").is_file()


@pytest.mark.parametrize(("reached", "status"), [(True, 0), (False, 3)])
def test_the_exit_status_says_whether_every_bar_is_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reached: bool, status: int
) -> None:
    def section(bench: kernels.Bench, report: kernels.Report, progress: object) -> None:
        report.bars.append(Bar("made up", 1.0, 0.5 if reached else 2.0))

    monkeypatch.setitem(kernels.SECTIONS, "flow", section)
    figures = tmp_path / "figures.json"
    assert kernels.main(["--only", "flow", "--json", str(figures)]) == status
    assert json.loads(figures.read_text())["bars"][0]["reached"] is reached


def test_missing_data_ends_the_bench_with_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert kernels.main(["--only", "flow", "--data", str(tmp_path)]) == 1
    assert "expected folders with frame1.*" in " ".join(capsys.readouterr().err.split())


def text(table: Table) -> str:
    stream = io.StringIO()
    Console(file=stream, width=250).print(table)
    return stream.getvalue()
