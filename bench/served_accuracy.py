"""Real video, served: each fold's model is exported, asked over gRPC, and held to PyTorch.

Run as `python bench/served_accuracy.py RUN DATA` after `python -m fgmclip.training.ut_interaction
DATA --out RUN ...`. Every held-out clip is named by the server that never saw its group. Exit code
0 when at least 60 % are right and every answer is PyTorch's, else 4.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from fgmclip.client import ActionClient
from fgmclip.command import run_command
from fgmclip.export.release import export_release
from fgmclip.kernels.parameters import PreprocessParameters
from fgmclip.kernels.preprocess import preprocess
from fgmclip.model.checkpoint import load_checkpoint
from fgmclip.model.network import FgmClip
from fgmclip.serve import EmbeddedServer
from fgmclip.spec import FgmclipError
from fgmclip.training.dataset import group_folds
from fgmclip.training.ut_interaction import read_ut_interaction
from fgmclip.video.labelled import LabelledVideo
from fgmclip.video.windows import read_windows

BAR = 0.60
"""Share of held-out clips that must be named right; chance is a sixth."""

TOLERANCE = 1e-4
"""How far a served probability may be from PyTorch's."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said of a held-out clip.

    Attributes:
        fold: Number of the fold whose model was asked.
        video: The clip.
        label: Its action.
        named: What the server called it.
        difference: Largest difference of a probability from PyTorch's.
    """

    fold: int
    video: str
    label: str
    named: str
    difference: float


def main(argv: Sequence[str] | None = None) -> int:
    """Run the bench and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="folder with foldN.safetensors and crossval.json")
    parser.add_argument("data", type=Path, help="folder with index.csv")
    parser.add_argument("--json", type=Path, help="write the answers to this file")
    arguments = parser.parse_args(argv)
    console = Console()
    try:
        answers = _ask_all(arguments.run, arguments.data, console)
    except FgmclipError as error:
        Console(stderr=True).print(f"error: {error}", style="red", highlight=False, markup=False)
        return error.exit_code
    crossval = json.loads((arguments.run / "crossval.json").read_text(encoding="utf-8"))
    right = sum(answer.label == answer.named for answer in answers) / len(answers)
    difference = max(answer.difference for answer in answers)
    table = Table(title="Held-out clips, named over gRPC", title_justify="left")
    for column in ("fold", "clips", "right", "largest difference from PyTorch"):
        table.add_column(column, justify="right")
    for fold in sorted({answer.fold for answer in answers}):
        mine = [answer for answer in answers if answer.fold == fold]
        table.add_row(
            str(fold),
            str(len(mine)),
            f"{sum(answer.label == answer.named for answer in mine) / len(mine):.1%}",
            f"{max(answer.difference for answer in mine):.1e}",
        )
    console.print(table)
    console.print(
        f"{len(answers)} clips, {right:.1%} right (at least {BAR:.0%} is the bar, chance "
        f"{1 / 6:.1%}); flow histogram on the same folds {crossval['baseline']['top1']:.1%}; "
        f"largest difference from PyTorch {difference:.1e} (at most {TOLERANCE:.0e})"
    )
    if arguments.json:
        rows = [{name: getattr(answer, name) for name in Answer.__slots__} for answer in answers]
        report = {"right": right, "difference": difference, "answers": rows}
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0 if right >= BAR and difference <= TOLERANCE else 4


def _ask_all(run: Path, data: Path, console: Console) -> list[Answer]:
    dataset = read_ut_interaction(data)
    checkpoints = sorted(run.glob("fold*.safetensors"))
    answers = []
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("classify over gRPC", total=len(dataset.videos))
        folds = group_folds(dataset, len(checkpoints), seed=0)
        for number, (checkpoint, split) in enumerate(zip(checkpoints, folds, strict=True), 1):
            for answer in _ask_fold(number, load_checkpoint(checkpoint), split.held_out.videos):
                answers.append(answer)
                progress.advance(task)
    return answers


def _ask_fold(number: int, model: FgmClip, videos: Sequence[LabelledVideo]) -> Iterator[Answer]:
    with tempfile.TemporaryDirectory() as folder:
        export_release(model, Path(folder))
        with EmbeddedServer(Path(folder)) as server, ActionClient(server.url) as client:
            for video in videos:
                result = client.classify(video.path)
                expected = dict(
                    zip(model.spec.labels, pytorch_probabilities(model, video.path), strict=True)
                )
                difference = max(abs(value - expected[label]) for label, value in result.top)
                yield Answer(number, video.path.name, video.label, result.label, float(difference))


@torch.inference_mode()
def pytorch_probabilities(model: FgmClip, path: Path) -> NDArray[np.float32]:
    """Return PROBABILITIES [C] of a video as PyTorch computes them, averaged over its windows."""
    parameters = PreprocessParameters.from_spec(model.spec)
    rows = []
    for window in read_windows(path, model.spec.clip):
        pixels, motion = preprocess(
            window.frames,
            parameters,
            color_matrix=window.color_matrix,
            color_range=window.color_range,
        )
        output = model(
            torch.from_numpy(pixels)[None],
            None if motion is None else torch.from_numpy(motion)[None],
        )
        rows.append(output.probabilities[0].numpy())
    mean: NDArray[np.float32] = np.mean(rows, axis=0)
    return mean


if __name__ == "__main__":
    sys.exit(run_command(main))
