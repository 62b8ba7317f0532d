"""The public manifest: what a server tells a client that knows only its address."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fgmclip.spec.base import FrozenSpec
from fgmclip.spec.model import ModelSpec

MANIFEST_FORMAT: Literal[2] = 2
"""Version of the public manifest and of the release manifest; an unknown one is refused."""

MANIFEST_PARAMETER = "fgmclip_manifest"
"""Key of the public manifest in the `parameters` of each public ensemble's Triton config."""


class Limits(FrozenSpec):
    """What a request may ask for; checked before any encoding, the tracks of `fgm_clip_edge` after.

    Attributes:
        max_tracks: Largest R, tracks in one request.
        max_rows: Largest R times n, image encodings in one request.
        min_side: Smallest frame height or width, pixels.
        max_side: Largest frame height or width, pixels.
        max_pixels: Largest height times width.
    """

    max_tracks: int = Field(default=16, ge=1)
    max_rows: int = Field(default=64, ge=1)
    min_side: int = Field(default=16, ge=1)
    max_side: int = Field(default=4096, ge=1)
    max_pixels: int = Field(default=4096 * 2304, ge=1)


class PublicManifest(FrozenSpec):
    """Stands as JSON in the `parameters` of the public ensembles.

    Attributes:
        format: Version of this layout.
        release: Number of the release that the ensemble names (the 7 of `r7`).
        model_tag: Hash over everything that decides an answer; each answer carries it as MODEL_TAG.
        embedding_tag: Hash over everything that decides VISUAL_NEW and MOTION_NEW; histories mix
            only within one.
        precision: Rung of the precision ladder that is served.
        dt: Distance between samples in seconds.
        spec: The model's spec.
        limits: What a request may ask for.
    """

    format: Literal[2] = MANIFEST_FORMAT
    release: int = Field(ge=1)
    model_tag: str
    embedding_tag: str
    precision: str
    dt: float = Field(gt=0)
    spec: ModelSpec
    limits: Limits
