"""A model that is small enough to be exported in seconds."""

from __future__ import annotations

import pytest

from fgmclip.model.build import build_model
from fgmclip.model.network import FgmClip
from fgmclip.spec import ModelSpec, preset


def tiny_spec() -> ModelSpec:
    """Return a spec of the demo's kind, a tenth of its size."""
    return preset("demo").replace(
        name="tiny",
        visual={
            "architecture": "custom",
            "config": {
                "embed_dim": 32,
                "vision_cfg": {
                    "image_size": 32,
                    "layers": 1,
                    "width": 32,
                    "head_width": 16,
                    "patch_size": 16,
                },
                "text_cfg": {
                    "context_length": 8,
                    "vocab_size": 64,
                    "width": 16,
                    "heads": 2,
                    "layers": 1,
                },
            },
            "image_size": 32,
            "width": 32,
        },
        motion={"encoder": "resnet10_narrow", "size": 32, "width": 32},
        clip={"frames": 2, "window_seconds": 0.5},
        align={"method": "attention", "heads": 2, "projection_width": 8},
        fusion={"method": "mvsm", "width": 16},
    )


@pytest.fixture(scope="session")
def tiny() -> FgmClip:
    """The small model."""
    return build_model(tiny_spec(), seed=0)
