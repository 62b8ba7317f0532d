"""A report's plots as HTML with inline SVG: places are percentages, so text never shrinks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import takewhile

from fgmclip.bench.cost import formats
from fgmclip.bench.cost.report import CostReport, Entry
from fgmclip.bench.cost.reported import (
    ABLATIONS,
    FULL_MODEL,
    HARDWARE,
    PROTOCOL,
    REPORTED,
    Reported,
    full_model,
)
from fgmclip.bench.cost.sheets import against_ours, common, described

_HEIGHT = 380
"""Of the scatter plot, CSS pixels."""

_NARROW = 330
"""Width for which its labels are placed, CSS pixels: on wider pages they only move apart."""

_LETTER = 6.3
"""Width of a label's letter, CSS pixels."""

_LETTERS = 26
"""Of the longest label."""

_GAP = 11
"""Between a mark and its label, CSS pixels."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Where a value lies on an axis.

    Attributes:
        ticks: Values that are written on the axis, in order; the first and last are its ends.
        logarithmic: Whether equal distances are equal ratios.
    """

    ticks: tuple[float, ...]
    logarithmic: bool

    @classmethod
    def around(cls, values: Iterable[float]) -> Scale:
        """Return a logarithmic axis of ticks 1, 2, 5 that holds all values, with room."""
        found = sorted(values)
        low, high = found[0] / 1.15, found[-1] * 1.15
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        grid = [step * 10.0**power for power in powers for step in (1, 2, 5)]
        first = max(index for index, tick in enumerate(grid) if tick <= low)
        last = min(index for index, tick in enumerate(grid) if tick >= high)
        return cls(tuple(grid[first : last + 1]), True)

    @classmethod
    def from_zero(cls, values: Iterable[float]) -> Scale:
        """Return a linear axis from zero that holds all values, with room."""
        high = 1.1 * max(values)
        step = 10.0 ** math.floor(math.log10(high))
        while high / step > 6:
            step *= 2
        while high / step < 3:
            step /= 2
        return cls(tuple(step * index for index in range(math.ceil(high / step) + 1)), False)

    def place(self, value: float) -> float:
        """Return where a value lies, percent of the axis."""
        low, high = self.ticks[0], self.ticks[-1]
        if self.logarithmic:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return 100 * (value - low) / (high - low)


def latency_plot(report: CostReport) -> str:
    """Return times of a clip by entry, the paper's below; empty where nothing was timed."""
    timed = [(entry, entry.latency) for entry in common(report) if entry.latency is not None]
    if not timed:
        return ""
    ends = [value for _, time in timed for value in (time.low, time.p50, time.high, time.p99)]
    scale = Scale.around([*ends, *(row.inference for row in REPORTED if row.inference is not None)])
    rows = []
    for entry, time in timed:
        bar = _bar(scale, time.p50) + _reach(scale, time.p50, time.p99)
        marks = bar + _whisker(scale, time.low, time.high)
        value = f"{formats.milliseconds(time.p50)} ms"
        rows.append(_row(scale, entry.name, described(report, entry), value, marks, _kind(entry)))
    for name, detail, found in _reported_times():
        ends = sorted(row.inference for row in found if row.inference is not None)
        span = dict.fromkeys(formats.as_printed(end) for end in (ends[0], ends[-1]))
        value = f"{formats.TO.join(span)} ms"
        marks = "".join(_open(scale, end) for end in ends)
        rows.append(
            _row(scale, name, f"{detail}; {HARDWARE}; {PROTOCOL}", value, marks, "reported")
        )
    return _figure(
        "plot-latency",
        "Time of one clip",
        "Bar: median. Stroke with ends: its 95 % interval. Thin line: to the 99th percentile. Open "
        "circles: figures that the paper reports, protocol not stated. Logarithmic axis in "
        "milliseconds: equal steps are equal ratios, lengths of bars are not.",
        _rows(scale, rows),
    )


def ratio_plot(report: CostReport) -> str:
    """Return how many times longer than ours each entry takes; empty where none is compared."""
    pairs = [(entry, against_ours(report, entry)) for entry in common(report)]
    compared = [(entry, ratio) for entry, ratio in pairs if ratio is not None]
    if not compared:
        return ""
    ends = [value for _, ratio in compared for value in (ratio.low, ratio.value, ratio.high)]
    scale = Scale.around([1.0, *ends])
    rows = []
    for entry, ratio in sorted(compared, key=lambda pair: -pair[1].value):
        marks = _unity(scale) + _whisker(scale, ratio.low, ratio.high) + _dot(scale, ratio.value)
        interval = f"{formats.times(ratio.low)}{formats.TO}{formats.times(ratio.high)}"
        value = f"{formats.times(ratio.value)} ({interval})"
        rows.append(_row(scale, entry.name, described(report, entry), value, marks, _kind(entry)))
    return _figure(
        "plot-ratio",
        "How many times longer than ours",
        "Dot: interquartile mean over the turns that both had. Stroke with ends: its 95 % "
        "interval. Right of the line at 1, ours is faster. Logarithmic axis.",
        _rows(scale, rows),
    )


