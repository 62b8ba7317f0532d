"""The child that turns definitions into graphs: all that needs torch to make one.

Reads a list of tasks from its standard input and answers each with lines of JSON: its name when it
begins, then its folder, with an error if it failed.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import onnx
import torch
from torch import nn
from torchvision.models.video import SwinTransformer3d  # type: ignore[import-untyped]

from fgmclip.bench.cost.peers.eager import open_fgm
from fgmclip.bench.cost.peers.graphs import COUNTS_FILE, GRAPH_FILE
from fgmclip.bench.cost.peers.mean_clip import MeanHead
from fgmclip.bench.cost.peers.swin_masks import constant_masks
from fgmclip.bench.cost.peers.turns import reason
from fgmclip.bench.cost.peers.video_models import VIDEO_MODELS
from fgmclip.export.graphs import part_inputs
from fgmclip.export.ladder.int8 import calibrate, quantize
from fgmclip.export.names import PARTS
from fgmclip.model.clip_towers import has_text_tower, text_tower
from fgmclip.model.onnx_graph import OPSET, Signature, export_graph, multiply_adds, signature
from fgmclip.model.served_form import served_form
from fgmclip.spec import ModelSpec
from fgmclip.storage.atomic import making_folder, write_text


def make(build: Mapping[str, Any], folder: Path) -> None:
    """Write a graph and its counts into a folder, which appears when both are complete.

    Args:
        build: As `Definition.build`.
        folder: The folder; its parent is made if absent.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with making_folder(folder) as made:
        write_text(made / COUNTS_FILE, json.dumps(_write(build, made / GRAPH_FILE)))


def _write(build: Mapping[str, Any], path: Path) -> dict[str, int]:
    """Write the graph and return its counts."""
    kind = build["kind"]
    if kind == "text_tower":
        return {"parameters": _text_parameters(build["spec"]), "multiply_adds": 0}
    if kind == "video":
        module, graph = _video(build["key"])
    else:
        of = _part(kind, build)
        module, served = of.module, build["form"] == "int8"
        graph = export_graph(replace(of, module=served_form(module)) if served else of)
    onnx.save(graph, path)
    if build.get("form") == "int8":
        _quantize(ModelSpec.from_json(build["spec"], stored=True), kind, path)
    return {"parameters": _parameters(module), "multiply_adds": multiply_adds(graph)}


def _text_parameters(spec: str) -> int:
    visual = ModelSpec.from_json(spec, stored=True).visual
    if not has_text_tower(visual):
        return 0
    with torch.device("meta"):
        return _parameters(text_tower(visual))


def _video(key: str) -> tuple[nn.Module, onnx.ModelProto]:
    """Build a video model and export it for one clip at a time.

    Windows and pooled attention make shapes that depend on the batch through so many steps that
    neither exporter nor shape inference follows; nobody batches clips here.
    """
    model = next(item for item in VIDEO_MODELS if item.key == key)
    torch.manual_seed(0)
    module = model.build().eval()
    shape = (1, 3, model.frames, model.size, model.size)
    swin = isinstance(module, SwinTransformer3d)
    with constant_masks(model.build, shape) if swin else nullcontext():
        program = torch.onnx.export(
            module,
            (torch.zeros(shape),),
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            input_names=["CLIP"],
            output_names=["LOGITS"],
        )
    assert program is not None  # always so with dynamo
    return module, program.model_proto


def _part(kind: str, build: Mapping[str, Any]) -> Signature:
    spec = ModelSpec.from_json(build["spec"], stored=True)
    if kind == "mean_head":
        torch.manual_seed(0)
        head = MeanHead(spec.visual.width, len(spec.classes)).eval()
        shape = (spec.clip.frames, spec.visual.width)
        return Signature(head, "B", {"VISUAL": shape}, "LOGITS")
    return signature(open_fgm(build["spec"], build["source"]), cast(Any, kind))


def _quantize(spec: ModelSpec, kind: str, path: Path) -> None:
    """Replace a graph by its Q/DQ graph."""
    assert kind in PARTS
    # Scales decide what is right, not how long it takes: a few random inputs give them.
    inputs = [part_inputs(spec, kind, 2, seed) for seed in (1, 2)]
    calibrated = calibrate(path, inputs)
    quantize(calibrated, path, nodes=calibrated.nodes)


def _parameters(module: nn.Module) -> int:
    return sum(item.numel() for item in module.parameters())


def main() -> None:
    """Make what the standard input lists."""
    # Libraries print what they please; the pipe is for answers alone.
    answers = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)

    def say(answer: dict[str, str]) -> None:
        answers.write(json.dumps(answer) + "\n")

    run(json.load(sys.stdin), say)


def run(tasks: list[dict[str, Any]], say: Callable[[dict[str, str]], None]) -> None:
    """Make each graph; one that fails does not keep the others from being made."""
    for task in tasks:
        say({"name": task["name"]})
        try:
            make(task["build"], Path(task["folder"]))
        except Exception as error:
            say({"folder": task["folder"], "error": f"it does not export: {reason(error)}"})
        else:
            say({"folder": task["folder"]})


if __name__ == "__main__":
    main()
