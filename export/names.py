"""Names of models, steps and files in a repository."""

from __future__ import annotations

import re
from typing import Literal

Part = Literal["clip_image_encoder", "motion_encoder", "fusion_head"]

PARTS: tuple[Part, ...] = ("clip_image_encoder", "motion_encoder", "fusion_head")
"""Submodules that become an engine each."""

STEPS: tuple[str, ...] = (
    "preprocess",
    "preprocess_edge",
    *PARTS,
    "window",
    "classify",
)
"""Models that belong to one release and carry its number in their names."""

ENSEMBLES: tuple[str, ...] = ("fgm_clip", "fgm_clip_stream", "fgm_clip_edge")
"""Public models; each names the steps of exactly one release."""

# No other step's name: what a release left is removed, and a model of someone else is none.
_STEP = re.compile(rf"^(?:{'|'.join(STEPS)})__r(?P<release>[1-9][0-9]*)$")
_MANIFEST = re.compile(r"^manifest-r(?P<release>[1-9][0-9]*)\.json$")
_BESIDE = re.compile(r"^(?:gate-r(?P<gate>[1-9][0-9]*)\.md|labels-r(?P<labels>[1-9][0-9]*)\.txt)$")


def step_name(step: str, release: int) -> str:
    """Return the Triton model name of a step, for example `window__r7`."""
    return f"{step}__r{release}"


def step_release(name: str) -> int | None:
    """Return the release that a folder or model name belongs to, or None if it is no step."""
    match = _STEP.match(name)
    return int(match["release"]) if match else None


def manifest_name(release: int) -> str:
    """Return the file name of a release's manifest, for example `manifest-r7.json`."""
    return f"manifest-r{release}.json"


def gate_name(release: int) -> str:
    """Return the file name of a release's gate report, for example `gate-r7.md`."""
    return f"gate-r{release}.md"


def manifest_release(name: str) -> int | None:
    """Return the release of a manifest's file name, or None if it is no manifest."""
    match = _MANIFEST.match(name)
    return int(match["release"]) if match else None


def labels_name(release: int) -> str:
    """Return the file name of a release's labels inside an ensemble's folder."""
    return f"labels-r{release}.txt"


def beside_release(name: str) -> int | None:
    """Return the release of a gate report's or a labels file's name, or None if it is neither."""
    match = _BESIDE.match(name)
    return int(match["gate"] or match["labels"]) if match else None
