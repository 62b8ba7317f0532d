"""What the benches print: percentiles, order of stages, a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fgmclip.bench.contact_sheet import Tile, draw_contact_sheet
from fgmclip.bench.machine import describe_machine
from fgmclip.bench.stages import END_TO_END, StageTimes, in_pipeline_order, milliseconds


def test_percentiles_are_those_of_the_figures() -> None:
    times = StageTimes("window", tuple(float(value) for value in range(101)))
    assert times.to_json() == {
        "stage": "window",
        "repeats": 101,
        "p50_ms": 50.0,
        "p90_ms": 90.0,
        "p99_ms": 99.0,
    }


def test_stages_stand_in_the_order_of_the_pipeline() -> None:
    names = (END_TO_END, "classify", "preprocess", "window")
    ordered = in_pipeline_order([StageTimes(name, (1.0,)) for name in names])
    assert [item.stage for item in ordered] == ["preprocess", "window", "classify", END_TO_END]


def test_a_call_is_timed() -> None:
    assert milliseconds(lambda: sum(range(100_000))) > 0


def test_the_machine_is_described() -> None:
    facts = describe_machine()
    assert int(facts["cores"]) >= 1
    assert facts["numpy"] == np.__version__


@pytest.mark.parametrize("count", [1, 5])
def test_a_contact_sheet_holds_every_tile(tmp_path: Path, count: int) -> None:
    frames = np.full((3, 20, 30, 3), 200, np.uint8)
    tiles = [Tile(frames, f"clip {index}", index % 2 == 0) for index in range(count)]
    draw_contact_sheet(tiles, tmp_path / "out" / "sheet.png")
    with Image.open(tmp_path / "out" / "sheet.png") as image:
        width, height = image.size
    assert width > 1000
    assert height == pytest.approx(190 * -(-count // 4), abs=2)
