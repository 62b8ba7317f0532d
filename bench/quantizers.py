"""Which int8 quantiser is best for the encoders: ours, ONNX Runtime's, NNCF's, Model Optimizer's.

Run as `python bench/quantizers.py --model b32 --python DIR/bin/python`. Each quantiser calibrates
on the same clips, generated or yours, and is judged on others against PyTorch, in OpenVINO and ONNX
Runtime; engines take turns, so ratios hold on a busy machine better than milliseconds do. NNCF and
Model Optimizer are optional: name an interpreter that has them with `--python`, as often as needed.
Presets get random weights with outlier channels. Prints a table; `--json FILE` writes everything.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import onnx
from rich.console import Console
from rich.progress import Progress

from fgmclip.bench.engines import ENCODERS, THREADS, two_threads
from fgmclip.bench.machine import describe_machine
from fgmclip.bench.quantizer_lineup import (
    INSTALL,
    Quantized,
    Tool,
    find_tools,
    quantize_graph,
    quantizers,
    version_of,
)
from fgmclip.bench.quantizer_race import (
    FP32,
    Made,
    Row,
    made,
    quantizer_table,
    race_graphs,
    try_tensorrt,
    winner,
)
from fgmclip.command import run_command
from fgmclip.export.calibration import FEW_CLIPS, read_clips
from fgmclip.export.gate import Thresholds
from fgmclip.export.graphs import parts_of
from fgmclip.export.recording import record
from fgmclip.export.sources import open_model
from fgmclip.model.network import FgmClip
from fgmclip.model.onnx_graph import to_onnx
from fgmclip.spec import PRESETS, FgmclipError

ROUNDS = 5
"""Turns of each engine at batch T."""

WIDTH = 150
"""Columns that the table needs."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the bench and return the exit status."""
    arguments = _parse(argv)
    console = Console()
    # A log or a pipe has no width of its own, and a narrow one would cut figures off.
    console.width = max(console.width, WIDTH)
    tools = find_tools(arguments.python)
    absent = [name for name in INSTALL if name not in tools]
    for name in absent:
        console.print(f"{name} is absent: {INSTALL[name]}", style="yellow", highlight=False)
    untrained = arguments.model in PRESETS and arguments.model != "demo"
    try:
        model = open_model(arguments.model, random_weights=0 if untrained else None, outliers=True)
        with two_threads():
            rows, graphs = measure(model, arguments, tools, console)
    except FgmclipError as error:
        Console(stderr=True).print(f"error: {error}", style="red", highlight=False, markup=False)
        return error.exit_code
    console.print(quantizer_table(rows, graphs, model.spec.name))
    figures = to_json(model, rows, graphs, tools) | {
        "random_weights": untrained,
        "calibration": "generated" if arguments.calibration is None else "given videos",
        "clips": arguments.clips,
    }
    for part, best in figures["winners"].items():
        console.print(f"{part}: {best}", highlight=False)
    console.print(f"machine: {figures['machine']}", style="dim", highlight=False)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return 0


def measure(
    model: FgmClip, arguments: argparse.Namespace, tools: dict[str, Tool], console: Console
) -> tuple[list[Row], list[Made]]:
    """Quantise both encoders by every quantiser and race what comes out.

    Args:
        model: The model.
        arguments: As the command line has them.
        tools: The foreign tools that were found.
        console: Shows how far it is.
    """
    rows: list[Row] = []
    graphs: list[Made] = []
    names = quantizers(tools)
    parts = [part for part in parts_of(model.spec) if part in ENCODERS]
    with (
        tempfile.TemporaryDirectory() as folder,
        Progress(console=console, transient=True) as progress,
    ):
        task = progress.add_task("clips", total=1 + len(parts) * (2 * len(names) + 2))

        def report(stage: str) -> None:
            progress.update(task, description=stage)

        calibration, judged = (
            record(model, clips, report)
            for clips in read_clips(
                model.spec, arguments.calibration, count=arguments.clips, report=report
            )
        )
        progress.advance(task)
        for part in parts:
            report(f"{part}: export")
            graph = Path(folder) / f"{part}.onnx"
            onnx.save(to_onnx(model, part), graph)
            progress.advance(task)
            found = [Quantized(FP32, graph, 0.0)]
            for name in names:
                report(f"{part}: {name}")
                found.append(
                    quantize_graph(
                        name,
                        graph,
                        calibration.batches(part),
                        Path(folder),
                        tools,
                        transformer=part == "clip_image_encoder",
                    )
                )
                progress.advance(task)
            for item in found:
                report(f"{part}: TensorRT for RTX from {item.quantizer}")
                graphs.append(made(part, item, try_tensorrt(item.file)))
                progress.advance(task, 0 if item.quantizer == FP32 else 1)
            rows += race_graphs(part, found, judged, rounds=arguments.rounds, report=report)
            progress.advance(task)
    return rows, graphs


def to_json(
    model: FgmClip, rows: Sequence[Row], graphs: Sequence[Made], tools: dict[str, Tool]
) -> dict[str, Any]:
    """Return everything that was measured, when, and on what."""
    thresholds = Thresholds()
    winners = {}
    for part in dict.fromkeys(row.part for row in rows):
        best = winner(rows, part, cosine=thresholds.cosine, identity=thresholds.identity)
        winners[part] = (
            "none is close enough to PyTorch"
            if best is None
            else f"{best.quantizer} in {best.runtime} is the fastest of those close enough"
        )
    return {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "model": model.spec.name,
        "window": model.spec.clip.frames,
        "versions": {name: version_of(name, tools) for name in quantizers(tools)}
        | {
            name: importlib.metadata.version(package)
            for name, package in (
                ("OpenVINO", "openvino"),
                ("ONNX Runtime", "onnxruntime"),
                ("TensorRT for RTX", "tensorrt-rtx-cu13"),
            )
        },
        "absent": {name: how for name, how in INSTALL.items() if name not in tools},
        "machine": describe_machine()
        | {"threads": str(THREADS), "load after": f"{os.getloadavg()[0]:.2f}"},
        "thresholds": {"cosine": thresholds.cosine, "identity": thresholds.identity},
        "winners": winners,
        "graphs": [graph.to_json() for graph in graphs],
        "engines": [row.to_json() for row in rows],
    }


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="gym99", help="checkpoint or preset")
    parser.add_argument(
        "--calibration", type=Path, help="videos: a folder or a CSV; generated ones if left out"
    )
    parser.add_argument("--clips", type=int, default=FEW_CLIPS, help="clips for either purpose")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="turns of each engine")
    parser.add_argument(
        "--python",
        type=Path,
        action="append",
        default=[],
        help="interpreter of an environment with NNCF or Model Optimizer; may be repeated",
    )
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(run_command(main))
