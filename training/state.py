"""The state of a run between two epochs, on disk, so that a stopped run can go on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from fgmclip.model.network import FgmClip
from fgmclip.storage.atomic import writing
from fgmclip.training.batches import Example
from fgmclip.training.errors import ResumeError
from fgmclip.training.settings import TrainSettings

STATE_FORMAT = 1
"""Version of the file's layout; part of every fingerprint."""


@dataclass(frozen=True, slots=True)
class RunState:
    """A run after some epoch.

    Attributes:
        fingerprint: Names the run.
        model: The model's state.
        optimizer: The optimiser's state.
        records: The epochs so far, as `EpochRecord` fields.
    """

    fingerprint: str
    model: dict[str, Any] = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)
    records: list[dict[str, Any]] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Write the state; a reader sees the old one or the new one, never a part.

        Raises:
            OSError: It cannot be written; what was there stays.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        fields = {name: getattr(self, name) for name in self.__slots__}
        with writing(path) as stream:
            torch.save(fields, stream)

    @classmethod
    def load(cls, path: Path, *, expected: str) -> RunState:
        """Read a state back.

        Raises:
            ResumeError: It is of another run than the `expected` one, or not a state at all.
        """
        try:
            state = cls(**torch.load(path, weights_only=True))
        except Exception as error:
            # torch names a damaged file by many types of error.
            raise ResumeError(
                f"{path}: not the state of a run ({type(error).__name__}); delete it to begin anew"
            ) from error
        if state.fingerprint != expected:
            raise ResumeError(
                f"{path}: a run with other settings, data, spec or initial weights was stopped "
                "there; repeat its command to go on, or delete the file to begin anew"
            )
        return state


def fingerprint(model: FgmClip, examples: Sequence[Example], settings: TrainSettings) -> str:
    """Return a name for the run that these would be, initial weights included."""
    run = {
        "format": STATE_FORMAT,
        "spec": json.loads(model.spec.to_json()),
        "examples": [[item.video.folder.name, item.target] for item in examples],
        "settings": asdict(settings),
    }
    digest = hashlib.sha256(json.dumps(run, sort_keys=True).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
