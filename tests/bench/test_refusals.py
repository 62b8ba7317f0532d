"""The bad rungs of the bench are bad in the way that they say, and in no other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from fgmclip.bench.refusals import Refusal, padded, plain_recipe, refusal_table
from fgmclip.export.gate import Verdict
from fgmclip.export.graphs import part_inputs
from fgmclip.export.ladder.candidate import Candidate
from fgmclip.export.names import Part
from fgmclip.export.sources import open_model
from fgmclip.model.network import FgmClip
from fgmclip.model.onnx_graph import to_onnx
from fgmclip.serve.runtimes import open_runtime

PARTS: tuple[Part, ...] = ("clip_image_encoder", "fusion_head")


@pytest.fixture(scope="module")
def demo() -> FgmClip:
    """The shipped model."""
    return open_model("demo")


def answer(candidate: Candidate, inputs: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
    runtime = open_runtime(candidate.runtime, candidate.graph, candidate.options)
    (output,) = runtime.run(inputs).values()
    return np.asarray(output)


@pytest.mark.parametrize("part", PARTS)
def test_padding_changes_the_cost_alone(demo: FgmClip, part: Part, tmp_path: Path) -> None:
    graph = tmp_path / "graph.onnx"
    onnx.save(to_onnx(demo, part), graph)
    inputs = part_inputs(demo.spec, part, 3, seed=0)
    expected = answer(Candidate("fp32", "onnxruntime", graph), inputs)
    (bad,) = padded(graph, tmp_path / "padded.onnx")
    assert bad.rung == "bf16"
    np.testing.assert_allclose(answer(bad, inputs), expected, rtol=1e-4, atol=1e-4)
    nodes = [node.op_type for node in onnx.load(bad.graph).graph.node]
    assert nodes.count("Split") >= 1


def test_the_plain_recipe_is_int8_without_smoothing(demo: FgmClip, tmp_path: Path) -> None:
    graph = tmp_path / "graph.onnx"
    onnx.save(to_onnx(demo, "motion_encoder"), graph)
    batches = [part_inputs(demo.spec, "motion_encoder", 2, seed) for seed in (1, 2)]
    candidates = plain_recipe(graph, batches, tmp_path / "plain.onnx")
    assert {item.rung for item in candidates} == {"int8"}
    nodes = [node.op_type for node in onnx.load(tmp_path / "plain.onnx").graph.node]
    assert nodes.count("DequantizeLinear") >= nodes.count("Conv") > 0


def test_the_table_says_what_was_let_through() -> None:
    verdict = Verdict(
        part="motion_encoder",
        rung="int8",
        runtime="openvino",
        size=1,
        finite=True,
        max_abs=0.1,
        cosine=0.9,
        identity=1.0,
    )
    table = refusal_table([Refusal("plain recipe", "int8", "", (verdict,))], "tiny")
    assert [list(column.cells) for column in table.columns] == [
        ["plain recipe"],
        ["motion_encoder"],
        ["int8 in openvino"],
        ["passes"],
    ]
