"""Weights to begin with, taken from another checkpoint as far as they fit."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True, slots=True)
class Taken:
    """What `take_weights` did; nothing is left out silently.

    Attributes:
        taken: Keys whose values were taken over.
        misshapen: Keys that both have, in different shapes: `key: here [..], there [..]`.
        absent: Keys that the source lacks.
        unused: Keys of the source that have no place here.
    """

    taken: tuple[str, ...]
    misshapen: tuple[str, ...]
    absent: tuple[str, ...]
    unused: tuple[str, ...]

    def summary(self) -> list[str]:
        """Return one line for each submodule and fate, then one for each misshapen key."""
        lines = []
        for fate in ("taken", "absent", "unused"):
            keys: tuple[str, ...] = getattr(self, fate)
            for part in sorted({key.split(".")[0] for key in keys}):
                count = sum(key.split(".")[0] == part for key in keys)
                lines.append(f"{fate}: {part}, {count} tensors")
        return lines + [f"misshapen, not taken: {line}" for line in self.misshapen]


def take_weights(model: nn.Module, source: nn.Module) -> Taken:
    """Copy every tensor of `source` whose name and shape `model` has too.

    Args:
        model: Where to; changed in place.
        source: Where from, for example a checkpoint of the same motion encoder with other classes.
    """
    here, there = model.state_dict(), source.state_dict()
    taken = {
        key: value for key, value in there.items() if key in here and here[key].shape == value.shape
    }
    model.load_state_dict(taken, strict=False)
    return Taken(
        taken=tuple(taken),
        misshapen=tuple(
            f"{key}: here {list(here[key].shape)}, there {list(there[key].shape)}"
            for key in here
            if key in there and key not in taken
        ),
        absent=tuple(key for key in here if key not in there),
        unused=tuple(key for key in there if key not in here),
    )
