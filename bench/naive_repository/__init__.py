"""A Triton repository of FGM-CLIP as one writes it without us: what our server is compared with.

One Python model does everything with ONNX Runtime, PIL, NumPy and OpenCV, and encodes the whole
window again for each clip. The files beside this one are that repository, but for the version
folders and the links to the graphs, which `write_naive_repository` makes.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from fgmclip.spec import ModelSpec

ENSEMBLE, MODEL = "naive_clip", "naive_model"

SETTINGS_FILE = "settings.json"

_HERE = Path(__file__).parent


def write_naive_repository(
    folder: Path, spec: ModelSpec, graphs: Mapping[str, Path], threads: int
) -> None:
    """Write the repository.

    Args:
        folder: An empty directory.
        spec: Of the model.
        graphs: Its fp32 graphs by part: `clip_image_encoder`, `motion_encoder` if it has one,
            `fusion_head` and `classifier`.
        threads: Threads of ONNX Runtime.
    """
    # The embedded server starts ensembles; this one hands everything to its only step.
    for name in (ENSEMBLE, MODEL):
        (folder / name / "1").mkdir(parents=True)
        shutil.copyfile(_HERE / f"{name}.pbtxt", folder / name / "config.pbtxt")
    version = folder / MODEL / "1"
    shutil.copyfile(_HERE / "model.py", version / "model.py")
    for part, graph in graphs.items():
        (version / f"{part}.onnx").symlink_to(graph.resolve())
    settings = {
        "image_size": spec.visual.image_size,
        "motion_size": spec.motion.size if spec.motion else None,
        "mean": spec.visual.mean,
        "std": spec.visual.std,
        "threads": threads,
    }
    (version / SETTINGS_FILE).write_text(json.dumps(settings), encoding="utf-8")
