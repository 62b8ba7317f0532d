"""The gate's clips in a release: read back as they were recorded, without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fgmclip.export.calibration import Clips
from fgmclip.export.errors import RepositoryError
from fgmclip.export.gate import Thresholds
from fgmclip.export.gate_folder import (
    CLIPS_FILE,
    THRESHOLDS_FILE,
    read_gate_folder,
    write_gate_folder,
)
from fgmclip.export.names import Part
from fgmclip.export.recording import Recording

CLIPS, FRAMES, CLASSES = 3, 2, 4


@pytest.fixture
def recording() -> Recording:
    random = np.random.default_rng(0)

    def rows(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        return random.standard_normal(shape, dtype=np.float32)

    pixels, motion = rows(CLIPS, FRAMES, 3, 8, 8), rows(CLIPS, FRAMES, 3, 6, 6)
    visual, features = rows(CLIPS, FRAMES, 5), rows(CLIPS, FRAMES, 7)
    return Recording(
        Clips(pixels, motion, ("sit", "größer", "sit")),
        {
            "clip_image_encoder": {"PIXELS": pixels.reshape(-1, 3, 8, 8)},
            "motion_encoder": {"MOTION": motion.reshape(-1, 3, 6, 6)},
            "fusion_head": {"VISUAL": visual, "MOTION_FEATURES": features},
        },
        {
            "clip_image_encoder": visual.reshape(-1, 5),
            "motion_encoder": features.reshape(-1, 7),
            "fusion_head": rows(CLIPS, 6),
        },
        rows(CLIPS, CLASSES),
    )


@pytest.fixture
def folder(recording: Recording, tmp_path: Path) -> Path:
    write_gate_folder(tmp_path / "gate", recording, Thresholds(cosine=0.9), True)
    return tmp_path / "gate"


def test_what_was_recorded_is_read_back(recording: Recording, folder: Path) -> None:
    gate = read_gate_folder(folder)
    assert gate.labels == recording.clips.labels
    assert gate.thresholds == Thresholds(cosine=0.9)
    assert (gate.frames, gate.trained) == (FRAMES, True)
    np.testing.assert_array_equal(gate.logits, recording.logits)
    assert gate.outputs.keys() == recording.outputs.keys()
    for part, output in recording.outputs.items():
        np.testing.assert_array_equal(gate.outputs[part], output)
        ours, theirs = gate.batches(part), recording.batches(part)
        assert len(ours) == len(theirs) == CLIPS
        for one, other in zip(ours, theirs, strict=True):
            assert one.keys() == other.keys()
            for name, value in one.items():
                np.testing.assert_array_equal(value, other[name])


def test_a_model_without_motion_has_a_gate_as_well(recording: Recording, tmp_path: Path) -> None:
    parts: tuple[Part, ...] = ("clip_image_encoder", "fusion_head")
    still = Recording(
        recording.clips,
        {part: recording.inputs[part] for part in parts},
        {part: recording.outputs[part] for part in parts},
        recording.logits,
    )
    write_gate_folder(tmp_path / "gate", still, Thresholds(), False)
    assert tuple(read_gate_folder(tmp_path / "gate").outputs) == parts


def test_a_target_reads_it_without_torch(folder: Path) -> None:
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "sys.modules.update(dict.fromkeys(['torch', 'onnx', 'onnxruntime', 'tritonclient']))\n"
        "from fgmclip.export.gate_folder import read_gate_folder\n"
        f"gate = read_gate_folder(Path({str(folder)!r}))\n"
        f"assert len(gate.batches('fusion_head')) == {CLIPS}"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def rewrite(folder: Path, name: str, rows: int | None) -> None:
    """Shorten an array of the clips, or leave it out."""
    with np.load(folder / CLIPS_FILE) as file:
        arrays = {key: file[key] for key in file.files if key != name or rows is not None}
    if rows is not None:
        arrays[name] = arrays[name][:rows]
    np.savez(folder / CLIPS_FILE, **arrays)


@pytest.mark.parametrize(
    "name",
    ["logits", "labels", "clip_image_encoder", "fusion_head", "fusion_head/VISUAL"],
)
def test_arrays_of_other_clips_are_refused(folder: Path, name: str) -> None:
    rewrite(folder, name, 1)
    with pytest.raises(RepositoryError, match=r"of the same clips, got .*export the checkpoint"):
        read_gate_folder(folder)


@pytest.mark.parametrize("name", ["logits", "labels", "fusion_head", "motion_encoder/MOTION"])
def test_arrays_that_are_missing_are_refused(folder: Path, name: str) -> None:
    rewrite(folder, name, None)
    with pytest.raises(RepositoryError, match=r"of the same clips, got .*export the checkpoint"):
        read_gate_folder(folder)


@pytest.mark.parametrize("name", [CLIPS_FILE, THRESHOLDS_FILE])
@pytest.mark.parametrize("data", [None, b"", b"damaged"])
def test_a_file_that_is_missing_or_damaged_is_refused(
    folder: Path, name: str, data: bytes | None
) -> None:
    (folder / name).unlink()
    if data is not None:
        (folder / name).write_bytes(data)
    with pytest.raises(RepositoryError, match=r"expected clips.npz and thresholds.json of a gate"):
        read_gate_folder(folder)


def test_a_bit_that_fell_over_is_refused(folder: Path) -> None:
    data = bytearray((folder / CLIPS_FILE).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / CLIPS_FILE).write_bytes(data)
    with pytest.raises(RepositoryError, match="export the checkpoint again"):
        read_gate_folder(folder)


def test_thresholds_of_another_layout_are_refused(folder: Path) -> None:
    fields = json.loads((folder / THRESHOLDS_FILE).read_text(encoding="utf-8"))
    (folder / THRESHOLDS_FILE).write_text(json.dumps(fields | {"surprise": 1}), encoding="utf-8")
    with pytest.raises(RepositoryError, match="surprise"):
        read_gate_folder(folder)
