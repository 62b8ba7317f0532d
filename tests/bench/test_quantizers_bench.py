"""The quantisers' bench: what counts as an answer, and who wins."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from fgmclip.bench.quantizer_lineup import (
    OWN,
    PLAIN,
    Quantized,
    Tool,
    find_tools,
    quantize_graph,
    quantizers,
)
from fgmclip.bench.quantizer_race import (
    FP32,
    Row,
    in_a_word,
    made,
    quantizer_table,
    race_graphs,
    winner,
)
from fgmclip.bench.racing import Timing
from fgmclip.export.calibration import Clips
from fgmclip.export.gate import Likeness
from fgmclip.export.graphs import part_inputs
from fgmclip.export.names import Part
from fgmclip.export.recording import Recording, record
from fgmclip.export.sources import open_model
from fgmclip.model.network import FgmClip
from fgmclip.model.onnx_graph import to_onnx

PART: Part = "motion_encoder"


def program(folder: Path, text: str) -> Path:
    """Return an interpreter that ignores its script and does this instead."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


@pytest.fixture(scope="module")
def demo() -> FgmClip:
    return open_model("demo")


@pytest.fixture(scope="module")
def graph(demo: FgmClip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("graph") / f"{PART}.onnx"
    onnx.save(to_onnx(demo, PART), path)
    return path


@pytest.fixture(scope="module")
def recording(demo: FgmClip) -> Recording:
    """Two clips of noise."""
    frames = demo.spec.clip.frames
    pixels = part_inputs(demo.spec, "clip_image_encoder", 2 * frames, 0)["PIXELS"]
    motion = part_inputs(demo.spec, PART, 2 * frames, 1)["MOTION"]
    clips = Clips(
        pixels.reshape(2, frames, *pixels.shape[1:]),
        motion.reshape(2, frames, *motion.shape[1:]),
        ("a", "b"),
    )
    return record(demo, clips, lambda stage: None)


def test_own_and_plain_graphs_are_int8_and_run_where_fp32_does(
    graph: Path, recording: Recording, tmp_path: Path
) -> None:
    found = [Quantized(FP32, graph, 0.0)] + [
        quantize_graph(name, graph, recording.batches(PART), tmp_path, {}, transformer=False)
        for name in (OWN, PLAIN)
    ]
    for item in found[1:]:
        assert item.file is not None
        operators = {node.op_type for node in onnx.load(item.file).graph.node}
        assert {"QuantizeLinear", "DequantizeLinear"} <= operators
    # Ours stores int8 weights; ONNX Runtime's pairs leave them as they are.
    assert found[1].size < found[0].size / 2
    rows = race_graphs(PART, found, recording, rounds=1, report=lambda stage: None)
    fp32 = [row for row in rows if row.quantizer == FP32 and row.runtime != "OpenVINO bf16"]
    assert [row.like.cosine for row in fp32 if row.like] == pytest.approx([1.0, 1.0], abs=1e-5)
    own = [row for row in rows if row.quantizer == OWN]
    assert len(own) == 3
    assert all(row.like and 0.9 < row.like.cosine < 1 - 1e-7 for row in own)
    table = quantizer_table(rows, [made(PART, item, "builds") for item in found], "demo")
    assert table.row_count == 9


def test_a_foreign_tool_is_found_where_it_is(tmp_path: Path) -> None:
    python = program(tmp_path, 'test "$3" = nncf && echo 9.9')
    tools = find_tools([python])
    assert tools["nncf"].version
    assert set(quantizers({"nncf": tools["nncf"]})) == {OWN, PLAIN, "nncf-openvino", "nncf-onnx"}
    assert quantizers({}) == (OWN, PLAIN)


def test_a_foreign_quantiser_that_fails_is_a_result_with_its_reason(
    graph: Path, recording: Recording, tmp_path: Path
) -> None:
    python = program(tmp_path, "echo trace >&2; echo 'ValueError: no such op' >&2; exit 1")
    item = quantize_graph(
        "nncf-onnx",
        graph,
        recording.batches(PART),
        tmp_path,
        {"nncf": Tool("nncf", python, "9.9")},
        transformer=False,
    )
    assert item.file is None
    assert item.fault == "ValueError: no such op"
    assert item.size == 0
    assert race_graphs(PART, [item], recording, rounds=1, report=lambda stage: None) == []


def test_the_fastest_that_is_close_enough_wins() -> None:
    def row(quantizer: str, cosine: float, identity: float, milliseconds: float) -> Row:
        timing = Timing((milliseconds,), milliseconds)
        return Row(
            PART, quantizer, "OpenVINO f32", Likeness(True, 0.1, cosine, identity), timing, timing
        )

    rows = [
        row(FP32, 1.0, 1.0, 1.0),
        row("far", 0.5, 1.0, 2.0),
        row("mistaken", 0.99, 0.5, 2.0),
        row("slow", 0.999, 1.0, 5.0),
        row("fast", 0.99, 1.0, 4.0),
        Row(PART, "broken", "ONNX Runtime", fault="refused"),
    ]
    best = winner(rows, PART, cosine=0.98, identity=0.99)
    assert best is not None
    assert best.quantizer == "fast"
    assert winner(rows[:3], PART, cosine=0.98, identity=0.99) is None
    assert np.isfinite(best.to_json()["cosine"])


def test_a_refusal_is_told_in_a_word() -> None:
    said = "TensorRT refused the graph: Assertion failed: shiftIsAllZeros: Non-zero zero point"
    assert in_a_word(said) == "refuses zero points"
    assert in_a_word("builds") == "builds"
    assert in_a_word("refused: unknown operator") == "refuses"
