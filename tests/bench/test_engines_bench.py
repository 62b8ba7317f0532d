"""`bench/engines.py`: graphs, arithmetic, tables and exit codes; no time is asserted."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from rich.console import Console

from fgmclip.bench import engines
from fgmclip.bench.engine_lineup import Lineup, open_lineup
from fgmclip.bench.engine_race import (
    Rate,
    Row,
    engine_table,
    race_engines,
    rate_table,
    share_bars,
    share_of,
)
from fgmclip.bench.matmul_rates import PRECISIONS, Precision, chain_graph, open_chain
from fgmclip.bench.racing import Ratio, Timing
from fgmclip.export.graphs import part_inputs
from fgmclip.export.names import Part
from fgmclip.model.build import build_model
from fgmclip.model.network import FgmClip
from fgmclip.model.onnx_graph import multiply_adds
from fgmclip.spec import preset

SIZE, LENGTH = 32, 3


def run_onnx(graph: onnx.ModelProto, x: NDArray[np.float32]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(
        graph.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    output: NDArray[np.float32] = session.run(None, {"X": x})[0]
    return output


def random_x() -> NDArray[np.float32]:
    return np.random.default_rng(3).standard_normal((SIZE, SIZE), dtype=np.float32)


def test_a_chain_is_a_chain_of_products() -> None:
    graph, x = chain_graph(SIZE, LENGTH, quantized=False), random_x()
    onnx.checker.check_model(graph)
    expected = x
    for item in graph.graph.initializer:
        if item.name.startswith("weight_") and item.name != "weight_scale":
            expected = expected @ numpy_helper.to_array(item)
    np.testing.assert_allclose(run_onnx(graph, x), expected, atol=1e-4)


def test_an_int8_chain_computes_the_same_in_int8() -> None:
    plain = run_onnx(chain_graph(SIZE, LENGTH, quantized=False), random_x())
    graph = chain_graph(SIZE, LENGTH, quantized=True)
    onnx.checker.check_model(graph)
    assert [node.op_type for node in graph.graph.node].count("QuantizeLinear") == LENGTH
    came = run_onnx(graph, random_x())
    assert np.corrcoef(came.ravel(), plain.ravel())[0, 1] > 0.99


def test_operations_are_those_of_the_graph(tmp_path: Path) -> None:
    for precision in PRECISIONS:
        chain = open_chain(precision, tmp_path, size=SIZE, length=LENGTH)
        graph = chain_graph(SIZE, LENGTH, quantized=False)
        assert chain.operations == 2 * SIZE * multiply_adds(graph)
        chain.repeat(2, 0)


@pytest.fixture(scope="module")
def small() -> FgmClip:
    """The demo's motion encoder in small: a network of convolutions and one product."""
    motion = {"encoder": "resnet10_narrow", "size": 32, "width": 32}
    return build_model(preset("demo").replace(name="small", motion=motion), seed=0)


PARTS: tuple[Part, ...] = ("clip_image_encoder", "motion_encoder")


@pytest.fixture(scope="module", params=PARTS)
def lineup(
    request: pytest.FixtureRequest, small: FgmClip, tmp_path_factory: pytest.TempPathFactory
) -> Lineup:
    return open_lineup(small, request.param, tmp_path_factory.mktemp("lineup"), lambda stage: None)


def test_every_engine_computes_the_submodule(lineup: Lineup, small: FgmClip) -> None:
    for batch in (1, 5):
        inputs = part_inputs(small.spec, lineup.part, batch, seed=7)
        expected = lineup.engines["torch fp32"].run(inputs)
        for name, engine in lineup.engines.items():
            came = engine.run(inputs)
            assert came.shape == expected.shape
            assert came.dtype == np.float32
            if engine.rate == "fp32":
                np.testing.assert_allclose(came, expected, atol=2e-4, err_msg=name)
            else:
                assert np.corrcoef(came.ravel(), expected.ravel())[0, 1] > 0.98, name


def test_every_runtime_of_the_table_takes_part(lineup: Lineup) -> None:
    runtimes = {(engine.runtime, engine.rate) for engine in lineup.engines.values()}
    assert runtimes == {
        ("torch", "fp32"),
        ("torch", "bf16"),
        ("ONNX Runtime", "fp32"),
        ("ONNX Runtime", "int8"),
        ("OpenVINO", "fp32"),
        ("OpenVINO", "bf16"),
        ("OpenVINO", "int8"),
    }


