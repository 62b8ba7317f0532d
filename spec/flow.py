"""The definition of motion that a checkpoint was trained on."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from fgmclip.spec.base import FrozenSpec

FLOW_VERSION = 2
"""Version of the flow algorithm in `fgmclip.kernels`; a new definition gets a new number."""


class FlowSpec(FrozenSpec):
    """Method, version and parameters of the optical flow between two samples (paper 3.3.1).

    A server refuses a checkpoint whose `version` is not its own: motion computed by another
    definition is another input.

    Attributes:
        method: Patch inverse search, coarse to fine, with variational refinement
            (Kroeger et al., "Fast Optical Flow using Dense Inverse Search", ECCV 2016).
        version: Version of that definition.
        coarsest_side: The pyramid is halved until its shorter side would fall below this, pixels.
        finest_level: Level at which the search of patches stops; 0 is full resolution, 1 half of
            it, 2 a quarter. The refinement always goes on to full resolution.
        patch_size: Side of a patch, pixels.
        patch_stride: Distance between patches, pixels.
        iterations: Gauss-Newton steps of a patch on each level.
        stiffness: Weight of the distance that a patch has gone on a level, a pixel of the patch;
            keeps noise from leading patches away.
        propagations: Rounds on each level in which a patch may take over what a neighbour found;
            carries large motions of small things.
        refinement_iterations: Fixed-point steps of the variational refinement at full resolution;
            twice as many at half of it, three times at a quarter, and so on.
        relaxation_iterations: Relaxation sweeps inside one fixed-point step.
        smoothness: Weight of the smoothness term (alpha).
        gradient: Weight of the gradient constancy term (gamma).
        intensity: Weight of the brightness constancy term (delta).
    """

    method: Literal["patch_inverse_search"] = "patch_inverse_search"
    version: int = Field(default=FLOW_VERSION, ge=1)
    coarsest_side: int = Field(default=14, ge=4, le=64)
    finest_level: int = Field(default=2, ge=0, le=4)
    patch_size: int = Field(default=8, ge=4, le=16)
    patch_stride: int = Field(default=4, ge=1, le=16)
    iterations: int = Field(default=2, ge=1, le=64)
    stiffness: float = Field(default=4.0, ge=0.1)
    propagations: int = Field(default=4, ge=0, le=64)
    refinement_iterations: int = Field(default=1, ge=0, le=20)
    relaxation_iterations: int = Field(default=4, ge=1, le=50)
    smoothness: float = Field(default=8.0, ge=0)
    gradient: float = Field(default=10.0, ge=0)
    intensity: float = Field(default=5.0, ge=0)

    @model_validator(mode="after")
    def _patches_cover_evenly(self) -> FlowSpec:
        if self.patch_size % self.patch_stride:
            raise ValueError(
                f"patch_stride {self.patch_stride} does not divide patch_size {self.patch_size}; "
                "choose a divisor, so that every pixel lies in equally many patches"
            )
        return self
