"""`bench/overhead.py`: what is compared, by what, and what is made of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from fgmclip.bench.overhead import (
    BARRED,
    CLIP_PERCENT,
    STREAM_PERCENT,
    requests,
    with_bars,
)
from fgmclip.bench.overhead_bare import ENGINES, PREPROCESS, STAGES
from fgmclip.bench.overhead_instances import with_instances
from fgmclip.bench.overhead_process import BareProcess, BareProcessError, bare_plan
from fgmclip.bench.overhead_race import Case, Comparison, Load, compare
from fgmclip.bench.overhead_table import overhead_table, rest, stage_table
from fgmclip.bench.racing import Timing
from fgmclip.bench.stages import END_TO_END, ENSEMBLE, PHASES, StageTimes
from fgmclip.export.configs import (
    format_config,
    model_config,
    parse_config,
    preprocess_parameters,
)
from fgmclip.spec import Limits, preset

SPEC = preset("demo").replace(
    visual=preset("demo").visual.model_dump() | {"image_size": 64},
    clip={"frames": 2, "window_seconds": 0.5},
)


def mean_graph(inputs: dict[str, list[Any]], output: str, axes: list[int]) -> Any:
    """Return a graph whose output [N] is the mean over some axes, summed over its inputs."""
    nodes, means = [], []
    for name in inputs:
        means.append(f"mean_{name}")
        nodes.append(helper.make_node("ReduceMean", [name, "axes"], [means[-1]], keepdims=0))
    nodes.append(helper.make_node("Sum", means, [output]))
    graph = helper.make_graph(
        nodes,
        "mean",
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, dims)
            for name, dims in inputs.items()
        ],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["N", None])],
        [helper.make_tensor("axes", TensorProto.INT64, [len(axes)], axes)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 10
    return model


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release's folders with engines that only take means: features of three channels."""
    path = tmp_path_factory.mktemp("bare") / "repository"
    graphs = {
        "clip_image_encoder": mean_graph({"PIXELS": ["N", 3, None, None]}, "VISUAL", [2, 3]),
        "motion_encoder": mean_graph({"MOTION": ["N", 3, None, None]}, "MOTION_FEATURES", [2, 3]),
        "fusion_head": mean_graph(
            {"VISUAL": ["N", None, 3], "MOTION_FEATURES": ["N", None, 3]}, "EMBEDDING", [1]
        ),
    }
    for step in (PREPROCESS, *ENGINES):
        folder = path / f"{step}__r1" / "1"
        folder.mkdir(parents=True)
        parameters = {"runtime": "openvino", "engine": "model.onnx", "precision": "f32"}
        if step == PREPROCESS:
            parameters = preprocess_parameters(SPEC, Limits())
        else:
            onnx.save(graphs[step], folder / "model.onnx")
        config = model_config(step, SPEC, 1, parameters)
        (folder.parent / "config.pbtxt").write_text(format_config(config), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def bare(repository: Path) -> Iterator[BareProcess]:
    """The bare chain over those engines, in its process."""
    with BareProcess(bare_plan(repository, 1)) as process:
        yield process


def clip_case(**changes: Any) -> Case:
    frames = np.random.default_rng(0).integers(0, 256, (3, 70, 80, 3), dtype=np.uint8)
    return Case("clip 224", "fgm_clip", {"FRAMES": frames}, ("EMBEDDING",), **changes)


def timing(*milliseconds: float) -> Timing:
    return Timing(milliseconds, min(milliseconds))


def comparison(served: float, bare: float, engines: float, bar: float | None = None) -> Comparison:
    stages = dict.fromkeys(STAGES, bare / len(STAGES))
    return Comparison(
        clip_case(bar=bar), timing(served), timing(bare), timing(engines), stages, 0.0
    )


def test_the_plan_is_the_releases_own(repository: Path) -> None:
    plan = bare_plan(repository, 1)
    assert set(plan["engines"]) == set(ENGINES)
    runtime, engine, options = plan["engines"]["motion_encoder"]
    assert (runtime, options) == ("openvino", {"precision": "f32"})
    assert Path(engine) == repository.resolve() / "motion_encoder__r1" / "1" / "model.onnx"
    assert plan["preprocess"]["image_size"] == 64


def test_the_bare_chain_runs_kernels_and_engines_elsewhere(bare: BareProcess) -> None:
    case = clip_case()
    bare.give(case.key, case.inputs)
    times, embedding = bare.ask(case.key, 3)
    assert len(times) == 3
    assert all(set(spent) == set(STAGES) and min(spent.values()) > 0 for spent in times)
    assert embedding.shape == (1, 3)
    assert np.isfinite(embedding).all()


def test_a_stream_joins_its_history(bare: BareProcess) -> None:
    case = clip_case()
    history = np.full((1, 1, 3), 7.0, np.float32)
    stream = {
        "FRAMES": case.inputs["FRAMES"][-2:],
        "VISUAL_HISTORY": history,
        "MOTION_HISTORY": history,
        "HISTORY_TAG": np.array([b"tag"], dtype=object),
    }
    bare.give("stream", stream)
    bare.give("shifted", stream | {"VISUAL_HISTORY": history + 2})
    _, first = bare.ask("stream", 1)
    _, second = bare.ask("shifted", 1)
    np.testing.assert_allclose(second - first, 1.0, atol=1e-5)


def test_the_bare_process_sleeps_until_it_is_asked(bare: BareProcess) -> None:
    case = clip_case()
    bare.give(case.key, case.inputs)
    bare.ask(case.key, 5)
    number = bare._process.pid

    def ticks() -> int:
        fields = Path(f"/proc/{number}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    # Threads may look for more work for a moment; a spinning one would fill the whole pause.
    subprocess.run([sys.executable, "-c", "import time; time.sleep(0.3)"], check=True)
    before = ticks()
    subprocess.run([sys.executable, "-c", "import time; time.sleep(0.5)"], check=True)
    assert ticks() - before <= os.sysconf("SC_CLK_TCK") // 10


def test_a_bare_chain_that_cannot_start_says_so(tmp_path: Path) -> None:
    plan: dict[str, Any] = {"preprocess": {}, "engines": {}}
    with pytest.raises(BareProcessError, match="got its end with exit status 1"):
        BareProcess(plan).__enter__()


def test_served_and_bare_take_turns(bare: BareProcess) -> None:
    case = clip_case()
    bare.give(case.key, case.inputs)
    _, embedding = bare.ask(case.key, 1)
    asked, ticks = [], []

    def served() -> dict[str, NDArray[Any]]:
        asked.append(1)
        return {"EMBEDDING": embedding + 0.25}

    made = compare(case, served, bare, rounds=2, calls=2, tick=lambda: ticks.append(1))
    assert len(ticks) == 2
    assert len(asked) >= 1 + 2 * 3
    assert len(made.served.milliseconds) == len(made.bare.milliseconds) == 2
    assert made.difference == pytest.approx(0.25)
    assert made.bare.median > made.engines.median > 0
    assert json.loads(json.dumps(made.to_json()))["request_bytes"] == case.inputs["FRAMES"].nbytes


def test_work_of_others_is_told_from_our_own() -> None:
    before, after = Load(0.0, 10.0, 4.0), Load(2.0, 13.0, 6.5)
    assert after.foreign(before) == pytest.approx(0.5 / (2.0 * (os.cpu_count() or 1)))
    now = Load.now()
    assert 0 < now.own <= now.all


@pytest.mark.parametrize(("served", "reached"), [(102.0, True), (104.0, False)])
def test_the_bar_is_held_against_kernels_and_engines(served: float, reached: bool) -> None:
    made = comparison(served, 100.0, 80.0, bar=3.0)
    bar = made.bar()
    assert bar is not None
    assert bar.reached == reached
    assert bar.measured == pytest.approx(served - 100)
    assert made.over_engines.median == pytest.approx(served / 80)
    assert comparison(served, 100.0, 80.0).bar() is None


def test_only_the_model_of_the_bars_has_them() -> None:
    cases = requests(SPEC, "tag")
    bars = {case.name: case.bar for case in with_bars(cases, BARRED)}
    assert bars["clip 224"] == CLIP_PERCENT
    assert bars["stream 224"] == STREAM_PERCENT
    assert all(case.bar is None for case in with_bars(cases, "demo"))


def test_requests_fit_the_public_ensembles() -> None:
    cases = requests(SPEC, "tag")
    for case in cases:
        inputs = {item.name: item for item in model_config(case.model, SPEC, 1, {}).input}
        for name, array in case.inputs.items():
            dims = list(inputs[name].dims)
            assert len(dims) == array.ndim, name
            assert all(dim in (-1, size) for dim, size in zip(dims, array.shape, strict=True))
    assert {"clip 224", "stream 224", "clip 1080p", "stream 480p"} <= {case.name for case in cases}


def test_only_the_encoders_get_more_instances(repository: Path, tmp_path: Path) -> None:
    path = with_instances(repository, tmp_path / "two", 2)
    counts = {
        folder.name.partition("__")[0]: parse_config(
            (folder / "config.pbtxt").read_text(encoding="utf-8")
        )
        .instance_group[0]
        .count
        for folder in path.iterdir()
    }
    assert counts == {
        "preprocess": 1,
        "clip_image_encoder": 2,
        "motion_encoder": 2,
        "fusion_head": 1,
    }


def test_what_no_step_accounts_for() -> None:
    figures = {"preprocess": 2.0, "clip_image_encoder": 50.0, "motion_encoder": 9.0, "window": 1.0}
    times = {name: StageTimes(name, (value,)) for name, value in figures.items()}
    times |= {
        ENSEMBLE: StageTimes(ENSEMBLE, (54.5,)),
        END_TO_END: StageTimes(END_TO_END, (56.0,)),
    }
    assert rest(times) == pytest.approx((1.5, 1.5))


def test_the_tables_name_every_request_and_stage() -> None:
    made = comparison(102.0, 100.0, 80.0)
    phases = {name: (1.0,) for name in PHASES}
    stages = [
        StageTimes("preprocess", (4.0,), phases),
        StageTimes(ENSEMBLE, (5.0,)),
        StageTimes(END_TO_END, (6.0,)),
    ]
    assert overhead_table([made, made], "demo").row_count == 2
    table = stage_table(made, stages)
    assert list(table.columns[0].cells) == [
        "preprocess",
        "between steps",
        "gRPC and client",
        END_TO_END,
    ]
