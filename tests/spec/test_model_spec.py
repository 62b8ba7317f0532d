"""Specs: round trip, and errors that name the field and the remedy."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fgmclip.spec import PRESETS, FgmclipError, ModelSpec, SpecError, preset


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_survives_json(name: str) -> None:
    spec = preset(name)
    assert ModelSpec.from_json(spec.to_json()) == spec


@given(
    frames=st.integers(1, 64),
    seconds=st.floats(0.01, 3600, allow_nan=False),
    threshold=st.floats(0, 0.999),
)
def test_any_valid_numbers_survive_json(frames: int, seconds: float, threshold: float) -> None:
    spec = preset("demo").replace(
        clip={"frames": frames, "window_seconds": seconds},
        head={"kind": "linear", "unknown_threshold": threshold},
    )
    again = ModelSpec.from_json(spec.to_json())
    assert again == spec
    assert again.clip.dt == seconds / frames


def test_an_unknown_preset_lists_the_known_ones() -> None:
    with pytest.raises(SpecError, match="gym99"):
        preset("gym100")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"motion": "none"}, "set align.method to 'none'"),
        ({"visual": {"architecture": "custom", "image_size": 64, "width": 8}}, "config belongs"),
        ({"visual": {"architecture": "ViT-B-16", "image_size": 4, "width": 8}}, "image_size"),
        ({"align": {"method": "attention", "heads": 7}}, "choose a divisor"),
        ({"align": {"method": "warp"}}, "align.method"),
        ({"context": {"source": "prompts"}}, "give at least one"),
        ({"head": {"kind": "text", "temperature": 0}}, "head.temperature"),
        ({"classes": ({"name": "a"}, {"name": "a"})}, "twice"),
        ({"classes": ({"name": "a"}, {"name": "b"}), "head": {"kind": "text"}}, "descriptions"),
        ({"colour": {}}, "colour"),
    ],
)
def test_a_wrong_field_is_named_with_its_remedy(change: dict[str, Any], words: str) -> None:
    fields = json.loads(preset("demo").to_json()) | change
    with pytest.raises(SpecError, match=words) as caught:
        ModelSpec.from_json(json.dumps(fields))
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, FgmclipError)
    assert isinstance(caught.value, ValueError)


def test_text_that_is_no_json_is_refused() -> None:
    with pytest.raises(SpecError, match="ModelSpec is not valid"):
        ModelSpec.from_json("{")


def test_a_spec_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        preset("demo").name = "other"  # type: ignore[misc]
