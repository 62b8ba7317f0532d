"""`bench/cost/peers`, `peer_process.py` and `bench/naive_repository`: what others compute."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.models import get_model_weights  # type: ignore[import-untyped]
from torchvision.models.video import (  # type: ignore[import-untyped]
    SwinTransformer3d,
    swin_transformer,
)

from fgmclip.bench.cost.competitor import CompetitorError
from fgmclip.bench.cost.peer_process import PeerProcess
from fgmclip.bench.cost.peers import chain, exporting, graphs
from fgmclip.bench.cost.peers.ablations import ablations
from fgmclip.bench.cost.peers.c3d import C3d
from fgmclip.bench.cost.peers.chain import Chain, How, Stage, chain_task
from fgmclip.bench.cost.peers.fgm import counted, make_stage, model_parts
from fgmclip.bench.cost.peers.graphs import Definition, Graph, ModelPart, make_graphs
from fgmclip.bench.cost.peers.i3d import I3d
from fgmclip.bench.cost.peers.mean_clip import TEMPERATURE, MeanHead
from fgmclip.bench.cost.peers.recipe import blank_entry
from fgmclip.bench.cost.peers.servers import NaiveCompetitor
from fgmclip.bench.cost.peers.swin_masks import constant_masks
from fgmclip.bench.cost.peers.turns import Ready, reason, timed
from fgmclip.bench.cost.peers.video_models import VIDEO_MODELS
from fgmclip.bench.frames import moving_frames
from fgmclip.bench.naive_repository import ENSEMBLE, MODEL, write_naive_repository
from fgmclip.bench.naive_repository.model import NaiveClip
from fgmclip.export.configs import parse_config
from fgmclip.kernels.parameters import PreprocessParameters
from fgmclip.kernels.preprocess import preprocess
from fgmclip.model.build import build_model
from fgmclip.model.describe import describe
from fgmclip.spec import ModelSpec, preset
from fgmclip.spec.model import AlignSpec, VisualSpec

VISUAL = VisualSpec(
    architecture="custom",
    config={
        "embed_dim": 32,
        "vision_cfg": {
            "image_size": 64, "patch_size": 32, "layers": 1, "width": 32, "head_width": 16
        },
        "text_cfg": {"vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    },
    image_size=64,
    width=32,
)  # fmt: skip
SPEC = preset("demo").replace(
    name="small", visual=VISUAL, clip={"frames": 2, "window_seconds": 0.5}
)
FRAMES = moving_frames(3, 64, 64)

Paths = dict[ModelPart, Path]


def count(module: torch.nn.Module) -> int:
    return sum(item.numel() for item in module.parameters())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[Definition, Graph]:
    """Return the graphs of the small model, its text tower counted, made in this process."""
    folder = tmp_path_factory.mktemp("graphs")
    found = {}
    for index, part in enumerate((*model_parts(SPEC), "text_tower")):
        definition = Definition.part(SPEC, part)
        target = folder / str(index)
        exporting.make(definition.build, target)
        counts = json.loads((target / graphs.COUNTS_FILE).read_text(encoding="utf-8"))
        found[definition] = Graph(target / graphs.GRAPH_FILE, **counts)
    return found


@pytest.fixture(scope="module")
def paths(made: dict[Definition, Graph]) -> Paths:
    return {part: made[Definition.part(SPEC, part)].path for part in model_parts(SPEC)}


def small_task(paths: Paths, how: How, options: Mapping[str, Any] | None = None) -> dict[str, Any]:
    stages = [make_stage(SPEC, part, path, how, options or {}) for part, path in paths.items()]
    task = chain_task(stages, PreprocessParameters.from_spec(SPEC), "cpu")
    return task | {"threads": 2}


def by_name(paths: Paths) -> dict[str, Path]:
    return {str(part): path for part, path in paths.items()}


def by_pytorch(spec: ModelSpec) -> Any:
    arrays = preprocess(FRAMES, PreprocessParameters.from_spec(spec))
    inputs = [torch.from_numpy(array)[None] for array in arrays if array is not None]
    with torch.inference_mode():
        return build_model(spec, seed=0)(*inputs).probabilities.numpy()


@pytest.mark.parametrize("model", VIDEO_MODELS[:4], ids=lambda model: model.key)
def test_torchvision_models_are_the_published_ones(model: Any) -> None:
    weights = get_model_weights(model.key.replace("-", "_")).KINETICS400_V1
    assert weights.transforms().crop_size == [model.size, model.size]
    with torch.device("meta"):
        assert count(model.build()) == weights.meta["num_params"]


def test_c3d_has_the_published_parameters() -> None:
    with torch.device("meta"):
        # 78.4 M with UCF-101's classes, 4096 + 1 more for each class of Sports-1M's.
        assert count(C3d(101)) / 1e6 == pytest.approx(78.41, abs=0.005)
        assert count(C3d(487)) - count(C3d(101)) == (487 - 101) * 4097
        assert C3d(487)(torch.zeros(1, 3, 16, 112, 112)).shape == (1, 487)


def test_i3d_has_the_published_parameters() -> None:
    with torch.device("meta"):
        assert (count(I3d(400)) - 400 * 1025) / 1e6 == pytest.approx(12.29, abs=0.005)
        model = I3d(400)
        assert model(torch.zeros(1, 3, 64, 224, 224)).shape == (1, 400)
        # What the classifier is averaged over: seven steps of time, as in the paper's code.
        assert model.layers[:-2](torch.zeros(1, 3, 64, 224, 224)).shape == (1, 1024, 7, 1, 1)


def test_swin_with_constant_masks_answers_the_same() -> None:
    def build() -> torch.nn.Module:
        torch.manual_seed(0)
        network: torch.nn.Module = SwinTransformer3d(
            [2, 4, 4], 12, [2], [2], [4, 3, 3], num_classes=3
        )
        return network

    network, shape = build().eval(), (1, 3, 8, 32, 32)
    compute = swin_transformer._compute_attention_mask_3d
    with torch.inference_mode():
        clip = torch.randn(shape)
        expected = network(clip)
        with constant_masks(build, shape):
            # Nothing is computed any more: what export traces are constants.
            assert swin_transformer._compute_attention_mask_3d is not compute
            torch.testing.assert_close(network(clip), expected)
    assert swin_transformer._compute_attention_mask_3d is compute


def test_mean_head_is_cosine_of_the_mean_whatever_the_order() -> None:
    torch.manual_seed(0)
    head = MeanHead(8, 3)
    visual = torch.randn(2, 5, 8)
    frames = visual.numpy() / np.linalg.norm(visual.numpy(), axis=2, keepdims=True)
    mean = frames.mean(axis=1)
    cosine = mean / np.linalg.norm(mean, axis=1, keepdims=True) @ head.texts.numpy().T
    np.testing.assert_allclose(head(visual).numpy(), cosine / TEMPERATURE, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(head(visual.flip(1)), head(visual))


def test_counts_are_those_of_describe(made: dict[Definition, Graph]) -> None:
    parts = {part: Definition.part(SPEC, part) for part in model_parts(SPEC)}
    entry = blank_entry("k", "n", "runtime", (2, 64, 64), precision="fp32", includes="")
    entry = counted(SPEC, parts).entry(entry, made)
    expected = describe(SPEC)
    assert entry.multiply_adds == expected.multiply_adds_per_clip
    assert entry.parameters == expected.parameters
    assert entry.served_parameters == expected.parameters_served


@pytest.mark.parametrize(
    ("how", "options"),
    [
        ("onnxruntime", {}),
        ("openvino", {"INFERENCE_PRECISION_HINT": "f32"}),
        ("release-onnxruntime", {"threads": "1"}),
        ("release-openvino", {"precision": "f32"}),
    ],
)
def test_a_chain_answers_as_pytorch(paths: Paths, how: How, options: dict[str, str]) -> None:
    came = Chain(small_task(paths, how, options)).run(FRAMES)
    np.testing.assert_allclose(came, by_pytorch(SPEC), atol=1e-4)


def test_a_clip_as_a_whole_is_channels_first(tmp_path: Path) -> None:
    class Channels(torch.nn.Module):
        def forward(self, clip: torch.Tensor) -> torch.Tensor:
            return clip.mean(dim=(2, 3, 4))

    path = tmp_path / "channels.onnx"
    torch.onnx.export(
        Channels().eval(),
        (torch.zeros(1, 3, 2, 64, 64),),
        path,
        dynamo=True,
        verbose=False,
        input_names=["CLIP"],
        output_names=["LOGITS"],
    )
    bare = PreprocessParameters.from_spec(SPEC.replace(motion=None, align=AlignSpec(method="none")))
    stage = Stage(str(path), ("CLIP",), "LOGITS", "onnxruntime")
    came = Chain(chain_task([stage], bare, "cpu") | {"threads": 1}).run(FRAMES)
    means = preprocess(FRAMES, bare)[0].mean(axis=(0, 2, 3))
    np.testing.assert_allclose(came[0], np.exp(means) / np.exp(means).sum(), atol=1e-5)


def test_a_process_runs_clips_when_it_is_asked_and_ends(paths: Paths) -> None:
    with PeerProcess(chain.__name__, small_task(paths, "onnxruntime"), FRAMES, 1) as process:
        assert process.first > 0
        assert process.run() > 0
        assert process.run() > 0
        child = process._process
    assert child.returncode == 0


def test_a_process_that_dies_is_told_with_its_last_words(paths: Paths) -> None:
    with PeerProcess(chain.__name__, small_task(paths, "onnxruntime"), FRAMES, 1) as process:
        os.kill(process._process.pid, signal.SIGKILL)
        process._process.wait()
        with pytest.raises(CompetitorError, match="exit status -9"):
            process.run()


def test_what_cannot_be_opened_says_why(tmp_path: Path) -> None:
    task = small_task({"clip_image_encoder": tmp_path / "none.onnx"}, "onnxruntime")
    process = PeerProcess(chain.__name__, task, FRAMES, 1)
    with pytest.raises(CompetitorError, match=r"none\.onnx"), process:
        pass
    with pytest.raises(CompetitorError, match="No module named"):
        PeerProcess("fgmclip.bench.cost.peers.absent", task, FRAMES, 1).__enter__()


@pytest.mark.parametrize("answer", [[[0.5, 0.2]], [[np.nan, 1.0]]])
def test_nonsense_is_no_competitor(answer: list[list[float]]) -> None:
    ready = Ready(lambda frames: np.array(answer, np.float32))
    with pytest.raises(ValueError, match="expected probabilities"):
        timed(ready, FRAMES)


def test_reasons_are_one_short_line() -> None:
    text = reason(RuntimeError("first\n  second " + "x" * 1000))
    assert text.startswith("RuntimeError: first second x")
    assert len(text) < 350


def test_graphs_are_made_once_and_failures_are_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def child(missing: Mapping[Definition, Path], report: Callable[[str], None]) -> dict[str, str]:
        asked.append([definition.name for definition in missing])
        failed = {}
        for definition, folder in missing.items():
            report(definition.name)
            if "classifier" in definition.name:
                failed[str(folder)] = "no"
            else:
                folder.mkdir(parents=True)
                counts = {"parameters": 3, "multiply_adds": 4}
                (folder / graphs.COUNTS_FILE).write_text(json.dumps(counts), encoding="utf-8")
        return failed

    monkeypatch.setattr(graphs, "_make", child)
    good, bad = Definition.part(SPEC, "fusion_head"), Definition.part(SPEC, "classifier")
    told: list[str] = []
    for _ in range(2):
        found = make_graphs([good, good, bad], tmp_path, told.append)
        assert (found[good].parameters, found[good].multiply_adds, found[good].why) == (3, 4, "")
        assert found[bad].why == "no"
    assert asked == [[good.name, bad.name], [bad.name]]
    assert told == [good.name, bad.name, bad.name]


def test_the_child_goes_on_after_a_failure(tmp_path: Path) -> None:
    tasks = [
        {"name": "wrong", "folder": str(tmp_path / "wrong"), "build": {"kind": "video", "key": ""}},
        {
            "name": "text",
            "folder": str(tmp_path / "text"),
            "build": dict(Definition.part(SPEC, "text_tower").build),
        },
    ]
    said: list[dict[str, str]] = []
    exporting.run(tasks, said.append)
    assert [list(answer) for answer in said] == [
        ["name"],
        ["folder", "error"],
        ["name"],
        ["folder"],
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["text"]


def test_models_share_the_graphs_of_parts_that_are_alike() -> None:
    changed = {item.key: item.spec for item in ablations(SPEC)}
    assert list(changed) == [
        "ablation-resnet50", "ablation-no-motion", "ablation-tcn", "ablation-concat"
    ]  # fmt: skip
    same = {
        key: {
            part
            for part in model_parts(spec)
            if Definition.part(spec, part) == Definition.part(SPEC, part)
        }
        for key, spec in changed.items()
    }
    assert same == {
        "ablation-resnet50": {"motion_encoder", "fusion_head", "classifier"},
        "ablation-no-motion": {"clip_image_encoder", "classifier"},
        "ablation-tcn": {"clip_image_encoder", "classifier"},
        "ablation-concat": {"clip_image_encoder", "motion_encoder", "classifier"},
    }


def test_ablations_of_a_model_that_needs_texts_do_without_them() -> None:
    described = SPEC.replace(head={"kind": "text"}, motion=None, align=AlignSpec(method="none"))
    changed = ablations(described.replace(fusion={"method": "concat", "width": 128}))
    assert [item.key for item in changed] == ["ablation-resnet50"]
    assert changed[0].spec.head.kind == "linear"


def test_the_naive_model_answers_as_pytorch_but_for_its_flow(paths: Paths, tmp_path: Path) -> None:
    write_naive_repository(tmp_path, SPEC, by_name(paths), 1)
    for name in (ENSEMBLE, MODEL):
        config = parse_config((tmp_path / name / "config.pbtxt").read_text(encoding="utf-8"))
        assert config.name == name
    clip = NaiveClip(tmp_path / MODEL / "1")
    still = np.repeat(FRAMES[:1], 3, axis=0)
    pixels, motion = preprocess(still, PreprocessParameters.from_spec(SPEC))
    assert motion is not None
    # Nothing moves, so both flows are zero.
    with torch.inference_mode():
        inputs = (torch.from_numpy(pixels)[None], torch.from_numpy(motion)[None])
        expected = build_model(SPEC, seed=0)(*inputs).probabilities.numpy()
    np.testing.assert_allclose(clip.run(still), expected, atol=1e-3)
    assert clip.run(FRAMES).sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.e2e
def test_the_naive_repository_serves(paths: Paths) -> None:
    entry = blank_entry("k", "n", "naive", (2, 64, 64), precision="fp32", includes="")
    competitor = NaiveCompetitor(entry, SPEC, by_name(paths), 1, FRAMES)
    with competitor.open() as run:
        assert run() > 0


def test_stages_survive_the_way_to_the_child(paths: Paths) -> None:
    task = json.loads(json.dumps(small_task(paths, "onnxruntime")))
    stages = [Stage(**stage) for stage in task["stages"]]
    assert [stage.output for stage in stages] == [
        "VISUAL", "MOTION_FEATURES", "EMBEDDING", "LOGITS"
    ]  # fmt: skip
    assert asdict(PreprocessParameters.from_dict(task["preprocess"])) == asdict(
        PreprocessParameters.from_spec(SPEC)
    )
