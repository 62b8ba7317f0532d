"""`window`: new embeddings and the history that came with the request become full windows.

The server keeps no state: the history travels with the request, so any replica can answer and a
restart loses nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgmclip.serve.steps.step import (
    RequestParameters,
    StepConfig,
    StepError,
    Tensors,
    TritonStep,
    each,
)

STREAMS = (
    ("VISUAL", "VISUAL_HISTORY", "VISUAL_WINDOW", "VISUAL_NEW"),
    ("MOTION_FEATURES", "MOTION_HISTORY", "MOTION_WINDOW", "MOTION_NEW"),
)
"""Input, history, window and copy of the new rows, for each kind of feature."""


class WindowStep:
    """Joins history and new rows, after their tag, shapes and values were checked."""

    def __init__(self, config: StepConfig) -> None:
        """Read the parameters `window` (T), `max_tracks` and `embedding_tag`."""
        self._length = int(config.parameters["window"])
        self._max_tracks = int(config.parameters["max_tracks"])
        self._tag = config.parameters["embedding_tag"]
        self._streams = [names for names in STREAMS if names[0] in config.inputs]

    def run(self, batch: Sequence[tuple[Tensors, RequestParameters]]) -> list[Any]:
        """Answer each request by itself: they differ in R and k."""
        return each(self, batch)

    def answer(self, inputs: Tensors, parameters: RequestParameters) -> Mapping[str, NDArray[Any]]:
        """Return windows [R,T,width], new rows [R,k,width] for each stream, and TAG [1]."""
        tracks = self._tracks(inputs)
        if tracks > self._max_tracks:
            raise StepError(
                f"VISUAL_HISTORY: expected 1 to {self._max_tracks} tracks, got {tracks}; send "
                "fewer tracks in a request"
            )
        self._check_tag(inputs)
        outputs: dict[str, NDArray[Any]] = {"TAG": np.array([self._tag.encode()], dtype=object)}
        for name, history_name, window_name, new_name in self._streams:
            rows = inputs[name]
            new = rows.reshape(tracks, rows.shape[0] // tracks, rows.shape[1])
            history = self._history(history_name, inputs.get(history_name), new)
            # A copy of its own: an ensemble's output that is also a step's input deadlocks Triton
            # when only other outputs are requested.
            outputs[new_name] = new.copy()
            outputs[window_name] = np.concatenate([history, new], axis=1)
        return outputs

    def _tracks(self, inputs: Tensors) -> int:
        """Return R, which a request of whole frames says and one of the u8 stages implies."""
        if "TRACKS" in inputs:
            return int(inputs["TRACKS"][0])
        rows = len(inputs["VISUAL"])
        history = inputs.get("VISUAL_HISTORY")
        if history is None or history.size == 0:
            if rows % self._length:
                raise StepError(
                    f"PIXELS_U8: expected a multiple of {self._length} samples without a history, "
                    f"one full window a track, got {rows}; send the history, or full windows"
                )
            return rows // self._length
        tracks = len(history)
        if rows % tracks:
            raise StepError(
                f"PIXELS_U8: expected a multiple of {tracks} samples, as many for each track of "
                f"VISUAL_HISTORY, got {rows}"
            )
        return tracks

    def _check_tag(self, inputs: Tensors) -> None:
        histories = [inputs.get(names[1]) for names in self._streams]
        if all(history is None or history.size == 0 for history in histories):
            return
        tag = inputs.get("HISTORY_TAG")
        if tag is None or tag.size != 1:
            raise StepError(
                f"HISTORY_TAG: expected the TAG that came with the history, as [1], got "
                f"{'nothing' if tag is None else list(tag.shape)}"
            )
        came = tag.reshape(-1)[0]
        came = came.decode(errors="replace") if isinstance(came, bytes) else str(came)
        if came != self._tag:
            raise StepError(
                f"HISTORY_TAG: expected {self._tag}, got {came[:80]}: the history was computed by "
                "another release; drop it and send a full window"
            )

    def _history(
        self, name: str, history: NDArray[np.float32] | None, new: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        tracks, count, width = new.shape
        expected = (tracks, self._length - count, width)
        if history is None or history.size == 0:
            if count != self._length:
                raise StepError(
                    f"{name}: expected {list(expected)} beside {count} new samples, got no "
                    f"history; send it, or {self._length} new samples"
                )
            return new[:, :0]
        if history.shape != expected:
            raise StepError(
                f"{name}: expected {list(expected)} beside {count} new samples, "
                f"got {list(history.shape)}"
            )
        if not np.isfinite(history).all():
            raise StepError(
                f"{name}: expected finite values, got NaN or infinity; drop the history and send "
                "a full window"
            )
        return history


class TritonPythonModel(TritonStep):
    """What Triton loads."""

    def build(self, config: StepConfig) -> WindowStep:
        """Return the window step."""
        return WindowStep(config)
