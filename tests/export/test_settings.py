"""Serving settings: they follow from measured times, and are what stands in the config."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from fgmclip.export.configs import format_config, model_config, parse_config
from fgmclip.export.gate import Verdict
from fgmclip.export.names import ENSEMBLES, PARTS, STEPS
from fgmclip.export.settings import (
    ServingSetting,
    apply_settings,
    cuda_graphs,
    serving_settings,
)
from fgmclip.export.targets import Target, place
from fgmclip.spec import ModelSpec, preset

DEMO = preset("demo").replace(clip={"frames": 8, "window_seconds": 1.0})
FRAMES_ONLY = DEMO.replace(motion="none", align={"method": "none"})


class Gate:
    """The part of a gate report that settings follow from."""

    def __init__(self, **times: tuple[float | None, float | None]) -> None:
        self.verdicts = tuple(
            Verdict(
                part=part,
                rung="int8",
                runtime="openvino",
                milliseconds=clip,
                single_milliseconds=single,
                size=1,
                finite=True,
                max_abs=0,
                cosine=1,
                identity=1,
                taken=taken,
            )
            for part, (clip, single) in times.items()
            # What was refused must not count.
            for taken in (True, False)
        )


MEASURED = Gate(
    clip_image_encoder=(400.0, 60.0),
    motion_encoder=(50.0, 8.0),
    fusion_head=(1.0, 1.0),
    chain=(460.0, 70.0),
)


def configs(spec: ModelSpec, target: Target = "cpu") -> dict[str, Any]:
    steps = [name for name in STEPS if spec.motion or name != "motion_encoder"]
    found = {name: model_config(name, spec, 7, {}) for name in steps}
    for name, config in found.items():
        place(config, name, target)
    return found


def settled(
    spec: ModelSpec = DEMO, target: Target = "cpu", gate: Any = MEASURED
) -> tuple[dict[str, Any], tuple[ServingSetting, ...]]:
    found = configs(spec, target)
    settings = serving_settings(found, spec, target, gate)
    for config in found.values():
        apply_settings(config, settings)
    return found, settings


@pytest.mark.parametrize("spec", [DEMO, FRAMES_ONLY], ids=["motion", "no motion"])
@pytest.mark.parametrize("target", get_args(Target))
@pytest.mark.parametrize("gate", [MEASURED, None], ids=["measured", "not measured"])
def test_every_value_stands_in_its_config(spec: ModelSpec, target: Target, gate: Any) -> None:
    found, settings = settled(spec, target, gate)
    assert {setting.model for setting in settings} == set(found)
    for setting in settings:
        assert setting.why
        config = found[setting.model]
        again = parse_config(format_config(config))
        piece = parse_config(setting.value)
        assert {group.count for group in piece.instance_group} <= {
            group.count for group in config.instance_group
        }
        del piece.instance_group[:]
        for field, value in piece.ListFields():
            if field.name == "model_warmup":
                assert list(getattr(again, field.name)) == list(value)
            else:
                merged = type(value).FromString(getattr(again, field.name).SerializeToString())
                merged.MergeFrom(value)
                assert merged == getattr(again, field.name)


def test_where_a_step_runs_stays_as_the_target_has_it() -> None:
    found, _ = settled(target="onnx-gpu")
    (group,) = found["clip_image_encoder"].instance_group
    assert (group.kind, group.count) == (group.KIND_GPU, 1)


def test_no_step_has_a_queue_policy() -> None:
    found, _ = settled()
    for config in found.values():
        assert not config.dynamic_batching.HasField("default_queue_policy")


def test_without_a_gate_the_reason_is_that_nothing_was_measured() -> None:
    _, settings = settled(gate=None)
    for setting in settings:
        assert not setting.measured
        if setting.setting == "batching":
            assert "not measured" in setting.why


def test_times_that_the_gate_left_out_count_as_not_measured() -> None:
    gate = Gate(clip_image_encoder=(400.0, None), motion_encoder=(None, None))
    _, settings = settled(gate=gate)
    assert all(not setting.measured for setting in settings)


def test_what_merging_saves_is_said() -> None:
    _, settings = settled()
    by_name = {(item.model, item.setting): item for item in settings}
    batching = by_name["clip_image_encoder", "batching"]
    # 400 / 8 = 50 ms a row against 60.
    assert "a row costs 17% less in a batch of 8" in batching.why
    assert batching.measured == {"batch 1": 60.0, "batch 8": 400.0}


def test_engines_are_warmed_up_with_a_frame_and_a_clip() -> None:
    found, _ = settled()
    samples = found["clip_image_encoder"].model_warmup
    assert [(item.name, item.batch_size) for item in samples] == [("batch 1", 1), ("batch 8", 8)]
    assert [list(item.inputs["PIXELS"].dims) for item in samples] == [[3, 64, 64]] * 2
    assert [item.batch_size for item in found["fusion_head"].model_warmup] == [1]


def test_steps_are_warmed_up_with_a_clip_that_they_take() -> None:
    found, _ = settled()
    dims = {
        step: {name: list(data.dims) for name, data in found[step].model_warmup[0].inputs.items()}
        for step in ("preprocess", "preprocess_edge", "window", "classify")
    }
    width = DEMO.visual.width
    assert DEMO.motion is not None
    assert dims == {
        "preprocess": {"FRAMES": [9, 64, 64, 3]},
        "preprocess_edge": {
            "PIXELS_U8": [8, 64, 64, 3],
            "LUMA_U8": [8, 2, DEMO.motion.size, DEMO.motion.size],
        },
        "window": {"VISUAL": [8, width], "MOTION_FEATURES": [8, DEMO.motion.width]},
        "classify": {"EMBEDDING": [1, DEMO.fusion.width]},
    }


def test_cuda_graphs_are_captured_for_a_frame_and_a_clip() -> None:
    config = configs(DEMO, "tensorrt")["clip_image_encoder"]
    setting = cuda_graphs("clip_image_encoder", config, DEMO)
    apply_settings(config, [setting])
    cuda = config.optimization.cuda
    assert cuda.graphs
    assert [item.batch_size for item in cuda.graph_spec] == [1, 8]
    assert [list(item.input["PIXELS"].dim) for item in cuda.graph_spec] == [[3, 64, 64]] * 2
    assert "not measured" in setting.why


def test_settings_applied_twice_are_applied_once() -> None:
    found, settings = settled()
    for config in found.values():
        before = format_config(config)
        apply_settings(config, settings)
        assert format_config(config) == before


def test_a_setting_is_for_its_own_step_alone() -> None:
    config = configs(DEMO)["motion_encoder"]
    before = format_config(config)
    other = cuda_graphs("clip_image_encoder", config, DEMO)
    apply_settings(config, [other])
    assert format_config(config) == before


def test_settings_survive_the_manifest() -> None:
    _, settings = settled()
    assert all(ServingSetting.from_json(item.to_json()) == item for item in settings)
    assert not {item.model for item in settings} & set(ENSEMBLES)
    assert {item.model for item in settings if item.setting == "batching"} == set(PARTS)
