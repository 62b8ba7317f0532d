"""Three engines that the gate must refuse, on a model of real size.

Run as `python bench/refusals.py [MODEL]`; random weights get outlier channels. The plain int8
recipe that most tools follow; int8 whose scales are clipped; and a slow bf16 rung that computes in
fp32 without a word and pads its batch. Each is asked of the ladder as a user would ask for it, and
must be refused with its submodule named. Prints the verdicts; `--json FILE` writes them. Exit code
0 when all three are refused, else 3.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization.calibrate import TensorData
from rich.console import Console
from rich.table import Table

from fgmclip.bench.quantizer_lineup import quantize_plainly
from fgmclip.command import run_command
from fgmclip.export.calibration import FEW_CLIPS, read_clips
from fgmclip.export.chain import Judge
from fgmclip.export.classes import class_arrays
from fgmclip.export.climb import Ladder
from fgmclip.export.errors import GateError
from fgmclip.export.gate import Thresholds, Verdict
from fgmclip.export.graphs import parts_of
from fgmclip.export.ladder.candidate import Candidate, Precision, Rung
from fgmclip.export.ladder.fp32 import fp32_candidates
from fgmclip.export.ladder.int8 import (
    calibrate,
    int8_candidates,
    quantize,
)
from fgmclip.export.ladder.rungs import Rungs
from fgmclip.export.names import Part
from fgmclip.export.recording import Recording, record
from fgmclip.export.sources import open_model
from fgmclip.model.onnx_graph import to_onnx
from fgmclip.serve.steps.classify import class_logits
from fgmclip.spec import PRESETS, FgmclipError

NOT_REFUSED = 3
"""Exit code when the gate lets one of them through."""

CLIPPED_TO = 1 / 16
"""Part of each tensor's range that clipped scales can express."""

Batches = Sequence[Mapping[str, NDArray[np.float32]]]

PADDED = 3
"""Times its batch that the slow rung computes."""

WIDTH = 120
"""Columns that the table needs."""


@dataclass(frozen=True, slots=True)
class BadRungs:
    """fp32 as it is, and one bad candidate above it.

    Attributes:
        make: Makes the bad candidates of a submodule.
    """

    make: Callable[[Part, Path], list[Candidate]]

    def __call__(self, part: Part, graph: Path, rungs: Collection[Rung]) -> Iterator[Candidate]:
        """Yield candidates, lowest rung first."""
        yield from fp32_candidates(graph)
        yield from self.make(part, graph)


@dataclass(frozen=True, slots=True)
class Refusal:
    """What became of one bad rung.

    Attributes:
        name: What was wrong with it.
        asked: The rung that was asked for.
        said: What the gate said; empty if it let the rung through.
        verdicts: Of the rung that was asked for.
    """

    name: str
    asked: str
    said: str
    verdicts: tuple[Verdict, ...]


def plain_recipe(graph: Path, batches: Batches, path: Path) -> list[Candidate]:
    """Return the recipe of most tools: signed, symmetric, by channel, scales from largest values.

    Args:
        graph: The fp32 graph.
        batches: What it is calibrated on.
        path: The graph to write.
    """
    quantize_plainly(graph, batches, path)
    return int8_candidates(path, ())


def clipped_scales(graph: Path, batches: Batches, path: Path) -> list[Candidate]:
    """Return our own int8 graph with ranges that clip most of what they should hold."""
    calibrated = calibrate(graph, batches)
    part = np.float32(CLIPPED_TO)
    for name, ranges in calibrated.ranges.items():
        lowest, highest = ranges.range_value
        calibrated.ranges[name] = TensorData(lowest=lowest * part, highest=highest * part)
    quantize(calibrated, path, nodes=calibrated.nodes)
    return int8_candidates(path, ())


def padded(graph: Path, path: Path) -> list[Candidate]:
    """Return a bf16 rung that computes fp32 and pads its batch, as engines of one shape do."""
    model = onnx.load(graph)
    for item in model.graph.input:
        _rename(model, item.name, f"{item.name}.padded")
        rows = [item.name] * PADDED
        node = onnx.helper.make_node("Concat", rows, [f"{item.name}.padded"], axis=0)
        model.graph.node.insert(0, node)
    for item in model.graph.output:
        _rename(model, item.name, f"{item.name}.padded")
        parts = [item.name, *(f"{item.name}.{index}" for index in range(1, PADDED))]
        model.graph.node.append(
            onnx.helper.make_node("Split", [f"{item.name}.padded"], parts, num_outputs=PADDED)
        )
    onnx.save(model, path)
    return [Candidate("bf16", "openvino", path, {"precision": "f32"})]


