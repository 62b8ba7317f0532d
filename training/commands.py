"""What `fgmclip train` and `fgmclip evaluate` do; the command line adds only its words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fgmclip.model.activation import computing_as, source_of
from fgmclip.model.checkpoint import load_checkpoint, save_checkpoint
from fgmclip.model.weights import read_weights
from fgmclip.spec import AlignSpec, ModelSpec, SpecError, preset
from fgmclip.storage.atomic import remove_temporaries, require_writable
from fgmclip.storage.text import read_text
from fgmclip.training.dataset import Dataset, read_dataset, with_classes
from fgmclip.training.errors import SettingsError
from fgmclip.training.evaluate import Evaluation
from fgmclip.training.run import Initial, TrainedModel, Workshop, evaluate_model, train_model
from fgmclip.training.settings import TrainSettings


def spec_for(
    dataset: Dataset,
    *,
    preset_name: str | None = None,
    spec_file: Path | None = None,
    motion: Literal["none"] | None = None,
) -> ModelSpec:
    """Return the spec to train.

    Args:
        dataset: Gives a preset its classes, unless the preset has just these already.
        preset_name: A preset; exclusive with `spec_file`.
        spec_file: JSON as `ModelSpec.to_json` writes it; its classes stand as written.
        motion: `none` leaves motion and its alignment out.

    Raises:
        SettingsError: Not exactly one of preset and file was given.
        SpecError: The preset is unknown, or the file holds no valid spec.
    """
    if (preset_name is None) == (spec_file is None):
        raise SettingsError("give either a preset or a spec file, not both and not neither")
    if spec_file is not None:
        try:
            spec = ModelSpec.from_json(read_text(spec_file))
        except SpecError as error:
            raise SpecError(f"{spec_file}: {error}") from error
    else:
        assert preset_name is not None
        spec = preset(preset_name)
        if set(spec.labels) != set(dataset.labels):
            spec = with_classes(spec, dataset.labels)
    return without_motion(spec) if motion == "none" else spec


def without_motion(spec: ModelSpec) -> ModelSpec:
    """Return the spec of the same model that sees frames only (the paper's ablation)."""
    return spec.replace(
        name=f"{spec.name}-motion-none", motion=None, align=AlignSpec(method="none")
    )


def fitted_to_weights(
    spec: ModelSpec, image_weights: Path, say: Callable[[str], None]
) -> ModelSpec:
    """Return a preset that computes with the activation its weights were trained with.

    Raises:
        CheckpointError: The weights cannot be read.
    """
    source = source_of(read_weights(image_weights))
    visual = computing_as(source, spec.visual)
    if source is None or visual == spec.visual:
        return spec
    say(
        f"{image_weights}: trained with {source.activation} ({source.reason}); the preset's "
        f"{spec.visual.architecture} is made to compute so"
    )
    return spec.replace(visual=visual)


@dataclass(frozen=True, slots=True)
class RunFiles:
    """Files of a run beside its checkpoint `NAME.safetensors`.

    Attributes:
        checkpoint: The trained model.
    """

    checkpoint: Path

    @property
    def state(self) -> Path:
        """The run between two epochs; gone once the checkpoint is written."""
        return self.checkpoint.with_suffix(".state.pt")

    @property
    def log(self) -> Path:
        """A JSON line an epoch."""
        return self.checkpoint.with_suffix(".log.jsonl")


def save_trained(trained: TrainedModel, files: RunFiles) -> None:
    """Write the checkpoint; only then is the state of the run given up."""
    save_checkpoint(trained.model, files.checkpoint)
    files.state.unlink(missing_ok=True)


def train(
    dataset: Path,
    out: Path,
    *,
    workshop: Workshop,
    settings: TrainSettings,
    preset_name: str | None = None,
    spec_file: Path | None = None,
    motion: Literal["none"] | None = None,
    initial: Initial | None = None,
    say: Callable[[str], None] = print,
) -> TrainedModel:
    """Train on a data set and write the checkpoint; a stopped run goes on when repeated.

    Args:
        dataset: CSV or folder, as `read_dataset` takes it.
        out: Checkpoint to write, `NAME.safetensors`.
        workshop: Where rows are computed.
        settings: How to train.
        preset_name: See `spec_for`.
        spec_file: See `spec_for`.
        motion: See `spec_for`.
        initial: Weights to begin with.
        say: Receives lines for the user.

    Raises:
        SettingsError: `out` has another suffix, or preset and file contradict each other.
        SpecError: The spec is not valid.
        DatasetError: The data set cannot be read or does not fit the spec.
        ResumeError: Another run was stopped at `out`.
        OSError: A disk is full or cannot be written; repeated, the run goes on after its last whole
            epoch.
    """
    if out.suffix != ".safetensors":
        raise SettingsError(f"{out}: a checkpoint is written as NAME.safetensors")
    data = read_dataset(dataset)
    spec = spec_for(data, preset_name=preset_name, spec_file=spec_file, motion=motion)
    if preset_name is not None and initial is not None and initial.image_weights is not None:
        spec = fitted_to_weights(spec, initial.image_weights, say)
    files = RunFiles(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    for file in (files.checkpoint, files.state, files.log):
        # Nobody else writes them: a stopped run goes on here.
        remove_temporaries(file.parent, name=file.name)
    require_writable(out)
    trained = train_model(
        spec,
        data,
        settings,
        workshop,
        initial=initial,
        say=lambda line: say(f"initial weights {line}"),
        state_path=files.state,
        log_path=files.log,
    )
    save_trained(trained, files)
    last = trained.records[-1]
    say(
        f"{out}: {last.epoch} epochs over {len(data)} videos, loss {last.loss:.3f}, "
        f"rows {trained.seconds['rows']:.0f} s, epochs {trained.seconds['epochs']:.0f} s"
    )
    return trained


def evaluate_checkpoint(
    checkpoint: Path,
    dataset: Path,
    *,
    workshop: Workshop,
    say: Callable[[str], None] | None = None,
) -> Evaluation:
    """Name a data set's videos with a checkpoint, as a client would.

    Args:
        checkpoint: What names them.
        dataset: CSV or folder, as `read_dataset` takes it.
        workshop: Where rows are computed.
        say: Receives a line for the user: which of the checkpoint's weights were taken.

    Raises:
        DatasetError: The data set cannot be read or does not fit the checkpoint.
        CheckpointError: The checkpoint cannot be read.
    """
    model = load_checkpoint(checkpoint, say=say)
    return evaluate_model(model, read_dataset(dataset), workshop)
