"""Make the demo model from nothing: generated videos, rows, epochs, figures on fresh seeds.

`python -m fgmclip.training.demo assets/demo.safetensors`
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import Progress

from fgmclip.command import make_console, run_command
from fgmclip.spec import preset
from fgmclip.spec.presets import DEMO_ACTIONS
from fgmclip.training.augment import Augmentation
from fgmclip.training.commands import RunFiles, save_trained, without_motion
from fgmclip.training.dataset import Dataset, read_dataset
from fgmclip.training.evaluate import Evaluation
from fgmclip.training.run import Workshop, evaluate_model, train_model
from fgmclip.training.settings import TrainSettings
from fgmclip.video.samples import INDEX_FILE, generate_samples

TRAIN_SEED = 20_000
HELD_OUT_SEED = 90_000
"""Seeds of the two sets; the generator gives other videos for each."""

ACTIONS = tuple(DEMO_ACTIONS)
PAIRS = tuple(zip(ACTIONS[0:8:2], ACTIONS[1:8:2], strict=True))
"""Actions that differ only in the direction of motion: no single frame tells them apart."""

SETTINGS = TrainSettings(
    epochs=18,
    batch=16,
    # At 1e-3 the frames-only comparison never leaves chance.
    learning_rate=4e-4,
    visual_dropout=0.1,
    # The figures wear any colours: which ones means nothing.
    augmentation=Augmentation(recolor=0.5),
)


def pair_figures(evaluation: Evaluation) -> dict[str, Any]:
    """Return how well directions are told apart, and how well the other actions are named.

    Within a pair, chance is 0.5: `within` counts only answers that fell into the pair.
    """
    pairs = {}
    for pair in PAIRS:
        asked = [item for item in evaluation.predictions if item.label in pair]
        inside = [item for item in asked if item.predicted in pair]
        pairs[" / ".join(pair)] = {
            "right": sum(item.label == item.predicted for item in asked) / len(asked),
            "within": sum(item.label == item.predicted for item in inside) / max(len(inside), 1),
        }
    others = [item for item in evaluation.predictions if all(item.label not in p for p in PAIRS)]
    return {
        "pairs": pairs,
        "others": sum(item.label == item.predicted for item in others) / max(len(others), 1),
    }


def _generated(work: Path, *, per_class: int, seed: int) -> Dataset:
    folder = work / f"videos-{seed}-{per_class}"
    # The index is written last: where it is, all videos are.
    if not (folder / INDEX_FILE).is_file():
        with Progress() as bar:
            task = bar.add_task("Drawing videos")
            generate_samples(
                folder,
                per_class=per_class,
                seed=seed,
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
    return read_dataset(folder / INDEX_FILE)


def make_demo(
    out: Path, work: Path, *, per_class: int, held_out: int, motion: bool, settings: TrainSettings
) -> dict[str, Any]:
    """Generate, train, evaluate on fresh seeds; write the checkpoint and return the figures.

    Args:
        out: Checkpoint to write.
        work: Folder for videos and rows, reused when they are there.
        per_class: Training videos of each action.
        held_out: Held-out videos of each action.
        motion: False trains the same model without motion, for comparison.
        settings: How to train.
    """
    begun, cpu = time.monotonic(), time.process_time()
    spec = preset("demo") if motion else without_motion(preset("demo"))
    train_set = _generated(work, per_class=per_class, seed=TRAIN_SEED)
    generated = time.monotonic() - begun
    workshop = Workshop(work / "rows")
    files = RunFiles(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    trained = train_model(
        spec, train_set, settings, workshop, state_path=files.state, log_path=files.log
    )
    save_trained(trained, files)
    seconds = {"generate": generated, **trained.seconds, "all": time.monotonic() - begun}
    fresh = _generated(work, per_class=held_out, seed=HELD_OUT_SEED)
    evaluation = evaluate_model(trained.model, fresh, workshop)
    make_console().print(evaluation.to_table())
    return {
        "seconds": seconds,
        "cpu_seconds_of_this_process": time.process_time() - cpu,
        "megabytes": out.stat().st_size / 1e6,
        "train_loss": trained.records[-1].loss,
        **pair_figures(evaluation),
        "evaluation": evaluation.to_dict(),
    }


def main(
    out: Annotated[Path, typer.Argument(help="Checkpoint to write, NAME.safetensors.")],
    work: Annotated[Path, typer.Option(help="Videos and rows.")] = Path("out/demo-training"),
    per_class: Annotated[int, typer.Option(help="Training videos of each action.")] = 150,
    held_out: Annotated[int, typer.Option(help="Held-out videos of each action.")] = 25,
    epochs: Annotated[int, typer.Option(help="Passes over the videos.")] = SETTINGS.epochs,
    seed: Annotated[int, typer.Option(help="Seed of weights, order and augmentation.")] = 0,
    motion: Annotated[bool, typer.Option(help="Train without motion, to compare.")] = True,
) -> None:
    """Generate the demo's videos, train it, and measure it on fresh seeds."""
    settings = replace(SETTINGS, epochs=epochs, seed=seed)
    figures = make_demo(
        out, work, per_class=per_class, held_out=held_out, motion=motion, settings=settings
    )
    out.with_suffix(".figures.json").write_text(json.dumps(figures, indent=1), encoding="utf-8")
    del figures["evaluation"]
    make_console().print_json(json.dumps(figures))


if __name__ == "__main__":
    sys.exit(run_command(lambda: typer.run(main)))