def refusals(
    model_name: str, calibration: Path | None, folder: Path, report: Callable[[str], None]
) -> list[Refusal]:
    """Ask the ladder for each bad rung.

    Args:
        model_name: A preset with random weights and outlier channels, or a checkpoint.
        calibration: Videos; None for generated ones.
        folder: Where graphs are written.
        report: Called with what is done next.
    """
    untrained = model_name in PRESETS and model_name != "demo"
    model = open_model(model_name, random_weights=0 if untrained else None, outliers=True)
    first, second = read_clips(model.spec, calibration, count=FEW_CLIPS, report=report)
    scales, judged = record(model, first, report), record(model, second, report)
    classes = class_arrays(model)
    judge = Judge(
        judged,
        Thresholds(),
        classify=lambda embedding: class_logits(embedding, classes),
        names=tuple(item.name for item in model.spec.classes),
        trained=not untrained,
    )
    graphs: dict[Part, Path] = {}
    for part in parts_of(model.spec):
        report(f"export {part}")
        graphs[part] = folder / f"{part}.onnx"
        onnx.save(to_onnx(model, part), graphs[part])
    return [
        _ask(name, Ladder(rungs, judge, source="", report=report), graphs, asked)
        for name, asked, rungs in _bad_rungs(scales, folder)
    ]


def refusal_table(found: Sequence[Refusal], model: str) -> Table:
    """Return what the gate said of each bad rung, by submodule."""
    table = Table(title=f"{model}: what the gate must refuse", title_justify="left")
    for column in ("bad rung", "submodule", "engine"):
        table.add_column(column, no_wrap=True)
    table.add_column("verdict")
    for item in found:
        table.add_section()
        for index, verdict in enumerate(item.verdicts):
            table.add_row(
                item.name if index == 0 else "",
                verdict.part,
                verdict.engine,
                verdict.answer,
                style="red" if verdict.reason else None,
            )
    return table


def main(argv: Sequence[str] | None = None) -> int:
    """Run the bench and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", nargs="?", default="b32", help="preset or checkpoint")
    parser.add_argument("--calibration", type=Path, metavar="DIR|CSV", help="videos")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything")
    arguments = parser.parse_args(argv)
    console = Console()
    # A log or a pipe has no width of its own, and a narrow one would cut reasons off.
    console.width = max(console.width, WIDTH)
    try:
        with (
            tempfile.TemporaryDirectory() as folder,
            Console(stderr=True).status("opening") as status,
        ):
            found = refusals(
                arguments.model,
                arguments.calibration,
                Path(folder),
                lambda what: status.update(what),
            )
    except FgmclipError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    console.print(refusal_table(found, arguments.model))
    for item in found:
        said = item.said or "NOT REFUSED"
        console.print(f"{item.name}, asked for {item.asked}: {said}", highlight=False, markup=False)
    if arguments.json:
        rows = [
            {
                "name": item.name,
                "asked": item.asked,
                "said": item.said,
                "verdicts": [verdict.model_dump() for verdict in item.verdicts],
            }
            for item in found
        ]
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    return 0 if all(item.said for item in found) else NOT_REFUSED


def _bad_rungs(scales: Recording, folder: Path) -> Iterator[tuple[str, Precision, Rungs]]:
    def path(part: Part, name: str) -> Path:
        return folder / f"{part}.{name}.onnx"

    yield (
        "plain recipe",
        "int8",
        BadRungs(
            lambda part, graph: plain_recipe(graph, scales.batches(part), path(part, "plain"))
        ),
    )
    yield (
        "clipped scales",
        "int8",
        BadRungs(
            lambda part, graph: clipped_scales(graph, scales.batches(part), path(part, "clipped"))
        ),
    )
    yield "slow rung", "bf16", BadRungs(lambda part, graph: padded(graph, path(part, "padded")))


def _rename(model: onnx.ModelProto, old: str, new: str) -> None:
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [new if name == old else name for name in names]


def _ask(name: str, ladder: Ladder, graphs: dict[Part, Path], asked: Precision) -> Refusal:
    try:
        climbed = ladder.climb(graphs, asked, None)
    except GateError as error:
        verdicts, said = error.verdicts, str(error)
    else:
        verdicts, said = climbed.report.verdicts, ""
    return Refusal(name, asked, said, tuple(item for item in verdicts if item.rung == asked))


if __name__ == "__main__":
    sys.exit(run_command(main))
