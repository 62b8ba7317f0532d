"""The bare chain, in a process of its own: kernels and engines of a release, and no server.

Run by `BareProcess` of `overhead_process.py`, which says in a folder what to run and asks over a
pipe. Imports what a release's steps import and nothing else.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fgmclip.kernels.parameters import PreprocessParameters
from fgmclip.kernels.preprocess import preprocess, preprocess_edge
from fgmclip.serve.runtimes import Runtime, open_runtime

PLAN_FILE = "plan.json"

PREPROCESS = "preprocess"
ENGINES = ("clip_image_encoder", "motion_encoder", "fusion_head")
STAGES = (PREPROCESS, *ENGINES)

Arrays = Mapping[str, NDArray[Any]]
T = TypeVar("T")


class BareChain:
    """Preprocessing, encoders and head, called one after the other with a request's arrays."""

    def __init__(self, plan: Mapping[str, Any]) -> None:
        """Open the engines.

        Args:
            plan: `preprocess`: the release's parameters of that name; `engines`: for each of
                `ENGINES`, the arguments of `open_runtime`.
        """
        self._parameters = PreprocessParameters.from_dict(plan["preprocess"])
        self._engines: dict[str, Runtime] = {
            part: open_runtime(name, Path(engine), options)
            for part, (name, engine, options) in plan["engines"].items()
        }
        self._spent: dict[str, float] = {}

    def run(self, inputs: Arrays) -> tuple[NDArray[np.float32], dict[str, float]]:
        """Answer one request.

        Args:
            inputs: A public ensemble's inputs, for one track.

        Returns:
            EMBEDDING [1,H], and milliseconds of each of `STAGES`. Joining the histories is no part
            of them: that is what the step `window` is for.
        """
        self._spent = {}
        pixels, motion = self._timed(PREPROCESS, lambda: self._preprocess(inputs))
        rows = {
            "VISUAL": self._encode("clip_image_encoder", "PIXELS", pixels),
            "MOTION_FEATURES": self._encode("motion_encoder", "MOTION", motion),
        }
        histories = {
            "VISUAL": inputs.get("VISUAL_HISTORY"),
            "MOTION_FEATURES": inputs.get("MOTION_HISTORY"),
        }
        windows = {
            name: new[None]
            if histories[name] is None
            else np.concatenate([histories[name], new[None]], axis=1)
            for name, new in rows.items()
        }
        head = self._engines["fusion_head"]
        embedding = self._timed("fusion_head", lambda: head.run(windows))["EMBEDDING"]
        return embedding, self._spent

    def _preprocess(self, inputs: Arrays) -> tuple[NDArray[np.float32], Any]:
        if "FRAMES" in inputs:
            return preprocess(inputs["FRAMES"], self._parameters)
        return preprocess_edge(inputs["PIXELS_U8"], inputs["LUMA_U8"], self._parameters)

    def _encode(self, part: str, name: str, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        engine = self._engines[part]
        (features,) = self._timed(part, lambda: engine.run({name: rows})).values()
        return features

    def _timed(self, stage: str, call: Callable[[], T]) -> T:
        start = time.perf_counter()
        value = call()
        self._spent[stage] = (time.perf_counter() - start) * 1e3
        return value


def main() -> None:
    """Answer lines of the standard input until it ends.

    A line names a file of arrays in the folder of the first argument, and a number of calls. The
    answer is a line: the times of each call, and the last EMBEDDING.
    """
    folder = Path(sys.argv[1])
    # Libraries print what they please; the pipe is for answers alone.
    answers = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)
    chain = BareChain(json.loads((folder / PLAN_FILE).read_text(encoding="utf-8")))
    requests: dict[str, dict[str, NDArray[Any]]] = {}
    answers.write("ready\n")
    for line in sys.stdin:
        name, calls = line.split()
        if name not in requests:
            with np.load(folder / f"{name}.npz", allow_pickle=False) as file:
                requests[name] = dict(file)
        made = [chain.run(requests[name]) for _ in range(int(calls))]
        embedding = made[-1][0].tolist()
        answers.write(json.dumps({"times": [spent for _, spent in made], "embedding": embedding}))
        answers.write("\n")


if __name__ == "__main__":
    main()
