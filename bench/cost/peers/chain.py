"""The child that runs graphs one after the other in ONNX Runtime or OpenVINO, without a server."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fgmclip.bench.cost.peers.turns import Frames, Probabilities, Ready, take_turns
from fgmclip.kernels.parameters import PreprocessParameters
from fgmclip.kernels.preprocess import preprocess
from fgmclip.serve.runtimes import open_runtime
from fgmclip.serve.steps.classify import softmax

How = Literal["onnxruntime", "openvino", "release-onnxruntime", "release-openvino"]
"""A runtime as it comes, or as a release of ours opens it."""

Array = NDArray[np.float32]
Run = Callable[[Mapping[str, Array]], Array]


@dataclass(frozen=True, slots=True)
class Stage:
    """One graph of a chain.

    Attributes:
        graph: The `.onnx` file.
        inputs: Names of its inputs.
        output: Name of its output.
        how: What runs it.
        options: What that is told: of a runtime as it comes its own options, of a release's those
            of `fgmclip.serve.runtimes.open_runtime`.
    """

    graph: str
    inputs: tuple[str, ...]
    output: str
    how: How
    options: Mapping[str, Any] = field(default_factory=dict)


def chain_task(
    stages: Sequence[Stage], parameters: PreprocessParameters, device: str
) -> dict[str, Any]:
    """Return what this child is told.

    Args:
        stages: In the order of running; the last one's output is LOGITS.
        parameters: What turns frames into PIXELS and MOTION.
        device: `cpu` or `cuda`; OpenVINO computes on the CPU in any case.
    """
    return {
        "stages": [asdict(stage) for stage in stages],
        "preprocess": asdict(parameters),
        "device": device,
    }


class Chain:
    """Frames to PROBABILITIES through a chain of graphs."""

    def __init__(self, task: Mapping[str, Any]) -> None:
        """Open every graph of a `chain_task` with `threads`."""
        self._parameters = PreprocessParameters.from_dict(task["preprocess"])
        stages = [Stage(**stage) for stage in task["stages"]]
        self._stages = [
            (stage, open_stage(stage, task["threads"], task["device"])) for stage in stages
        ]

    def run(self, frames: Frames) -> Probabilities:
        """Return PROBABILITIES [1,C] of frames u8 [T+1,H,W,3]."""
        pixels, motion = preprocess(frames, self._parameters)
        tensors: dict[str, Array] = {"PIXELS": pixels}
        if motion is not None:
            tensors["MOTION"] = motion
        for stage, run in self._stages:
            if "CLIP" in stage.inputs:
                tensors["CLIP"] = np.ascontiguousarray(pixels.transpose(1, 0, 2, 3))[None]
            rows = run({name: tensors[name] for name in stage.inputs})
            # What an encoder makes of T frames is one window of the head.
            window = stage.output in ("VISUAL", "MOTION_FEATURES")
            tensors[stage.output] = rows[None] if window else rows
        return softmax(tensors["LOGITS"])


def open_stage(stage: Stage, threads: int, device: str) -> Run:
    """Load a graph with the runtime that the stage names; only that one is imported."""
    if stage.how == "onnxruntime":
        return _open_onnxruntime(stage, threads, device)
    if stage.how == "openvino":
        return _open_openvino(stage, threads)
    runtime = open_runtime(stage.how.removeprefix("release-"), Path(stage.graph), stage.options)

    def run(inputs: Mapping[str, Array]) -> Array:
        (output,) = runtime.run(inputs).values()
        return output

    return run


def _open_onnxruntime(stage: Stage, threads: int, device: str) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    providers = ["CUDAExecutionProvider"] if device == "cuda" else []
    session = onnxruntime.InferenceSession(
        stage.graph, options, providers=[*providers, "CPUExecutionProvider"]
    )

    def run(inputs: Mapping[str, Array]) -> Array:
        output: Array = session.run(None, dict(inputs))[0]
        return output

    return run


def _open_openvino(stage: Stage, threads: int) -> Run:
    from fgmclip.serve.runtimes.openvino_cpu import core

    config = {"INFERENCE_NUM_THREADS": threads, **stage.options}
    compiled = core().compile_model(stage.graph, "CPU", config)

    def run(inputs: Mapping[str, Array]) -> Array:
        output: Array = compiled(dict(inputs))[0]
        return output

    return run


def openvino_precision() -> str:
    """Return what OpenVINO computes fp32 graphs in on this machine, unless told otherwise.

    Raises:
        ImportError: OpenVINO is not installed.
    """
    from fgmclip.serve.runtimes.openvino_cpu import core

    return str(core().get_property("CPU", "INFERENCE_PRECISION_HINT").to_string())


def prepare(task: dict[str, Any]) -> Ready:
    """Open what a `chain_task` names."""
    return Ready(Chain(task).run)


if __name__ == "__main__":
    take_turns(prepare)