def size_plot(report: CostReport) -> str:
    """Return parameters against multiply-adds; empty where nothing was counted."""
    sized = _sized(report)
    if not sized:
        return ""
    paper = [(row.parameters or 0.0, row.operations or 0.0, row) for row in full_model()]
    across = Scale.from_zero([x for x, _ in sized] + [x for x, _, _ in paper])
    up = Scale.from_zero([y for _, y in sized] + [y for _, y, _ in paper])
    points = [
        *(
            _Point(across.place(x), up.place(y), _shortened(label), kind)
            for (x, y), (label, kind) in sized.items()
        ),
        *(
            _Point(across.place(x), up.place(y), f"Table {row.table}, {row.dataset_name}")
            for x, y, row in paper
        ),
    ]
    grid = [_vertical(across, tick) for tick in across.ticks]
    for tick in up.ticks:
        y = f"{100 - up.place(tick):.2f}%"
        grid.append(f'<line class="grid" x1="0" x2="100%" y1="{y}" y2="{y}"/>')
        if tick:
            grid.append(f'<text class="tick" x="0" y="{y}" dy="13">{tick:g}</text>')
    marks = "".join(grid) + "".join(_placed(points))
    body = (
        '<p class="unit">multiply-adds of a clip, G</p>'
        f'<svg class="plane" height="{_HEIGHT}" role="img" aria-label="Parameters against '
        f'multiply-adds; the figures stand in the tables">{marks}</svg>'
        f'{_axis(across)}<p class="unit across">parameters, M</p>'
    )
    return _figure(
        "plot-size",
        "Parameters against multiply-adds",
        "Open circles: five parameter counts of one model, as the paper reports them, with what "
        "it calls Flops. Filled: counted here; the large one is ours.",
        body,
    )


def _sized(report: CostReport) -> dict[tuple[float, float], tuple[str, str]]:
    """Return label and kind of each size in M and G; a model in two runtimes is one of them."""
    names: dict[tuple[float, float], list[str]] = {}
    kinds: dict[tuple[float, float], str] = {}
    for entry in common(report):
        if entry.parameters is None or entry.multiply_adds is None:
            continue
        if entry.group in ("served", "peer", "ablation"):
            size = entry.parameters / 1e6, entry.multiply_adds / 1e9
            names.setdefault(size, []).append(entry.name)
            kinds.setdefault(size, _kind(entry))
    return {size: (_shared(found), kinds[size]) for size, found in names.items()}


def _shared(names: Sequence[str]) -> str:
    """Return what names have in common: of a model's, all but the runtimes behind the comma."""
    parts = zip(*(name.split(", ") for name in names), strict=False)
    alike = takewhile(lambda words: len(set(words)) == 1, parts)
    return ", ".join(words[0] for words in alike) or names[0]


def _shortened(label: str) -> str:
    return label if len(label) <= _LETTERS else label[: _LETTERS - 1].rstrip() + "…"


def _reported_times() -> list[tuple[str, str, Sequence[Reported]]]:
    """Return rows of the paper's times: name, where they stand, and the figures."""
    ours = [row for row in REPORTED if row.method == FULL_MODEL and row.inference is not None]
    ablated = [row for row in REPORTED if row.method in ABLATIONS]
    others = [row for row in REPORTED if row.table == 6 and row.method != FULL_MODEL]
    return [
        ("FGM-CLIP as reported", "Table 6", [row for row in ours if row.table == 6]),
        ("FGM-CLIP as reported", "Table 4", [row for row in ours if row.table == 4]),
        ("its ablations as reported", "Table 4", ablated),
        *(
            (f"{row.method} as reported", "Table 6", [row])
            for row in others
            if row.inference is not None
        ),
    ]


def _kind(entry: Entry) -> str:
    return "ours" if entry.group == "served" else "measured"


def _figure(key: str, title: str, legend: str, body: str) -> str:
    return (
        f'<figure id="{key}" class="plot"><figcaption><h2>{escape(title)}</h2>'
        f"<p>{escape(legend)}</p></figcaption>{body}</figure>"
    )


def _rows(scale: Scale, rows: Sequence[str]) -> str:
    return f'<ul class="rows">{"".join(rows)}</ul>{_axis(scale)}'


