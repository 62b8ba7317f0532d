"""A model small enough to build, export and count in every test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fgmclip.spec import ModelSpec

SpecFactory = Callable[..., ModelSpec]

FIELDS: dict[str, Any] = {
    "name": "tiny",
    "visual": {
        "architecture": "custom",
        "config": {
            "embed_dim": 16,
            "vision_cfg": {"layers": 1, "width": 16, "head_width": 8, "patch_size": 16},
            "text_cfg": {"width": 16, "heads": 2, "layers": 1},
        },
        "image_size": 32,
        "width": 16,
    },
    "motion": {"encoder": "resnet10_narrow", "size": 32, "width": 24},
    "clip": {"frames": 5},
    "align": {"method": "attention", "heads": 2, "projection_width": 8},
    "fusion": {"width": 12},
    "classes": [
        {"name": "sit", "descriptions": ["a person sits down", "someone sitting down"]},
        {"name": "stand", "descriptions": ["a person stands up"]},
        {"name": "wave", "descriptions": ["a person waves a hand"]},
    ],
}


@pytest.fixture(scope="session")
def tiny() -> SpecFactory:
    """Return a function that makes the small spec, with some fields replaced."""

    def make(**changes: Any) -> ModelSpec:
        return ModelSpec.of(**(FIELDS | changes))

    return make
