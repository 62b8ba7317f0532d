"""ONNX graphs of the submodules, each held to PyTorch, and then their chain to the whole model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from fgmclip.export.errors import GateError
from fgmclip.export.manifest import PartCheck
from fgmclip.export.names import PARTS, Part
from fgmclip.model.network import FgmClip
from fgmclip.spec import ModelSpec

Array = NDArray[np.float32]

TOLERANCE = 1e-4
"""Largest difference from PyTorch, relative to the largest value where that is above 1."""

BATCHES = (1, 3)
"""Two batch sizes, two inputs: a value that tracing froze into the graph shows up."""


def parts_of(spec: ModelSpec) -> tuple[Part, ...]:
    """Return the submodules that a spec has."""
    return tuple(part for part in PARTS if part != "motion_encoder" or spec.motion is not None)


def part_inputs(spec: ModelSpec, part: Part, batch: int, seed: int) -> dict[str, Array]:
    """Return random inputs of a submodule by tensor name, `batch` rows each."""
    random = np.random.default_rng(seed)

    def normal(*shape: int) -> Array:
        return random.standard_normal((batch, *shape), dtype=np.float32)

    size = spec.visual.image_size
    if part == "clip_image_encoder":
        return {"PIXELS": normal(3, size, size)}
    if part == "motion_encoder":
        motion_size = spec.motion.size if spec.motion else 0
        return {"MOTION": normal(3, motion_size, motion_size)}
    inputs = {"VISUAL": normal(spec.clip.frames, spec.visual.width)}
    if spec.motion is not None:
        inputs["MOTION_FEATURES"] = normal(spec.clip.frames, spec.motion.width)
    return inputs


def run_part(model: FgmClip, part: Part, inputs: Mapping[str, Array]) -> Array:
    """Run a submodule in PyTorch on inputs by tensor name."""
    module = {
        "clip_image_encoder": model.image_encoder,
        "motion_encoder": model.motion_encoder,
        "fusion_head": model.fusion_head,
    }[part]
    assert module is not None
    with torch.inference_mode():
        output: Array = module(*(torch.from_numpy(value) for value in inputs.values())).numpy()
    return output


def compare(part: str, pairs: list[tuple[int, Array, Array]]) -> PartCheck:
    """Hold outputs to PyTorch's.

    Args:
        part: What was run.
        pairs: Batch size, PyTorch's output and the graph's output.

    Raises:
        GateError: An output is not finite or differs by more than the tolerance.
    """
    # NumPy's maximum is NaN where one is, Python's where the first is.
    scale = max(1.0, float(np.max([np.abs(expected).max() for _, expected, _ in pairs])))
    worst = float(np.max([np.abs(expected - came).max() for _, expected, came in pairs]))
    check = PartCheck(
        part=part,
        batches=tuple(batch for batch, _, _ in pairs),
        max_abs=worst if np.isfinite(worst) else float(np.finfo(np.float32).max),
        tolerance=TOLERANCE * scale,
    )
    if not check.max_abs <= check.tolerance:
        raise GateError(
            f"{part}: expected ONNX Runtime within {check.tolerance:.2g} of PyTorch, got "
            f"{check.max_abs:.2g}; nothing was published"
        )
    return check


class GraphChain:
    """The ONNX graphs of a model, run as the server chains them."""

    def __init__(self, graphs: Mapping[Part, Path]) -> None:
        """Load each graph once."""
        self._sessions = {
            part: onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
            for part, path in graphs.items()
        }

    def run(self, part: Part, inputs: Mapping[str, Array]) -> Array:
        """Run one graph on inputs by tensor name."""
        output: Array = self._sessions[part].run(None, dict(inputs))[0]
        return output

    def embed(self, pixels: Array, motion: Array | None) -> Array:
        """Return EMBEDDING [B,H] from PIXELS [B,T,3,S,S] and MOTION [B,T,3,M,M]."""
        windows = {"VISUAL": self._frames("clip_image_encoder", "PIXELS", pixels)}
        if motion is not None:
            windows["MOTION_FEATURES"] = self._frames("motion_encoder", "MOTION", motion)
        return self.run("fusion_head", windows)

    def _frames(self, part: Part, name: str, clips: Array) -> Array:
        rows = self.run(part, {name: clips.reshape(-1, *clips.shape[2:])})
        return rows.reshape(*clips.shape[:2], -1)


def check_graphs(
    model: FgmClip,
    graphs: Mapping[Part, Path],
    classify: Callable[[Array], Array],
    report: Callable[[str], None],
) -> tuple[PartCheck, ...]:
    """Hold every graph, then the chain of graphs and the class file, to PyTorch.

    Args:
        model: The model that the graphs came from.
        graphs: Its graphs.
        classify: EMBEDDING [B,H] to LOGITS [B,C], as the server computes it.
        report: Called with what is checked next.

    Raises:
        GateError: A graph or the chain differs from PyTorch.
    """
    chain = GraphChain(graphs)
    checks = []
    for part in graphs:
        report(f"check {part}")
        pairs = []
        for batch in BATCHES:
            inputs = part_inputs(model.spec, part, batch, seed=batch)
            pairs.append((batch, run_part(model, part, inputs), chain.run(part, inputs)))
        checks.append(compare(part, pairs))
    report("check chain")
    checks.append(compare("chain", [_chain_pair(model, chain, classify, seed) for seed in (1, 2)]))
    return tuple(checks)


def _chain_pair(
    model: FgmClip, chain: GraphChain, classify: Callable[[Array], Array], seed: int
) -> tuple[int, Array, Array]:
    spec, frames = model.spec, model.spec.clip.frames
    pixels = part_inputs(spec, "clip_image_encoder", frames, seed)["PIXELS"][None]
    motion = None
    if spec.motion is not None:
        motion = part_inputs(spec, "motion_encoder", frames, seed)["MOTION"][None]
    with torch.inference_mode():
        expected = model(
            torch.from_numpy(pixels), None if motion is None else torch.from_numpy(motion)
        ).logits.numpy()
    return 1, expected, classify(chain.embed(pixels, motion))