def test_a_race_gives_a_row_for_each_engine(lineup: Lineup, small: FgmClip, tmp_path: Path) -> None:
    chains = {name: open_chain(name, tmp_path, size=SIZE, length=LENGTH) for name in PRECISIONS}
    ticks: list[None] = []
    rows, rates = race_engines(
        lineup,
        chains,
        small.spec,
        batch=2,
        rounds=1,
        calls=1,
        tick=lambda: ticks.append(None),
    )
    assert [row.engine for row in rows] == list(lineup.engines)
    assert [rate.precision for rate in rates] == list(PRECISIONS)
    assert len(ticks) == 1
    for row in rows:
        assert row.operations == pytest.approx(4e-9 * lineup.multiply_adds)
        assert row.share.median == pytest.approx(
            row.giga_per_second
            / next(rate.giga_per_second for rate in rates if rate.precision == row.rate)
        )
    # The products do as much work as the engines.
    for rate in rates:
        assert rate.operations == pytest.approx(rows[0].operations, rel=0.6)


def timing(*milliseconds: float) -> Timing:
    return Timing(milliseconds, min(milliseconds))


def row(engine: str, batch: int, rate: Precision, share: float) -> Row:
    ratio = Ratio(share, share, share, share)
    return Row("clip_image_encoder", batch, engine, rate, 30.0, timing(60.0), ratio, ratio)


def test_a_share_is_taken_round_by_round() -> None:
    rate = Rate("int8", "clip_image_encoder", 1, 10.0, timing(10.0, 20.0, 10.0))
    assert rate.giga_per_second == 1000
    share = share_of(30.0, timing(60.0, 120.0, 40.0), rate)
    assert share.median == pytest.approx(0.5)
    assert share.high == pytest.approx(0.625)
    assert share.fastest == pytest.approx(0.75)


def test_bars_hold_the_fastest_int8_engine_of_each_batch() -> None:
    rows = [
        row("OpenVINO f32", 10, "fp32", 0.99),
        row("ONNX Runtime int8 Q/DQ", 10, "int8", 0.5),
        row("OpenVINO int8 Q/DQ", 10, "int8", 0.81),
        row("OpenVINO int8 Q/DQ", 1, "int8", 0.64),
    ]
    window, single = share_bars(rows, "clip_image_encoder", 10)
    assert window.measured == pytest.approx(81)
    assert window.reached
    assert "OpenVINO int8 Q/DQ" in window.detail
    assert single.bar == 65
    assert not single.reached


def text_of(*items: Any) -> str:
    console = Console(width=engines.WIDTH, record=True, file=io.StringIO())
    for item in items:
        console.print(item)
    return console.export_text()


def test_tables_name_engines_and_rates() -> None:
    rate = Rate("int8", "clip_image_encoder", 1, 10.0, timing(10.0))
    text = text_of(
        engine_table([row("OpenVINO int8 Q/DQ", 1, "int8", 0.64)], "small"), rate_table([rate])
    )
    assert "OpenVINO int8 Q/DQ" in text
    assert "64% int8" in text
    assert "1000" in text


def test_two_threads_are_given_back() -> None:
    processors, threads = os.sched_getaffinity(0), torch.get_num_threads()
    with engines.two_threads():
        assert len(os.sched_getaffinity(0)) <= 2
        assert torch.get_num_threads() <= 2
    assert os.sched_getaffinity(0) == processors
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(("share", "code"), [(0.9, 0), (0.5, 3)])
def test_a_missed_bar_is_exit_code_3(
    share: float, code: int, small: FgmClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    window = small.spec.clip.frames
    rows = [row("OpenVINO int8 Q/DQ", batch, "int8", share) for batch in (window, 1)]
    rates = [Rate("int8", "clip_image_encoder", 1, 10.0, timing(10.0))]
    monkeypatch.setattr(engines, "open_model", lambda name, random_weights: small)
    monkeypatch.setattr(engines, "measure", lambda model, effort, console: (rows, rates))
    monkeypatch.setattr(engines, "BARRED", "small")
    file = tmp_path / "figures.json"
    assert engines.main(["--json", str(file)]) == code
    figures = json.loads(file.read_text(encoding="utf-8"))
    assert [item["reached"] for item in figures["bars"]] == [code == 0] * 2
    assert figures["engines"][0]["share"]["median"] == share
    assert figures["machine"]["openvino"]
    # A model that the bars were not set for has none.
    monkeypatch.setattr(engines, "BARRED", "another")
    assert engines.main([]) == 0


def test_an_unknown_model_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert engines.main(["--model", "nowhere.safetensors"]) == 1
    assert "found neither" in capsys.readouterr().err