def _row(scale: Scale, name: str, detail: str, value: str, marks: str, kind: str) -> str:
    grid = "".join(_vertical(scale, tick) for tick in scale.ticks)
    return (
        f'<li class="{kind}"><span class="name">{escape(name)}<small>{escape(detail)}</small>'
        f'</span><span class="value">{escape(value)}</span>'
        f'<svg class="track" aria-hidden="true">{grid}<svg y="50%" overflow="visible">{marks}</svg>'
        "</svg></li>"
    )


def _axis(scale: Scale) -> str:
    """Return the axis's figures; those too close to the one before are left out."""
    texts, last = [], -100.0
    for tick in scale.ticks:
        place = scale.place(tick)
        if place - last >= 9 and not 86 < place < 99.99:
            end = {0.0: "start", 100.0: "end"}.get(round(place, 6), "middle")
            texts.append(f'<text x="{place:.2f}%" y="14" text-anchor="{end}">{tick:g}</text>')
            last = place
    return f'<svg class="axis" height="20" aria-hidden="true">{"".join(texts)}</svg>'


def _vertical(scale: Scale, tick: float) -> str:
    x = f"{scale.place(tick):.2f}%"
    return f'<line class="grid" x1="{x}" x2="{x}" y1="0" y2="100%"/>'


def _unity(scale: Scale) -> str:
    x = f"{scale.place(1.0):.2f}%"
    return f'<line class="one" x1="{x}" x2="{x}" y1="-200" y2="200"/>'


def _bar(scale: Scale, value: float) -> str:
    width = scale.place(value)
    return f'<rect class="bar" x="0" y="-6" width="{width:.2f}%" height="12" rx="2"/>'


def _reach(scale: Scale, low: float, high: float) -> str:
    ends = f'x1="{scale.place(low):.2f}%" x2="{scale.place(high):.2f}%"'
    return f'<line class="reach" {ends} y1="0" y2="0"/>'


def _whisker(scale: Scale, low: float, high: float) -> str:
    left, right = (f"{scale.place(value):.2f}%" for value in (low, high))
    return (
        f'<line class="whisker" x1="{left}" x2="{right}" y1="0" y2="0"/>'
        f'<line class="whisker" x1="{left}" x2="{left}" y1="-5" y2="5"/>'
        f'<line class="whisker" x1="{right}" x2="{right}" y1="-5" y2="5"/>'
    )


def _dot(scale: Scale, value: float) -> str:
    return f'<circle class="dot" cx="{scale.place(value):.2f}%" cy="0" r="3.5"/>'


def _open(scale: Scale, value: float) -> str:
    return f'<circle class="open" cx="{scale.place(value):.2f}%" cy="0" r="5.5"/>'


@dataclass(frozen=True, slots=True)
class _Point:
    x: float
    y: float
    label: str
    kind: str = "reported"


@dataclass(frozen=True, slots=True)
class _Box:
    """A rectangle on the narrow plane, CSS pixels."""

    left: float
    top: float
    width: float
    height: float = 14

    def meets(self, other: _Box) -> bool:
        across = self.left < other.left + other.width and other.left < self.left + self.width
        return across and self.top < other.top + other.height and other.top < self.top + self.height


def _across(point: _Point) -> float:
    return _NARROW * point.x / 100


def _down(point: _Point) -> float:
    return _HEIGHT * (1 - point.y / 100)


def _placed(points: Sequence[_Point]) -> list[str]:
    """Return marks with labels that keep clear of each other and of all marks.

    The first points choose their labels' places first and are drawn on top.
    """
    taken = [_Box(_across(point) - 7, _down(point) - 7, 14) for point in points]
    parts = []
    for point in points:
        width = _LETTER * len(point.label)
        sides = [_across(point) + _GAP, _across(point) - _GAP - width]
        within = [left for left in sides if 0 <= left <= _NARROW - width] or sides[:1]
        boxes = [
            _Box(left, _down(point) - 7 + shift * sign, width)
            for shift in range(0, _HEIGHT, 4)
            for sign in (1, -1)
            for left in within
        ]
        free = (box for box in boxes if not any(box.meets(other) for other in taken))
        box = next(free, boxes[0])
        taken.append(box)
        radius = {"reported": 7, "ours": 5}.get(point.kind, 4)
        shape = "open" if point.kind == "reported" else "dot"
        anchor, aside = ("start", _GAP) if box.left == sides[0] else ("end", -_GAP)
        down = box.top + 7 - _down(point)
        lead = f'<line class="lead" x2="{aside}" y2="{down:.0f}"/>' if abs(down) > 10 else ""
        parts.append(
            f'<svg class="{point.kind}" x="{point.x:.2f}%" y="{100 - point.y:.2f}%" '
            f'overflow="visible">{lead}<circle class="{shape}" r="{radius}"/>'
            f'<text x="{aside}" y="{down + 4:.0f}" text-anchor="{anchor}">'
            f"{escape(point.label)}</text></svg>"
        )
    return parts[::-1]
