"""`Plan`: what a run of `python bench/latency.py` is going to measure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fgmclip.bench.cost.competitor import EAGER, SERVED
from fgmclip.spec import ModelSpec

Device = Literal["cpu", "cuda"]
"""Where competitors compute."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured, decided before the first competitor starts.

    Attributes:
        model: Checkpoint or preset, as `fgmclip.export.sources.open_model` takes it.
        spec: Its spec.
        repository: Directory of models with a release of it; ours is served from here.
        release: Number of that release.
        model_tag: Of its weights, spec and rungs, as its manifest has it.
        precision: Arithmetic of its submodules, for example `int8/bf16/int8`.
        verdict: What the gate said of that.
        quick: Whether only what is quick to set up takes part.
        threads: Threads of every competitor.
        cache: Folder that outlives the run: exports of competitors, by a hash of what they are.
        only: Keys of the entries that take part; empty for all. What others are compared with
            takes part in any case.
        device: Where competitors compute.
    """

    model: str
    spec: ModelSpec
    repository: Path
    release: int
    model_tag: str
    precision: str
    verdict: str
    quick: bool
    threads: int
    cache: Path
    only: frozenset[str] = frozenset()
    device: Device = "cpu"

    def wants(self, key: str) -> bool:
        """Return whether the entry of this key takes part."""
        return not self.only or key in self.only or key in (SERVED, EAGER)

    @property
    def clip(self) -> tuple[int, int, int]:
        """T, height and width of the model's own clip."""
        size = self.spec.visual.image_size
        return self.spec.clip.frames, size, size
