"""The ladder: what is taken, what is refused, and that a refusal names the submodule."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import pytest
from onnxruntime.quantization.calibrate import TensorData

from fgmclip.export import climb as climb_module
from fgmclip.export import trial as trial_module
from fgmclip.export.calibration import Clips
from fgmclip.export.chain import Chain, Judge
from fgmclip.export.classes import class_arrays
from fgmclip.export.climb import Ladder
from fgmclip.export.eager import EagerProcess
from fgmclip.export.errors import GateError
from fgmclip.export.gate import Likeness, Thresholds, Verdict, likeness
from fgmclip.export.graphs import parts_of
from fgmclip.export.ladder import rungs as rungs_module
from fgmclip.export.ladder.candidate import Candidate
from fgmclip.export.ladder.int8 import Calibrated, calibrate, quantize
from fgmclip.export.ladder.rungs import CpuRungs, GpuRungs
from fgmclip.export.ladder.sensitive import sensitive_nodes
from fgmclip.export.names import Part
from fgmclip.export.outliers import inject_outliers
from fgmclip.export.recording import Recording, record
from fgmclip.export.trial import Race
from fgmclip.model.network import FgmClip
from fgmclip.model.onnx_graph import to_onnx
from fgmclip.serve.runtimes import open_runtime
from fgmclip.serve.runtimes.openvino_cpu import computes_bf16
from fgmclip.serve.steps.classify import class_logits

ANY_SPEED = Thresholds(speedup=0)
"""Times of models this small say nothing, so most tests leave them out."""

LINEAR = ("QuantizeLinear", "DequantizeLinear")


def clips(model: FgmClip, seed: int, count: int = 12) -> Clips:
    """Return pictures of blobs rather than noise, so that embeddings differ."""
    random = np.random.default_rng(seed)

    def blobs(size: int) -> Any:
        coarse = random.standard_normal((count, model.spec.clip.frames, 3, 4, 4))
        return np.kron(coarse, np.ones((size // 4, size // 4))).astype(np.float32)

    return Clips(blobs(32), blobs(32), ("x",) * count)


@pytest.fixture(scope="module")
def model(tiny: FgmClip) -> FgmClip:
    """The small model with outlier channels."""
    model = copy.deepcopy(tiny)
    inject_outliers(model, seed=0)
    return model


@pytest.fixture(scope="module")
def recordings(model: FgmClip) -> tuple[Recording, Recording]:
    """PyTorch on clips to calibrate with and on clips to judge by."""
    return (
        record(model, clips(model, 1), lambda what: None),
        record(model, clips(model, 2), lambda what: None),
    )


@pytest.fixture(scope="module")
def graphs(model: FgmClip, tmp_path_factory: pytest.TempPathFactory) -> dict[Part, Path]:
    """Its fp32 graphs."""
    folder = tmp_path_factory.mktemp("graphs")
    paths: dict[Part, Path] = {}
    for part in parts_of(model.spec):
        paths[part] = folder / f"{part}.onnx"
        onnx.save(to_onnx(model, part), paths[part])
    return paths


def ladder(
    model: FgmClip,
    recordings: tuple[Recording, Recording],
    folder: Path,
    thresholds: Thresholds = ANY_SPEED,
) -> Ladder:
    calibration, gate = recordings
    rungs = CpuRungs(calibration, thresholds, folder, lambda what: None)
    return Ladder(rungs, judge(model, gate, thresholds), source="blobs", report=lambda what: None)


def judge(model: FgmClip, gate: Recording, thresholds: Thresholds = ANY_SPEED) -> Judge:
    classes = class_arrays(model)
    return Judge(
        gate,
        thresholds,
        classify=lambda embedding: class_logits(embedding, classes),
        names=tuple(item.name for item in model.spec.classes),
        trained=False,
    )


def judged(recording: Recording, part: Part, graph: Path) -> Likeness:
    runtime = open_runtime("openvino", graph, {"precision": "f32"})
    rows = [next(iter(runtime.run(batch).values())) for batch in recording.batches(part)]
    return likeness(recording.outputs[part], np.concatenate(rows))


@pytest.mark.parametrize("part", ["clip_image_encoder", "motion_encoder"])
def test_the_plain_recipe_fails_on_outliers_where_the_smoothed_one_passes(
    part: Part,
    recordings: tuple[Recording, Recording],
    graphs: Mapping[Part, Path],
    tmp_path: Path,
) -> None:
    calibration, gate = recordings
    plain = calibrate(graphs[part], calibration.batches(part), smoothing=False)
    quantize(plain, tmp_path / "plain.onnx", nodes=plain.nodes)
    smoothed = calibrate(graphs[part], calibration.batches(part))
    quantize(smoothed, tmp_path / "smoothed.onnx", nodes=smoothed.nodes)
    assert judged(gate, part, tmp_path / "plain.onnx").fault(Thresholds())
    assert judged(gate, part, tmp_path / "smoothed.onnx").fault(Thresholds()) == ""


def test_smoothing_alone_changes_nothing_but_rounding(
    recordings: tuple[Recording, Recording], graphs: Mapping[Part, Path], tmp_path: Path
) -> None:
    calibration, gate = recordings
    for part, graph in graphs.items():
        path = tmp_path / "smooth.onnx"
        onnx.save(calibrate(graph, calibration.batches(part)).model, path)
        scale = float(np.abs(gate.outputs[part]).max())
        assert judged(gate, part, path).max_abs <= 1e-4 * max(1.0, scale)


def test_the_graph_says_int8_signed_and_symmetric_with_weights_by_channel(
    recordings: tuple[Recording, Recording], graphs: Mapping[Part, Path], tmp_path: Path
) -> None:
    part: Part = "motion_encoder"
    calibrated = calibrate(graphs[part], recordings[0].batches(part))
    quantize(calibrated, tmp_path / "int8.onnx", nodes=calibrated.nodes)
    graph = onnx.load(tmp_path / "int8.onnx").graph
    constants = {item.name: onnx.numpy_helper.to_array(item) for item in graph.initializer}
    pairs = [node for node in graph.node if node.op_type in LINEAR]
    assert pairs
    for node in pairs:
        if len(node.input) == 3:
            point = constants[node.input[2]]
            assert point.dtype == np.int8
            assert not point.any()
    weights = [node for node in pairs if node.input[0] in constants]
    assert len(weights) == len(calibrated.nodes)
    assert all(constants[node.input[1]].size > 1 for node in weights)


def test_int8_of_every_submodule_passes_and_says_what_it_is(
    model: FgmClip,
    recordings: tuple[Recording, Recording],
    graphs: Mapping[Part, Path],
    tmp_path: Path,
) -> None:
    with EagerProcess(model, recordings[1]) as eager:
        climbed = ladder(model, recordings, tmp_path).climb(graphs, "int8", eager)
    assert {item.rung for item in climbed.chosen.values()} == {"int8"}
    report = climbed.report
    assert (report.clips, report.frames) == (12, 24)
    taken = [item for item in report.verdicts if item.taken]
    assert [item.part for item in taken] == [*graphs, "chain"]
    for verdict in report.verdicts:
        assert verdict.size > 0
        assert verdict.milliseconds is not None
        assert verdict.milliseconds > 0
    assert report.eager is not None
    assert report.eager.milliseconds > 0
    ways = [item.options for item in report.tuning if item.taken]
    assert ways == [dict(item.options) for item in climbed.chosen.values()]
    for part, item in climbed.chosen.items():
        assert item.graph.stat().st_size < graphs[part].stat().st_size


def test_clipped_scales_are_refused_and_the_submodule_is_named(
    model: FgmClip,
    recordings: tuple[Recording, Recording],
    graphs: Mapping[Part, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def clipped(graph: Path, inputs: Sequence[Any]) -> Calibrated:
        calibrated = calibrate(graph, inputs)
        if graph == graphs["motion_encoder"]:
            for name, ranges in calibrated.ranges.items():
                lowest, highest = ranges.range_value
                calibrated.ranges[name] = TensorData(
                    lowest=lowest * np.float32(0.02), highest=highest * np.float32(0.02)
                )
        return calibrated

    monkeypatch.setattr(rungs_module, "calibrate", clipped)
    with pytest.raises(GateError, match=r"^motion_encoder refused: int8 in .*centred") as caught:
        ladder(model, recordings, tmp_path).climb(graphs, "int8", None)
    assert caught.value.exit_code == 4
    assert "clip_image_encoder" not in str(caught.value)
    refused = {(item.part, item.rung) for item in caught.value.verdicts if item.reason}
    assert refused == {("motion_encoder", "int8")}
    # The ladder has lower rungs for it.
    climbed = ladder(model, recordings, tmp_path).climb(graphs, "auto", None)
    assert climbed.chosen["motion_encoder"].rung != "int8"


class _Named:
    """A runtime that knows which candidate it runs."""

    def __init__(self, candidate: Candidate) -> None:
        self.key = f"{candidate.rung} {candidate.runtime}"
        self._runtime = open_runtime(candidate.runtime, candidate.graph, candidate.options)

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        return self._runtime.run(inputs)


def timed(monkeypatch: pytest.MonkeyPatch, milliseconds: Mapping[str, float]) -> None:
    """Let engines take what a test says, by rung and runtime."""

    def told(first: _Named, second: _Named, inputs: Any) -> Race:
        one, two = milliseconds[first.key], milliseconds[second.key]
        return Race((one, one), (two, two), two / one)

    monkeypatch.setattr(trial_module, "open_judge", _Named)
    monkeypatch.setattr(trial_module, "race", told)


TIMES = {
    "fp32 onnxruntime": 10.0,
    "fp32 openvino": 11.0,
    "bf16 openvino": 6.0,
    "int8 onnxruntime": 8.0,
    "int8 openvino": 4.0,
}


def test_auto_takes_the_fastest_that_passes_whatever_runs_it(
    model: FgmClip,
    recordings: tuple[Recording, Recording],
    graphs: Mapping[Part, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    timed(monkeypatch, TIMES)
    steps = ladder(model, recordings, tmp_path, Thresholds())
    chosen = steps.climb(graphs, "auto", None).chosen
    assert {(item.rung, item.runtime) for item in chosen.values()} == {("int8", "openvino")}
    timed(monkeypatch, TIMES | {"int8 openvino": 20.0, "int8 onnxruntime": 3.0})
    chosen = steps.climb(graphs, "auto", None).chosen
    assert {(item.rung, item.runtime) for item in chosen.values()} == {("int8", "onnxruntime")}


def test_a_slow_rung_is_refused_and_the_submodule_is_named(
    model: FgmClip,
    recordings: tuple[Recording, Recording],
    graphs: Mapping[Part, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    timed(monkeypatch, TIMES | {"int8 openvino": 12.0, "int8 onnxruntime": 13.0})
    steps = ladder(model, recordings, tmp_path, Thresholds())
    with pytest.raises(GateError) as caught:
        steps.climb(graphs, "int8", None)
    for part in graphs:
        assert f"{part} refused: " in str(caught.value)
    assert "0.83 times as fast as fp32 in onnxruntime, expected more than 1.05" in str(caught.value)


def test_a_near_tie_goes_to_the_more_exact_rung(
    model: FgmClip,
    recordings: tuple[Recording, Recording],
    graphs: Mapping[Part, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    timed(monkeypatch, TIMES | {"int8 openvino": 5.8})
    steps = ladder(model, recordings, tmp_path, Thresholds())
    chosen = steps.climb(graphs, "auto", None).chosen
    expected = "bf16" if computes_bf16() else "int8"
    assert {item.rung for item in chosen.values()} == {expected}


@pytest.mark.parametrize("rung", ["fp16", "bf16", "int8"])
def test_engines_for_a_gpu_are_judged_by_what_rounds_as_they_will(
    rung: Literal["fp16", "bf16", "int8"],
    model: FgmClip,
    recordings: tuple[Recording, Recording],
    graphs: Mapping[Part, Path],
    tmp_path: Path,
) -> None:
    calibration, gate = recordings
    rungs = GpuRungs(
        calibration, ANY_SPEED, tmp_path, lambda what: None, "tensorrt", converted=False
    )
    steps = Ladder(rungs, judge(model, gate), source="blobs", report=lambda what: None)
    climbed = steps.climb(graphs, rung, None)
    assert climbed.report.emulated
    assert climbed.report.eager is None
    assert climbed.judged is gate
    for item in climbed.report.verdicts:
        assert item.milliseconds is None
        exact = item.rung in ("fp32", "fp32/fp32/fp32")
        # What rounds is told apart from what does not, and is still close.
        assert (item.max_abs > 1e-4) == (not exact)
        assert item.cosine > 0.98
    for part, candidate in climbed.chosen.items():
        assert (candidate.graph == graphs[part]) == (rung != "int8")


def test_a_chain_that_fails_steps_down_or_is_refused(
    model: FgmClip,
    recordings: tuple[Recording, Recording],
    graphs: Mapping[Part, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    timed(monkeypatch, TIMES)
    steps = ladder(model, recordings, tmp_path, Thresholds())
    left = 2

    class Failing(Chain):
        def verdict(self) -> Verdict:
            nonlocal left
            left -= 1
            verdict = super().verdict()
            reason = "identity 0.0%, expected 99.0%" if left >= 0 else ""
            return verdict.replace(reason=reason)

    monkeypatch.setattr(climb_module, "Chain", Failing)
    climbed = steps.climb(graphs, "auto", None)
    assert [bool(item.reason) for item in climbed.report.verdicts if item.part == "chain"] == [
        True,
        True,
        False,
    ]
    assert any(item.rung != "int8" for item in climbed.chosen.values())
    left = 1
    with pytest.raises(GateError, match=r"^chain: identity"):
        steps.climb(graphs, "int8", None)


def test_bisection_finds_the_nodes_that_cost_too_much() -> None:
    nodes = [f"node_{index}" for index in range(13)]
    asked: list[Sequence[str]] = []

    def loss(group: Sequence[str]) -> float:
        asked.append(group)
        together = {"node_2", "node_4"} <= set(group)
        return 0.02 * len(group) + 0.9 * together + 3 * ("node_11" in group)

    # Harmless alone, harmful together: one of the two is kept.
    assert sensitive_nodes(nodes, loss) == ("node_4", "node_11")
    assert len(asked) < 20
    # Nothing to keep where all pass, and nothing worth keeping where all fail.
    assert sensitive_nodes(nodes, lambda group: 0.4) == ()
    assert sensitive_nodes(nodes, lambda group: 2.0) == ()
