"""`Recording`: what PyTorch makes of some clips, which engines are calibrated on and judged by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fgmclip.export.calibration import Clips
from fgmclip.export.graphs import parts_of, run_part
from fgmclip.export.names import Part
from fgmclip.model.network import FgmClip
from fgmclip.model.onnx_graph import signature

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Recording:
    """Inputs and outputs of every submodule in eager PyTorch, fp32.

    Attributes:
        clips: B clips of T frames.
        inputs: Of each submodule by tensor name: [B T,...] of an encoder, [B,T,...] of the head.
        outputs: Of each submodule: VISUAL [B T,D], MOTION_FEATURES [B T,Dm], EMBEDDING [B,H].
        logits: LOGITS [B,C].
    """

    clips: Clips
    inputs: Mapping[Part, Mapping[str, Array]]
    outputs: Mapping[Part, Array]
    logits: Array

    @property
    def frames(self) -> int:
        """T."""
        return int(self.clips.pixels.shape[1])

    def rows(self, part: Part) -> int:
        """Return how many rows of a submodule are one clip: T of an encoder, 1 of the head."""
        return 1 if part == "fusion_head" else self.frames

    def batches(self, part: Part) -> list[dict[str, Array]]:
        """Return a submodule's inputs clip by clip."""
        rows = self.rows(part)
        count = len(self.outputs[part])
        return [
            {name: value[start : start + rows] for name, value in self.inputs[part].items()}
            for start in range(0, count, rows)
        ]


def record(model: FgmClip, clips: Clips, report: Callable[[str], None]) -> Recording:
    """Run PyTorch over clips, one at a time.

    Args:
        model: In evaluation mode.
        clips: What to run.
        report: Called before each clip.
    """
    encoders = [part for part in parts_of(model.spec) if part != "fusion_head"]
    taken: dict[Part, list[Array]] = {part: [] for part in parts_of(model.spec)}
    logits: list[Array] = []
    for index in range(len(clips.pixels)):
        report(f"PyTorch, clip {index + 1} of {len(clips.pixels)}")
        features: dict[str, Array] = {}
        for part in encoders:
            of = signature(model, part)
            rows = run_part(model, part, {next(iter(of.inputs)): _of(clips, part)[index]})
            taken[part].append(rows)
            features[of.output] = rows[None]
        embedding = run_part(model, "fusion_head", features)
        taken["fusion_head"].append(embedding)
        with torch.inference_mode():
            logits.append(model.classifier(torch.from_numpy(embedding)).numpy())
    outputs = {part: np.concatenate(rows) for part, rows in taken.items()}
    inputs: dict[Part, dict[str, Array]] = {}
    windows: dict[str, Array] = {}
    for part in encoders:
        of = signature(model, part)
        frames = _of(clips, part)
        inputs[part] = {next(iter(of.inputs)): frames.reshape(-1, *frames.shape[2:])}
        windows[of.output] = outputs[part].reshape(*frames.shape[:2], -1)
    inputs["fusion_head"] = windows
    return Recording(clips, inputs, outputs, np.concatenate(logits))


def clip_inputs(clips: Clips, index: int) -> dict[str, Array]:
    """Return one clip: PIXELS [T,3,S,S] and, where there is motion, MOTION [T,3,M,M]."""
    inputs = {"PIXELS": clips.pixels[index]}
    return inputs if clips.motion is None else inputs | {"MOTION": clips.motion[index]}


def _of(clips: Clips, part: Part) -> Any:
    return clips.pixels if part == "clip_image_encoder" else clips.motion
