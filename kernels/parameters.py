"""What the kernels need to know, as plain dataclasses.

The Triton steps run in a stock container where pydantic may be absent; they rebuild these from
JSON. Everyone else makes them from a spec.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from fgmclip.spec import FlowSpec, ModelSpec

ColorMatrix = Literal["bt601", "bt709"]
ColorRange = Literal["limited", "full"]
Crop = Literal["center", "letterbox", "squash"]

FLOW_VERSION = 2
"""Version of the flow that `fgmclip.kernels.optical_flow` computes; a new definition gets a new
number, and `fgmclip.spec.flow` names the same one."""


@dataclass(frozen=True, slots=True)
class FlowParameters:
    """Fields of `fgmclip.spec.FlowSpec` that the flow computes with; same names, same units."""

    version: int
    coarsest_side: int
    finest_level: int
    patch_size: int
    patch_stride: int
    iterations: int
    stiffness: float
    propagations: int
    refinement_iterations: int
    relaxation_iterations: int
    smoothness: float
    gradient: float
    intensity: float

    @classmethod
    def from_spec(cls, flow: FlowSpec) -> FlowParameters:
        """Take the fields over from a spec."""
        return cls(**flow.model_dump(exclude={"method"}))


@dataclass(frozen=True, slots=True)
class PreprocessParameters:
    """All that turns frames into PIXELS and MOTION.

    Attributes:
        image_size: S, pixels.
        mean: Mean of each RGB channel in 0..1.
        std: Standard deviation of each RGB channel.
        crop: How a whole frame becomes a square.
        color_matrix: Default luma coefficients.
        color_range: Default value range of NV12 frames.
        motion_size: M, pixels; None for a model without motion.
        flow: Flow parameters; None for a model without motion.
    """

    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    crop: Crop
    color_matrix: ColorMatrix
    color_range: ColorRange
    motion_size: int | None
    flow: FlowParameters | None

    @classmethod
    def from_spec(cls, spec: ModelSpec) -> PreprocessParameters:
        """Take the fields over from a spec."""
        return cls(
            image_size=spec.visual.image_size,
            mean=spec.visual.mean,
            std=spec.visual.std,
            crop=spec.clip.crop,
            color_matrix=spec.color.matrix,
            color_range=spec.color.range,
            motion_size=spec.motion.size if spec.motion else None,
            flow=FlowParameters.from_spec(spec.motion.flow) if spec.motion else None,
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PreprocessParameters:
        """Rebuild from what `dataclasses.asdict` and JSON made of it."""
        fields = dict(values)
        fields["mean"] = tuple(fields["mean"])
        fields["std"] = tuple(fields["std"])
        if fields["flow"] is not None:
            fields["flow"] = FlowParameters(**fields["flow"])
        return cls(**fields)
