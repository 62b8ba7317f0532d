"""Configs of a release: what Triton reads must parse and fit together."""

from __future__ import annotations

from typing import Any

import pytest

from fgmclip.export.configs import (
    ensemble_parameters,
    format_config,
    model_config,
    parse_config,
    preprocess_parameters,
)
from fgmclip.export.names import ENSEMBLES, STEPS
from fgmclip.spec import Limits, ModelSpec, PublicManifest, preset
from fgmclip.spec.manifest import MANIFEST_PARAMETER

DEMO = preset("demo")
FRAMES_ONLY = DEMO.replace(motion="none", align={"method": "none"})


def configs(spec: ModelSpec) -> dict[str, Any]:
    models = [name for name in STEPS if spec.motion or name != "motion_encoder"]
    return {name: model_config(name, spec, 7, {}) for name in (*models, *ENSEMBLES)}


@pytest.mark.parametrize("spec", [DEMO, FRAMES_ONLY], ids=["motion", "no motion"])
def test_every_tensor_of_an_ensemble_fits_its_steps(spec: ModelSpec) -> None:
    found = configs(spec)
    by_name = {config.name: config for config in found.values()}
    for ensemble in ENSEMBLES:
        config = found[ensemble]
        produced = {item.name for item in config.input}
        for step in config.ensemble_scheduling.step:
            model = by_name[step.model_name]
            assert set(step.input_map) <= {item.name for item in model.input}
            required = {item.name for item in model.input if not item.optional}
            assert required <= set(step.input_map)
            assert set(step.output_map) <= {item.name for item in model.output}
            assert set(step.input_map.values()) <= produced
            produced |= set(step.output_map.values())
        assert {item.name for item in config.output} <= produced


@pytest.mark.parametrize("ensemble", ENSEMBLES)
def test_no_public_output_is_also_a_step_input(ensemble: str) -> None:
    # Triton deadlocks on such a tensor when only other outputs are requested.
    config = configs(DEMO)[ensemble]
    consumed = {
        value for step in config.ensemble_scheduling.step for value in step.input_map.values()
    }
    assert consumed.isdisjoint(item.name for item in config.output)


def test_sizes_come_from_the_spec() -> None:
    spec = DEMO.replace(clip={"frames": 5, "window_seconds": 1.0})
    found = configs(spec)
    assert list(found["fgm_clip"].input[0].dims) == [6, -1, -1, -1]
    assert list(found["clip_image_encoder"].input[0].dims) == [3, 64, 64]
    assert [list(item.dims) for item in found["fusion_head"].input] == [[5, 128], [5, 128]]
    assert list(found["classify"].output[0].dims) == [-1, -1]


def test_a_model_without_motion_has_no_motion_anywhere() -> None:
    for config in configs(FRAMES_ONLY).values():
        assert "motion" not in format_config(config).lower().replace("fgmclip_manifest", "")


def test_the_manifest_stands_in_the_ensembles_parameters() -> None:
    public = PublicManifest(
        release=7,
        model_tag="m",
        embedding_tag="e",
        precision="fp32",
        dt=DEMO.clip.dt,
        spec=DEMO,
        limits=Limits(),
    )
    text = format_config(model_config("fgm_clip", DEMO, 7, ensemble_parameters(public)))
    again = parse_config(text).parameters[MANIFEST_PARAMETER].string_value
    assert PublicManifest.from_json(again) == public


def test_preprocess_learns_limits_and_window() -> None:
    parameters = preprocess_parameters(DEMO, Limits(max_tracks=3))
    assert '"max_tracks": 3' in parameters["limits"]
    assert '"window": 8' in parameters["limits"]
