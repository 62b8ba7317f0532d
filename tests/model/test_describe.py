"""Descriptions: the two counts agree, and `gym99` fits the paper's Table 6."""

from __future__ import annotations

import io
import json
from collections.abc import Callable

import pytest
from rich.console import Console

from fgmclip.model.build import build_model
from fgmclip.model.describe import describe, print_description
from fgmclip.spec import ModelSpec, preset

SpecFactory = Callable[..., ModelSpec]


def test_a_model_is_described_part_by_part(tiny: SpecFactory) -> None:
    model = build_model(tiny(head={"kind": "both"}), seed=0)
    description = describe(model)
    assert [part.name for part in description.parts] == [
        "clip_image_encoder",
        "motion_encoder",
        "fusion_head",
        "classifier",
        "text_encoder",
    ]
    assert description.parameters == sum(item.numel() for item in model.parameters())
    encoder, *_, text = description.parts
    assert encoder.inputs == {"PIXELS": ["N", 3, 32, 32]}
    assert encoder.outputs == {"VISUAL": ["N", 16]}
    assert (encoder.runs, encoder.served) == (5, True)
    assert (text.runs, text.served, text.multiply_adds) == (0, False, None)
    assert description.parameters_served == description.parameters - text.parameters
    for part in description.parts[:-1]:
        assert part.multiply_adds
        assert part.multiply_adds == pytest.approx(part.multiply_adds_torch, rel=0.01)
    table = io.StringIO()
    print_description(description, Console(file=table, width=200))
    assert "text_encoder (counted, not served)" in table.getvalue()
    whole = json.loads(description.to_json())
    assert whole["multiply_adds_per_clip"] == description.multiply_adds_per_clip
    assert whole["parts"][2]["inputs"]["MOTION_FEATURES"] == ["B", 5, 24]


def test_without_motion_there_is_no_motion_encoder(tiny: SpecFactory) -> None:
    visual = {"architecture": "torchvision:resnet18", "image_size": 32, "width": 512}
    spec = tiny(visual=visual, motion=None, align={"method": "none"})
    names = [part.name for part in describe(spec).parts]
    assert names == ["clip_image_encoder", "fusion_head", "classifier"]


def test_gym99_fits_the_papers_table_6() -> None:
    description = describe(preset("gym99"))
    parameters, multiply_adds = description.parameters, description.multiply_adds_per_clip
    assert parameters == pytest.approx(166.63e6, rel=0.02)
    assert multiply_adds == pytest.approx(192.10e9, rel=0.02)
    assert multiply_adds == pytest.approx(description.multiply_adds_per_clip_torch, rel=0.01)
    counts = {part.name: part.parameters for part in description.parts}
    assert counts["text_encoder"] == pytest.approx(63.4e6, rel=0.01)
    assert counts["fusion_head"] == pytest.approx(5.8e6, rel=0.05)
