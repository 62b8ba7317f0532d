"""What a model is: `ModelSpec`, its flow, its presets, and the manifest a server publishes."""

from fgmclip.spec.errors import FgmclipError, SpecError
from fgmclip.spec.flow import FlowSpec
from fgmclip.spec.manifest import Limits, PublicManifest
from fgmclip.spec.model import (
    AlignSpec,
    ClassSpec,
    ClipSpec,
    ColorSpec,
    ContextSpec,
    FusionSpec,
    HeadSpec,
    ModelSpec,
    MotionSpec,
    VisualSpec,
)
from fgmclip.spec.presets import PRESETS, preset

__all__ = [
    "PRESETS",
    "AlignSpec",
    "ClassSpec",
    "ClipSpec",
    "ColorSpec",
    "ContextSpec",
    "FgmclipError",
    "FlowSpec",
    "FusionSpec",
    "HeadSpec",
    "Limits",
    "ModelSpec",
    "MotionSpec",
    "PublicManifest",
    "SpecError",
    "VisualSpec",
    "preset",
]
