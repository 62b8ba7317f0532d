"""`bench/kernels.py` on flow: pairs with ground truth, their errors, pictures and reports."""

from __future__ import annotations

import io
import json
import struct
from argparse import Namespace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from fgmclip.bench import kernels
from fgmclip.bench.flow_methods import DIS_MEDIUM, FARNEBACK, OURS, flow_methods
from fgmclip.bench.flow_picture import draw_flow
from fgmclip.bench.flow_table import (
    ZERO,
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
from fgmclip.bench.photometric import (
    warp_back,
)
from fgmclip.kernels.parameters import FlowParameters
from fgmclip.spec import FlowSpec

FLOW = FlowParameters.from_spec(FlowSpec())


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
        (
            lambda folder: (folder / "frame1.png").write_text("no", encoding="utf-8"),
            "expected a picture",
        ),
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


def text(table: Table) -> str:
    stream = io.StringIO()
    Console(file=stream, width=250).print(table)
    return stream.getvalue()
