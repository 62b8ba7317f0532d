"""The child that runs a whole FGM-CLIP in PyTorch: eager, with bf16 weights, or compiled."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from fgmclip.bench.cost.clock import clock
from fgmclip.bench.cost.peers.turns import Frames, Probabilities, Ready, take_turns
from fgmclip.kernels.parameters import PreprocessParameters
from fgmclip.kernels.preprocess import preprocess
from fgmclip.model.build import build_model
from fgmclip.model.checkpoint import load_checkpoint
from fgmclip.model.network import FgmClip
from fgmclip.spec import ModelSpec


@lru_cache(maxsize=2)
def open_fgm(spec: str, source: str) -> FgmClip:
    """Return an FGM-CLIP with a checkpoint's weights, or random ones if `source` is empty.

    Args:
        spec: As JSON.
        source: The checkpoint.
    """
    if source:
        return load_checkpoint(Path(source))
    return build_model(ModelSpec.from_json(spec, stored=True), seed=0)


def prepare(task: dict[str, Any]) -> Ready:
    """Open the model that the task names.

    Args:
        task: `spec` and `source` as `open_fgm` takes them, `mode` (`fp32`, `bf16` or `compile`),
            `device`, `threads`.
    """
    torch.set_num_threads(task["threads"])
    device, mode = task["device"], task["mode"]
    dtype = torch.bfloat16 if mode == "bf16" else torch.float32
    model = open_fgm(task["spec"], task["source"]).to(device, dtype)
    parameters = PreprocessParameters.from_spec(model.spec)
    network = torch.compile(model) if mode == "compile" else model

    def run(frames: Frames) -> Probabilities:
        pixels, motion = preprocess(frames, parameters)
        inputs = [
            torch.from_numpy(array)[None].to(device, dtype)
            for array in (pixels, motion)
            if array is not None
        ]
        with torch.inference_mode():
            probabilities: Probabilities = network(*inputs).probabilities.float().cpu().numpy()
        return probabilities

    return Ready(run, clock(device))


if __name__ == "__main__":
    take_turns(prepare)
