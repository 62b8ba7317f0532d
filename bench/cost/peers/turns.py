"""What every child does: make itself ready, then run one clip for each line it reads."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgmclip.bench.cost.peer_process import FRAMES_FILE, TASK_FILE
from fgmclip.bench.stages import milliseconds

Frames = NDArray[np.uint8]
Probabilities = NDArray[np.float32]

_LONGEST_REASON = 300


@dataclass(frozen=True, slots=True)
class Ready:
    """A competitor that can be timed.

    Attributes:
        run: Frames u8 [n+1,H,W,3] to PROBABILITIES [1,C].
        clock: Makes a call and returns its milliseconds.
    """

    run: Callable[[Frames], Probabilities]
    clock: Callable[[Callable[[], object]], float] = milliseconds


def take_turns(prepare: Callable[[dict[str, Any]], Ready]) -> None:
    """Answer lines of the standard input until it ends, in the process of a `PeerProcess`.

    The first answer, before any line, is that of a first clip; one with `error` is the last.

    Args:
        prepare: Opens what the task names.
    """
    folder = Path(sys.argv[1])
    # Libraries print what they please; the pipe is for answers alone.
    answers = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)

    def say(answer: dict[str, Any]) -> None:
        answers.write(json.dumps(answer) + "\n")

    frames = np.load(folder / FRAMES_FILE)
    try:
        ready = prepare(json.loads((folder / TASK_FILE).read_text(encoding="utf-8")))
        say({"milliseconds": timed(ready, frames)})
        for _ in sys.stdin:
            say({"milliseconds": timed(ready, frames)})
    except Exception as error:
        say({"error": reason(error)})


def reason(error: Exception) -> str:
    """Return an error in one line that fits into a table's note."""
    text = " ".join(str(error).split())
    if len(text) > _LONGEST_REASON:
        text = text[:_LONGEST_REASON] + "..."
    return f"{type(error).__name__}: {text}"


def timed(ready: Ready, frames: Frames) -> float:
    """Return how long one clip takes, milliseconds.

    Raises:
        ValueError: What came out are no probabilities.
    """
    answers: list[Probabilities] = []
    took = ready.clock(lambda: answers.append(ready.run(frames)))
    (probabilities,) = answers
    # A competitor that computes nonsense is no competitor, however fast it is.
    if not np.isfinite(probabilities).all() or not np.allclose(probabilities.sum(), 1, atol=0.05):
        raise ValueError(f"expected probabilities, got a sum of {probabilities.sum()}")
    return took
