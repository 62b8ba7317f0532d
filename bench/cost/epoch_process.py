"""`python -m fgmclip.bench.cost.epoch_process MODEL DATASET`: seconds of one epoch of training.

The data set's videos are decoded before the clock starts, as every later epoch finds them.
"""

from __future__ import annotations

import sys
from pathlib import Path

from fgmclip.export.sources import open_model
from fgmclip.spec import PRESETS, FgmclipError, ModelSpec, preset
from fgmclip.training.dataset import read_dataset, with_classes
from fgmclip.training.run import Workshop, default_cache, train_model
from fgmclip.training.settings import TrainSettings


def main(model: str, dataset: str) -> int:
    """Print the seconds and return the exit status."""
    try:
        print(epoch_seconds(_spec(model), Path(dataset)))
    except FgmclipError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def epoch_seconds(spec: ModelSpec, dataset: Path) -> float:
    """Return how long one epoch takes, all weights trained, seconds.

    Args:
        spec: Of the model; it gets the data set's classes.
        dataset: CSV or folder of labelled videos.

    Raises:
        DatasetError: It cannot be read, or a video cannot be decoded.
    """
    data = read_dataset(dataset)
    workshop = Workshop(default_cache(), progress=False)
    settings = TrainSettings(epochs=1)
    trained = train_model(with_classes(spec, data.labels), data, settings, workshop)
    return trained.seconds["epochs"]


def _spec(model: str) -> ModelSpec:
    return preset(model) if model in PRESETS else open_model(model).spec


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
