"""Named specs: `demo` is trained and shipped, the others await a user's weights.

`gym99` is a *fit* to the paper's Table 6 (166.63 M parameters with the text tower, 192.10 G
multiply-adds a clip), not a reproduction: the paper states no architecture of its encoders.
"""

from __future__ import annotations

from collections.abc import Callable

from fgmclip.spec.errors import SpecError
from fgmclip.spec.flow import FlowSpec
from fgmclip.spec.model import (
    AlignSpec,
    ClassSpec,
    ClipSpec,
    FusionSpec,
    HeadSpec,
    ModelSpec,
    MotionSpec,
    VisualSpec,
)

DEMO_ACTIONS: dict[str, str] = {
    "walk_left": "a person walking to the left",
    "walk_right": "a person walking to the right",
    "sit_down": "a person sitting down",
    "stand_up": "a person standing up",
    "raise_arms": "a person raising both arms",
    "lower_arms": "a person lowering both arms",
    "circle_clockwise": "a person circling an arm clockwise",
    "circle_counterclockwise": "a person circling an arm counterclockwise",
    "jump": "a person jumping in place",
    "wave": "a person waving one hand",
    "kick": "a person kicking",
    "clap": "a person clapping",
}
"""Actions of the generated sample videos; the first eight are four pairs that differ only in the
direction of motion."""


def _numbered(count: int) -> tuple[ClassSpec, ...]:
    digits = len(str(count - 1))
    return tuple(ClassSpec(name=f"class_{index:0{digits}d}") for index in range(count))


def _demo() -> ModelSpec:
    # CLIP's residual tower: from random weights it learns from far fewer pictures than a ViT.
    return ModelSpec(
        name="demo",
        visual=VisualSpec(
            architecture="custom",
            config={
                "embed_dim": 128,
                "vision_cfg": {
                    "image_size": 64,
                    "layers": [1, 1, 1, 1],
                    "width": 16,
                    "head_width": 64,
                },
                "text_cfg": {
                    "context_length": 77,
                    "vocab_size": 49408,
                    "width": 64,
                    "heads": 2,
                    "layers": 1,
                },
            },
            image_size=64,
            width=128,
        ),
        motion=MotionSpec(
            encoder="resnet10_narrow",
            size=64,
            width=128,
            # A swinging arm is few of these pixels wide: small patches, down to full resolution.
            flow=FlowSpec(patch_size=4, patch_stride=2, finest_level=0),
        ),
        clip=ClipSpec(frames=8, window_seconds=1.0),
        align=AlignSpec(method="attention", layers=1, heads=4, projection_width=64),
        fusion=FusionSpec(method="mvsm", width=128),
        classes=tuple(
            ClassSpec(name=name, descriptions=(text,)) for name, text in DEMO_ACTIONS.items()
        ),
    )


def _clip(name: str, architecture: str, width: int, classes: int) -> ModelSpec:
    return ModelSpec(
        name=name,
        visual=VisualSpec(architecture=architecture, image_size=224, width=width),
        motion=MotionSpec(encoder="resnet18", size=112, width=512),
        clip=ClipSpec(frames=8, window_seconds=2.0),
        align=AlignSpec(method="attention"),
        fusion=FusionSpec(method="mvsm", width=512),
        classes=_numbered(classes),
    )


def _gym99() -> ModelSpec:
    return ModelSpec(
        name="gym99",
        visual=VisualSpec(architecture="ViT-B-16", image_size=224, width=512),
        motion=MotionSpec(encoder="resnet18", size=224, width=512),
        clip=ClipSpec(frames=10, window_seconds=2.0),
        align=AlignSpec(method="attention", layers=1, heads=8, projection_width=128),
        fusion=FusionSpec(method="mvsm", width=512),
        head=HeadSpec(kind="linear"),
        classes=_numbered(99),
    )


PRESETS: dict[str, Callable[[], ModelSpec]] = {
    "demo": _demo,
    "b32": lambda: _clip("b32", "ViT-B-32", 512, 101),
    "b16": lambda: _clip("b16", "ViT-B-16", 512, 101),
    "l14": lambda: _clip("l14", "ViT-L-14", 768, 101),
    "gym99": _gym99,
}


def preset(name: str) -> ModelSpec:
    """Return the spec called `name`.

    Raises:
        SpecError: There is no such preset.
    """
    if name not in PRESETS:
        raise SpecError(f"no preset is called {name!r}; there are {', '.join(PRESETS)}")
    return PRESETS[name]()
