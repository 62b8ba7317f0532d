"""Eager PyTorch fp32 in a process of its own, to be timed in turn with engines.

In one process with them it was many times slower: their threads and PyTorch's stand in each other's
way. The process waits between its turns without using a core.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import IO

import numpy as np
import torch

from fgmclip.export.errors import ExportError
from fgmclip.export.graphs import parts_of, run_part
from fgmclip.export.recording import Recording, clip_inputs
from fgmclip.model.checkpoint import load_checkpoint, save_checkpoint
from fgmclip.model.network import FgmClip
from fgmclip.model.onnx_graph import signature
from fgmclip.storage.atomic import writing

CHECKPOINT, CLIP = "model.safetensors", "clip.npz"

_REST_SECONDS = 0.02
"""For which PyTorch's threads may spin after a clip, waiting for more, before an engine's turn.
Told to sleep at once they would make PyTorch 1.9 times slower for a small model than it is."""


class EagerProcess:
    """A model in eager PyTorch that runs one clip whenever it is asked to."""

    def __init__(self, model: FgmClip, recording: Recording) -> None:
        """Write down what the process needs; it starts with the `with` block.

        Args:
            model: The model, in evaluation mode.
            recording: Its first clip is the one that is run.
        """
        self._folder = tempfile.TemporaryDirectory(prefix="fgmclip-eager-")
        folder = Path(self._folder.name)
        try:
            save_checkpoint(model, folder / CHECKPOINT)
            with writing(folder / CLIP) as stream:
                np.savez(stream, **clip_inputs(recording.clips, 0))
        except BaseException:
            self._folder.cleanup()
            raise
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> EagerProcess:
        """Start the process and run one clip unseen."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "fgmclip.export.eager", self._folder.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
        )
        self.milliseconds()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the process."""
        assert self._process is not None
        self._process.kill()
        self._process.communicate()
        self._folder.cleanup()

    def milliseconds(self) -> float:
        """Return how long PyTorch needs for one clip now.

        Raises:
            ExportError: The process ended by itself.
        """
        assert self._process is not None
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            stdin.write("\n")
            stdin.flush()
            took = float(stdout.readline())
        except (BrokenPipeError, ValueError) as error:
            raise ExportError(
                "the process that times eager PyTorch ended by itself; free memory and export again"
            ) from error
        time.sleep(_REST_SECONDS)
        return took


def answer(folder: Path, asked: IO[str], told: IO[str]) -> None:
    """Run the clip in `folder` for each line that is read, and write the milliseconds."""
    model = load_checkpoint(folder / CHECKPOINT)
    with np.load(folder / CLIP) as file:
        inputs = dict(file)
    encoders = [part for part in parts_of(model.spec) if part != "fusion_head"]
    for _ in asked:
        start = time.perf_counter()
        features = {}
        for part in encoders:
            of = signature(model, part)
            features[of.output] = run_part(model, part, {name: inputs[name] for name in of.inputs})
        windows = {name: rows[None] for name, rows in features.items()}
        embedding = run_part(model, "fusion_head", windows)
        with torch.inference_mode():
            model.classifier(torch.from_numpy(embedding))
        print(1000 * (time.perf_counter() - start), file=told, flush=True)


if __name__ == "__main__":
    answer(Path(sys.argv[1]), sys.stdin, sys.stdout)
