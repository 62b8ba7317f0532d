"""The measured figures of README.md: a table made of files that benches wrote.

README.md holds no measured figure outside of that table, so none can outlive its measurement.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fgmclip.bench.cost import formats
from fgmclip.bench.cost.competitor import EAGER, NAIVE, SERVED
from fgmclip.bench.cost.report import CostReport
from fgmclip.bench.cost.sheets import against_ours, arithmetic
from fgmclip.spec import FgmclipError

BEGIN = "<!-- figures: written by `python bench/figures.py --write` -->"
END = "<!-- end of figures -->"

MEASURED = re.compile(
    r"\b\d+(?:\.\d+)? ?(?:ms|s|seconds|minutes|%|x|times|MB|GB|MiB|GiB|fps)(?!\w)"
)
"""What a measured figure in a text looks like: a number and a unit."""


class FiguresError(FgmclipError, ValueError):
    """README.md or a file of figures is not as expected."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Figure:
    """A line of the table.

    Attributes:
        what: What was measured, of which model and precision.
        text: The figure with its unit.
        file: Name of the file that it stands in.
    """

    what: str
    text: str
    file: str


def figures(results: Path) -> list[Figure]:
    """Return all figures that README.md shows, of those files that are there.

    Args:
        results: Folder of what the benches wrote.

    Raises:
        FiguresError: A file is not what its bench writes.
    """
    found = []
    for name, read in _READERS.items():
        path = results / name
        if path.exists():
            try:
                lines = list(read(path))
            except (KeyError, TypeError, StopIteration, json.JSONDecodeError) as error:
                raise FiguresError(
                    f"{path}: expected what its bench writes, got {type(error).__name__}: {error}; "
                    "run the bench again"
                ) from error
            found += [Figure(what, text, name) for what, text in lines]
    return found


def table(results: Path) -> str:
    """Return the table as Markdown, each figure with a link to its file."""
    rows = [
        f"| {item.what} | {item.text} | [`{item.file}`](bench/results/{item.file}) |"
        for item in figures(results)
    ]
    return "\n".join(["| what | figure | measured in |", "|---|---:|---|", *rows])


def with_table(readme: str, results: Path) -> str:
    """Return a text of README.md with the table as the files have it.

    Raises:
        FiguresError: The marks of the table's place are missing.
    """
    before, after = _around(readme)
    return f"{before}{BEGIN}\n\n{table(results)}\n\n{END}{after}"


def strays(readme: str) -> list[str]:
    """Return what looks like a measured figure outside of the table and of code."""
    text = "".join(_around(readme))
    text = re.sub(r"```.*?```|^ {4}.*?$|`[^`\n]*`", "", text, flags=re.DOTALL | re.MULTILINE)
    return [match.group() for match in MEASURED.finditer(text)]


def _around(readme: str) -> tuple[str, str]:
    if readme.count(BEGIN) != 1 or readme.count(END) != 1:
        raise FiguresError(f"README.md: expected one line {BEGIN!r} and one {END!r} below it")
    before, _, rest = readme.partition(BEGIN)
    return before, rest.partition(END)[2]


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _latency(path: Path) -> Iterator[tuple[str, str]]:
    report = CostReport.load(path)
    ours = report.entry(SERVED)
    if ours is not None and ours.latency is not None:
        yield (
            f"a served clip, p50 ({arithmetic(ours)})",
            f"{formats.milliseconds(ours.latency.p50)} ms",
        )
    for key in (EAGER, NAIVE):
        entry = report.entry(key)
        ratio = None if entry is None else against_ours(report, entry)
        if entry is not None and ratio is not None:
            interval = f"{formats.times(ratio.low)}{formats.TO}{formats.times(ratio.high)}"
            yield f"{entry.name}, times as long", f"{formats.times(ratio.value)} ({interval})"


def _stream(path: Path) -> Iterator[tuple[str, str]]:
    data = _json(path)
    about = f"{data['model']}, {data['precision']}"
    p50, p95 = (formats.milliseconds(data[f"decision_{name}_ms"]) for name in ("p50", "p95"))
    low, high = (formats.times(value) for value in data["times_cheaper_quartiles"])
    yield (
        f"from a camera's frame to its decision, preparing the frame included, p50 and p95 "
        f"({about})",
        f"{p50} and {p95} ms",
    )
    yield (
        "encoding its window again in eager PyTorch fp32, times as long (quartiles)",
        f"{formats.times(data['times_cheaper'])} ({low}{formats.TO}{high})",
    )


def _overhead(path: Path) -> Iterator[tuple[str, str]]:
    data = _json(path)
    for case, what in (("edge clip", "a clip"), ("edge stream", "a decision of a stream")):
        row = next(item for item in data["cases"] if item["case"] == case)
        about = f"{data['model']}, {data['precision']}, edge frames"
        yield (
            f"{what} over gRPC, median ({about})",
            f"{formats.milliseconds(row['served']['median_ms'])} ms",
        )
        yield (
            "its kernels and engines without a server",
            f"{formats.milliseconds(row['bare']['median_ms'])} ms",
        )


def _engines(path: Path) -> Iterator[tuple[str, str]]:
    data = _json(path)
    rows = [
        row
        for row in data["engines"]
        if row["part"] == "clip_image_encoder" and row["batch"] == data["window"]
    ]
    beside = {
        "torch fp32": "",
        "ONNX Runtime fp32": "",
        "OpenVINO int8 Q/DQ, bf16": " (this bench has no gate)",
    }
    for engine in beside:
        row = next(item for item in rows if item["engine"] == engine)
        yield (
            f"image encoder of {data['model']}, {data['window']} frames, {engine}{beside[engine]}",
            f"{formats.milliseconds(row['median_ms'])} ms",
        )


def _cameras(path: Path) -> Iterator[tuple[str, str]]:
    data = _json(path)
    rows = data["cameras"]
    about = f"{data['model']}, {data['precision']}, {data['machine']['cores']} cores"
    yield f"cameras at once, decoding included ({about})", str(len(rows))
    yield (
        "from capture to decision, p95 of the slowest camera",
        f"{formats.milliseconds(max(row['latency_p95_ms'] for row in rows))} ms",
    )


_READERS: Mapping[str, Callable[[Path], Iterator[tuple[str, str]]]] = {
    "latency.json": _latency,
    "stream-gym99.json": _stream,
    "overhead-gym99.json": _overhead,
    "engines-gym99.json": _engines,
    "cameras-demo.json": _cameras,
}
