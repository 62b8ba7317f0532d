"""Graphs of competitors, as PyTorch exports them: made once in a child, then kept and counted."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from fgmclip.bench.cost.peers.video_models import VideoModel
from fgmclip.bench.cost.state import code_version
from fgmclip.export.manifest import short_hash
from fgmclip.serve.runtimes.proof import file_sha256
from fgmclip.spec import ModelSpec
from fgmclip.spec.base import FrozenSpec

GRAPH_FILE, COUNTS_FILE = "graph.onnx", "counts.json"

ModelPart = Literal[
    "clip_image_encoder", "motion_encoder", "fusion_head", "classifier", "mean_head", "text_tower"
]
"""A part of FGM-CLIP, or the head of frame-mean CLIP."""

Form = Literal["plain", "int8"]
"""A graph as torch exports the module, or one with Q/DQ nodes as a release would have it."""

Report = Callable[[str], None]

_ROOMS = ("bench/cost/peers", "export/ladder", "model", "spec")
"""Folders whose code decides what a graph is."""

_TOOLS = ("torch", "torchvision", "open_clip_torch", "onnxscript", "onnxruntime")

_EXPORTING = "fgmclip.bench.cost.peers.exporting"
"""The child's module; imported here it would bring torch along."""

_DEPENDS: dict[str, Callable[[ModelSpec], list[Any]]] = {
    "clip_image_encoder": lambda spec: [spec.visual],
    "motion_encoder": lambda spec: [spec.motion],
    "fusion_head": lambda spec: [
        spec.visual.width,
        None if spec.motion is None else spec.motion.width,
        spec.clip.frames,
        spec.align,
        spec.fusion,
        spec.context,
    ],
    "classifier": lambda spec: [spec.fusion.width, spec.visual.width, spec.head, len(spec.classes)],
    "mean_head": lambda spec: [spec.visual.width, spec.clip.frames, len(spec.classes)],
    "text_tower": lambda spec: [spec.visual],
}
"""What of a spec each of its parts depends on: models that share a part share its graph."""


@dataclass(frozen=True, slots=True)
class Definition:
    """What a graph is made of.

    Attributes:
        name: For people.
        build: What the child is told.
        identity: What the graph depends on.
    """

    name: str = field(compare=False)
    build: Mapping[str, Any] = field(compare=False)
    identity: str

    @classmethod
    def part(
        cls,
        spec: ModelSpec,
        part: ModelPart,
        *,
        source: str = "",
        form: Form = "plain",
    ) -> Definition:
        """Define a part of a model.

        Args:
            spec: The model's.
            part: Which part; the text tower is counted and not exported.
            source: Checkpoint with the weights; random ones if empty.
            form: Of the graph.
        """
        build = {"kind": part, "spec": spec.to_json(), "source": source, "form": form}
        depends = [
            item.model_dump(mode="json") if isinstance(item, FrozenSpec) else item
            for item in _DEPENDS[part](spec)
        ]
        name = f"{spec.name}: {part}" + ("" if form == "plain" else f", {form}")
        return cls(name, build, json.dumps([part, form, depends, _weights(source)]))

    @classmethod
    def video(cls, model: VideoModel) -> Definition:
        """Define a video model as one graph: CLIP [1,3,T,S,S] to LOGITS [1,C]."""
        build = {"kind": "video", "key": model.key}
        return cls(model.name, build, json.dumps(["video", repr(model)]))


@dataclass(frozen=True, slots=True)
class Graph:
    """A graph that was made.

    Attributes:
        path: The `.onnx` file.
        parameters: Of the module.
        multiply_adds: For a batch of one, as `fgmclip.model.onnx_graph` counts them.
        why: Why there is none; empty if there is.
    """

    path: Path
    parameters: int = 0
    multiply_adds: int = 0
    why: str = ""


def make_graphs(
    definitions: Iterable[Definition], folder: Path, report: Report
) -> dict[Definition, Graph]:
    """Return the graphs of all definitions; those that the cache lacks are made in one child.

    Args:
        definitions: What is wanted.
        folder: A cache that outlives the run.
        report: Called with the name of each graph before it is made.
    """
    made_by = _made_by()
    folders = {
        one: folder / f"graph-{short_hash([('graph', one.identity), ('made by', made_by)])}"
        for one in dict.fromkeys(definitions)
    }
    missing = {one: folder for one, folder in folders.items() if not _is_made(folder)}
    failed = _make(missing, report) if missing else {}
    return {
        one: Graph(folder / GRAPH_FILE, why=failed[str(folder)])
        if str(folder) in failed
        else _read(folder)
        for one, folder in folders.items()
    }


def _make(missing: Mapping[Definition, Path], report: Report) -> dict[str, str]:
    """Make graphs in a child; returns why some could not be made, by folder."""
    tasks = [
        {"name": one.name, "folder": str(folder), "build": dict(one.build)}
        for one, folder in missing.items()
    ]
    failed = dict.fromkeys(map(str, missing.values()), "")
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", _EXPORTING],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            encoding="utf-8",
            errors="replace",
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(tasks))
            process.stdin.close()
            for line in process.stdout:
                told = json.loads(line)
                if "name" in told:
                    report(told["name"])
                elif "error" in told:
                    failed[told["folder"]] = told["error"]
                else:
                    del failed[told["folder"]]
        finally:
            # Nothing is half made: a folder appears when it is complete.
            process.kill()
            process.wait()
            process.stdout.close()
        log.seek(0)
        last = next((text for text in reversed(log.read().split("\n")) if text.strip()), "")
    ended = f"the process that exports it ended by itself: {last.strip() or 'it said nothing'}"
    return {folder: why or ended for folder, why in failed.items()}


@cache
def _weights(source: str) -> str:
    return file_sha256(Path(source)) if source else ""


def _is_made(folder: Path) -> bool:
    return (folder / COUNTS_FILE).is_file()


def _read(folder: Path) -> Graph:
    counts = json.loads((folder / COUNTS_FILE).read_text(encoding="utf-8"))
    return Graph(folder / GRAPH_FILE, counts["parameters"], counts["multiply_adds"])


def _made_by() -> str:
    tools = [(tool, importlib.metadata.version(tool)) for tool in _TOOLS]
    return short_hash([("code", code_version(_ROOMS)), *tools])
