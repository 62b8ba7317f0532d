"""How a training run is done, apart from the data and the model."""

from __future__ import annotations

from dataclasses import dataclass, field

from fgmclip.training.augment import Augmentation
from fgmclip.training.errors import SettingsError


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """Settings of a run; two runs with the same settings, data and spec are the same run.

    The paper trains 100 epochs with Adam at 0.001 and a cosine schedule (section 4.2); the
    decoupled weight decay and the warm-up are ours.

    Attributes:
        epochs: Passes over the data; each takes one window of every video.
        seed: Decides initial weights, order, windows and augmentation.
        batch: Windows in a step.
        learning_rate: Peak of the cosine schedule.
        weight_decay: Decay of matrices and filters; biases and norms are left alone.
        warmup_epochs: Epochs of linear warm-up, may be a fraction.
        clip_norm: Largest norm of the gradient of all weights together.
        freeze_image: Leave the image encoder as it is; its embeddings are computed once.
        visual_dropout: Share of clips whose VISUAL is withheld, so that motion is learned.
        mirror: Swap left and right half of the time. Only for classes that mean the same in a
            mirror.
        augmentation: Ranges of the random changes; None for no change at all.
    """

    epochs: int = 30
    seed: int = 0
    batch: int = 16
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    warmup_epochs: float = 1.0
    clip_norm: float = 1.0
    freeze_image: bool = False
    visual_dropout: float = 0.0
    mirror: bool = False
    augmentation: Augmentation | None = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        """Refuse values that cannot train.

        Raises:
            SettingsError: A value is out of range.
        """
        for name in ("epochs", "batch", "learning_rate", "clip_norm"):
            if getattr(self, name) <= 0:
                raise SettingsError(f"{name} is {getattr(self, name)}; expected more than 0")
        if not 0 <= self.visual_dropout < 1:
            raise SettingsError(
                f"visual_dropout is {self.visual_dropout}; expected 0 up to below 1"
            )
        if not 0 <= self.warmup_epochs <= self.epochs:
            raise SettingsError(
                f"warmup_epochs is {self.warmup_epochs}; expected 0 to {self.epochs}, the epochs"
            )
