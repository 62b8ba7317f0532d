"""Where a model comes from: a checkpoint, the shipped demo, or a preset with random weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import fgmclip
from fgmclip.export.errors import ExportError
from fgmclip.export.outliers import inject_outliers
from fgmclip.model.build import build_model
from fgmclip.model.checkpoint import load_checkpoint
from fgmclip.model.network import FgmClip
from fgmclip.spec import PRESETS, preset

DEMO_CHECKPOINT = Path(fgmclip.__file__).parent / "assets" / "demo.safetensors"


def open_model(
    source: str,
    *,
    random_weights: int | None = None,
    outliers: bool = False,
    say: Callable[[str], None] | None = None,
) -> FgmClip:
    """Return the model that a user names.

    Args:
        source: A checkpoint's path, `demo` for the shipped one, or a preset's name.
        random_weights: Seed of random weights for a preset, instead of a checkpoint.
        outliers: Whether random weights get outlier channels, as trained ones have.
        say: Receives a line for the user: which of the checkpoint's weights were taken.

    Raises:
        ExportError: The source is neither a file nor a preset, or a preset lacks its weights.
        CheckpointError: The checkpoint is refused.
    """
    if random_weights is not None:
        model = build_model(preset(source), seed=random_weights)
        if outliers:
            inject_outliers(model, seed=random_weights)
        return model
    path = Path(source)
    if path.is_file():
        return load_checkpoint(path, say=say)
    if source == "demo":
        return load_checkpoint(DEMO_CHECKPOINT, say=say)
    if source in PRESETS:
        raise ExportError(
            f"{source}: a preset has no weights; give a checkpoint of it, or --random-weights SEED"
        )
    if path.is_dir():
        return load_checkpoint(path)  # refuses it by what lies in it
    raise ExportError(
        f"{source}: expected a checkpoint file or a preset ({', '.join(PRESETS)}), found neither"
    )
