"""A release's `gate/` folder: what PyTorch made of the gate's clips, so that a target needs none.

`clips.npz` has the inputs of each submodule as `PART/TENSOR`, its output as `PART`, and `logits`
and `labels` of the clips; `thresholds.json` what an engine must reach. Reading needs no torch.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fgmclip.export.errors import RepositoryError
from fgmclip.export.gate import Thresholds
from fgmclip.export.names import PARTS, Part
from fgmclip.storage.atomic import writing

if TYPE_CHECKING:
    # It imports torch, which a target may lack.
    from fgmclip.export.recording import Recording

Array = NDArray[np.float32]

GATE_FOLDER = "gate"
"""The folder, in the step `classify` of a release: Triton looks at whole numbers only."""

CLIPS_FILE = "clips.npz"
THRESHOLDS_FILE = "thresholds.json"


@dataclass(frozen=True, slots=True)
class GateFolder:
    """Clips, what PyTorch made of them in fp32, and what an engine must reach.

    Attributes:
        inputs: Of each submodule by tensor name: [B T,...] of an encoder, [B,T,...] of the head.
        outputs: Of each submodule: VISUAL [B T,D], MOTION_FEATURES [B T,Dm], EMBEDDING [B,H].
        logits: LOGITS [B,C].
        labels: Of each clip, B of them.
        frames: T.
        thresholds: What an engine must reach.
        trained: Whether answers are held to PyTorch's, not only embeddings.
    """

    inputs: Mapping[Part, Mapping[str, Array]]
    outputs: Mapping[Part, Array]
    logits: Array
    labels: tuple[str, ...]
    frames: int
    thresholds: Thresholds
    trained: bool

    def batches(self, part: Part) -> list[dict[str, Array]]:
        """Return a submodule's inputs clip by clip: T rows of an encoder, one of the head."""
        rows = 1 if part == "fusion_head" else self.frames
        return [
            {name: value[start : start + rows] for name, value in self.inputs[part].items()}
            for start in range(0, len(self.outputs[part]), rows)
        ]


class _Asked(Thresholds):
    """`thresholds.json`; `trained` and `frames` are `GateFolder`'s."""

    trained: bool
    frames: int


def write_gate_folder(
    folder: Path, recording: Recording, thresholds: Thresholds, trained: bool
) -> None:
    """Write what a target judges its engines by.

    Args:
        folder: The folder; made.
        recording: PyTorch on the gate's clips.
        thresholds: What an engine must reach.
        trained: Whether answers mean something.
    """
    folder.mkdir(parents=True)
    arrays: dict[str, NDArray[Any]] = {
        f"{part}/{name}": value
        for part, inputs in recording.inputs.items()
        for name, value in inputs.items()
    }
    arrays.update({str(part): value for part, value in recording.outputs.items()})
    arrays |= {"logits": recording.logits, "labels": np.array(recording.clips.labels, np.str_)}
    with writing(folder / CLIPS_FILE) as stream:
        np.savez_compressed(stream, **arrays)
    asked = _Asked(**thresholds.model_dump(), trained=trained, frames=recording.frames)
    (folder / THRESHOLDS_FILE).write_text(asked.to_json(), encoding="utf-8")


def read_gate_folder(folder: Path) -> GateFolder:
    """Read what `write_gate_folder` wrote.

    Raises:
        RepositoryError: A file is missing or damaged, or its arrays do not belong together.
    """
    try:
        asked = _Asked.from_json((folder / THRESHOLDS_FILE).read_bytes())
        with np.load(folder / CLIPS_FILE, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise RepositoryError(
            f"{folder}: expected {CLIPS_FILE} and {THRESHOLDS_FILE} of a gate, got '{error}'; "
            "export the checkpoint again"
        ) from error
    parts = [part for part in PARTS if part in arrays]
    inputs = {
        part: {
            name.partition("/")[2]: value
            for name, value in arrays.items()
            if name.startswith(f"{part}/")
        }
        for part in parts
    }
    _check(folder, arrays, inputs, asked.frames)
    return GateFolder(
        inputs=inputs,
        outputs={part: arrays[part] for part in parts},
        logits=arrays["logits"],
        labels=tuple(map(str, arrays["labels"])),
        frames=asked.frames,
        thresholds=Thresholds(**asked.model_dump(exclude={"trained", "frames"})),
        trained=asked.trained,
    )


def _check(
    folder: Path,
    arrays: Mapping[str, NDArray[Any]],
    inputs: Mapping[Part, Mapping[str, Array]],
    frames: int,
) -> None:
    """Refuse arrays that are missing or do not have the rows of the same clips."""
    count = len(arrays.get("labels", ()))
    rows = {"logits": count, "clip_image_encoder": count * frames, "fusion_head": count}
    if "motion_encoder" in arrays:
        rows["motion_encoder"] = count * frames
    for part, tensors in inputs.items():
        rows |= {f"{part}/{name}": rows[part] for name in tensors}
    wrong = [name for name, expected in rows.items() if len(arrays.get(name, ())) != expected]
    bare = [part for part, tensors in inputs.items() if not tensors]
    if not count or wrong or bare:
        raise RepositoryError(
            f"{folder / CLIPS_FILE}: expected inputs, outputs, logits and labels of the same "
            f"clips, got {count} labels and other rows or none of "
            f"{', '.join([*wrong, *bare]) or 'any clip'}; export the checkpoint again"
        )
