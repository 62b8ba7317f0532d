"""The tables of a report, whoever shows them: terminal, Markdown and HTML have the same cells."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from fgmclip.bench.cost import formats
from fgmclip.bench.cost.competitor import EAGER, NAIVE, SERVED
from fgmclip.bench.cost.datasets import DATASETS, SAME_CLIP
from fgmclip.bench.cost.report import CostReport, Entry, Group, Latency, Ratio
from fgmclip.bench.cost.reported import (
    ABLATIONS,
    FULL_MODEL,
    HARDWARE,
    NO_FIGURE,
    PAPER,
    PROTOCOL,
    UNLABELLED,
    WITHOUT_CLIP,
    WITHOUT_FUSION,
    WITHOUT_MOTION,
    Reported,
    full_model,
    reported,
)
from fgmclip.bench.cost.sheet import Column, Row, Sheet

GROUPS: dict[Group, str] = {
    "served": "fgmclip, served",
    "pytorch": "same model in PyTorch",
    "runtime": "same model in a runtime as it comes",
    "naive": "same model in Triton without fgmclip",
    "peer": "other models",
    "ablation": "FGM-CLIP with a part left out or replaced",
}
"""Kinds of entries in the order in which they are shown."""

KEYS = {
    FULL_MODEL: SERVED,
    WITHOUT_CLIP: "ablation-resnet50",
    WITHOUT_MOTION: "ablation-tcn",
    WITHOUT_FUSION: "ablation-concat",
}
"""Which entry was measured for a method of the paper."""

_TITLES = {
    1: "Table 1: cost on four data sets",
    4: "Table 4: cost of the ablations",
    6: "Table 6: cost on Gym99 and Gym251",
}


@dataclass(frozen=True, slots=True)
class Headline:
    """One figure, and what it is."""

    figure: str
    text: str


def sheets(report: CostReport) -> list[Sheet]:
    """Return all tables of a report."""
    return [
        _times(report),
        *(_paper(report, table) for table in (1, 4, 6)),
        _sizes(report),
        _protocol(report),
    ]


def title(report: CostReport) -> str:
    """Return the report's title."""
    return "What FGM-CLIP costs" + (", a quick run" if report.quick else "")


def headlines(report: CostReport) -> list[Headline]:
    """Return what a hurried reader should know; nothing where our server was not timed."""
    ours = report.entry(SERVED)
    if ours is None or ours.latency is None:
        return []
    time = ours.latency
    found = [
        Headline(
            f"{formats.milliseconds(time.p50)} ms",
            f"{ours.name}, one clip of {formats.clip(ours.clip)}; 95 % interval "
            f"{_interval(time.low, time.high)} ms; {arithmetic(ours)}",
        )
    ]
    for key in (EAGER, NAIVE):
        entry = report.entry(key)
        ratio = None if entry is None else against_ours(report, entry)
        if entry is not None and ratio is not None:
            found.append(
                Headline(
                    f"{formats.times(ratio.value)} times",
                    f"as long takes {entry.name}; 95 % interval "
                    f"{_interval(ratio.low, ratio.high, formats.times)}; {arithmetic(entry)}",
                )
            )
    return found


def common(report: CostReport) -> list[Entry]:
    """Return the entries that took the common clip, by kind and time."""
    order = list(GROUPS)

    def place(entry: Entry) -> tuple[int, bool, float]:
        time = entry.latency
        return order.index(entry.group), time is None, 0.0 if time is None else time.p50

    return sorted((entry for entry in report.entries if entry.dataset is None), key=place)


def against_ours(report: CostReport, entry: Entry) -> Ratio | None:
    """Return how many times longer than our server an entry takes; None if not compared."""
    if entry.dataset is not None:
        return None
    found = (item for item in report.ratios if (item.longer, item.shorter) == (entry.key, SERVED))
    return next(found, None)


def arithmetic(entry: Entry) -> str:
    """Return an entry's precision and what the gate said of it: the two are never apart."""
    reduced = any(name in entry.precision for name in ("int8", "bf16", "fp16"))
    judged = entry.verdict or ("no gate" if reduced else "")
    return ", ".join(part for part in (entry.precision, judged) if part)


def described(report: CostReport, entry: Entry) -> str:
    """Return an entry's precision and gate, and its clip if that is not ours."""
    ours = report.entry(SERVED)
    other = ours is not None and entry.clip != ours.clip
    clip = f"clips of {formats.clip(entry.clip)}" if other else ""
    return "; ".join(part for part in (arithmetic(entry), clip) if part)


def _how(entry: Entry) -> str:
    return "; ".join(part for part in (arithmetic(entry), entry.why) if part)


def _interval(low: float, high: float, text: formats.Format = formats.milliseconds) -> str:
    return text(low) + formats.TO + text(high)


def _latency(time: Latency | None) -> tuple[str, str, str, str]:
    if time is None:
        return "", "", "", ""
    return (
        formats.milliseconds(time.p50),
        _interval(time.low, time.high),
        formats.milliseconds(time.p90),
        formats.milliseconds(time.p99),
    )


_LATENCY = (
    Column("p50", "ms"),
    Column("95 % interval", "ms"),
    Column("p90", "ms"),
    Column("p99", "ms"),
)


def _times(report: CostReport) -> Sheet:
    rows = []
    for entry in common(report):
        ratio = against_ours(report, entry)
        compared = (
            ("", "")
            if ratio is None
            else (
                formats.times(ratio.value),
                _interval(ratio.low, ratio.high, formats.times),
            )
        )
        how = "; ".join(part for part in (described(report, entry), entry.why) if part)
        cells = (*_latency(entry.latency), *compared, how)
        rows.append(_row(entry, cells))
    return Sheet(
        "times",
        "One clip: fgmclip and what a user would pick instead",
        ("kind", "model"),
        (
            *_LATENCY,
            Column("times ours"),
            Column("its 95 % interval"),
            Column("precision and gate", numeric=False),
        ),
        tuple(rows),
        (
            "Same machine, same run, one clip at a time, in turns. All take the same clip, but for "
            "models with a published shape of clips of their own, which then stands beside them. "
            "Times ours: the interquartile mean over the turns that an entry shared with our "
            "server.",
        ),
    )


def _sizes(report: CostReport) -> Sheet:
    def cells(entry: Entry) -> tuple[str, ...]:
        time = entry.latency
        return (
            formats.millions(entry.parameters),
            formats.millions(entry.served_parameters),
            formats.billions(entry.multiply_adds),
            "" if time is None else str(time.repeats),
            "" if time is None else str(time.rounds),
            "" if time is None else formats.percent(time.disturbed),
            formats.clip(entry.clip),
            entry.includes,
        )

    return Sheet(
        "sizes",
        "What ran",
        ("kind", "model"),
        (
            Column("parameters", "M"),
            Column("of these run", "M"),
            Column("multiply-adds", "G"),
            Column("clips"),
            Column("turns"),
            Column("disturbed", "%"),
            Column("clip T x H x W", numeric=False),
            Column("time includes", numeric=False),
        ),
        tuple(_row(entry, cells(entry)) for entry in common(report)),
        (
            "Multiply-adds of one clip, counted in the ONNX graph, attention products included. "
            "A text tower counts as parameters and runs at export only. Disturbed: turns in which "
            "other work on the machine took processor time.",
        ),
    )


def _row(entry: Entry, cells: tuple[str, ...]) -> Row:
    kind: Literal["ours", "measured"] = "ours" if entry.group == "served" else "measured"
    return Row((GROUPS[entry.group], entry.name), cells, kind)


def _protocol(report: CostReport) -> Sheet:
    facts = {"started": report.started, "quick": "yes" if report.quick else "no", **report.protocol}
    return Sheet(
        "protocol",
        "Protocol",
        ("what",),
        (Column("how", numeric=False),),
        tuple(Row((name,), (text,)) for name, text in facts.items()),
    )


def _paper(report: CostReport, table: int) -> Sheet:
    return Sheet(
        f"table-{table}",
        f"{_TITLES[table]}, reported and measured",
        ("model, data set", "figures"),
        (
            Column("parameters", "M"),
            Column("multiply-adds", "G"),
            Column("inference", "ms"),
            *_LATENCY[1:],
            Column("training", "s"),
            Column("how", numeric=False),
        ),
        tuple(_pairs(report, reported(table))),
        (*_notes(table), _classes(report, table), _PROTOCOL_NOTE),
    )


def _pairs(report: CostReport, rows: Iterable[Reported]) -> Iterator[Row]:
    for row in rows:
        head = f"{row.method}, {row.dataset_name}"
        cells = (
            formats.as_printed(row.parameters),
            formats.as_printed(row.operations),
            formats.as_printed(row.inference),
            "",
            "",
            "",
            formats.as_printed(row.training),
            PROTOCOL if row.has_figures else NO_FIGURE,
        )
        yield Row((head, "reported"), cells, "reported")
        if row.method in KEYS and row.dataset not in UNLABELLED:
            yield Row((head, "measured"), _measured(report, row))


def _measured(report: CostReport, row: Reported) -> tuple[str, ...]:
    entry = report.entry(KEYS[row.method], row.dataset)
    if entry is None:
        return *("",) * 7, "not part of this run"
    return (
        formats.millions(entry.parameters),
        formats.billions(entry.multiply_adds),
        *_latency(entry.latency),
        formats.seconds(entry.training_seconds),
        "; ".join((entry.name, _how(entry))) if entry.group == "ablation" else _how(entry),
    )


def _classes(report: CostReport, table: int) -> str:
    shapes = {formats.clip(entry.clip) for entry in report.entries if entry.key in KEYS.values()}
    keys = dict.fromkeys(row.dataset for row in reported(table))
    counts = (
        f"{item.name} {item.classes}{'' if item.sure else ' (not certain)'}"
        for item in (DATASETS[key] for key in keys if key in DATASETS)
    )
    return (
        f"Classes: {', '.join(counts)}; their sources stand in the protocol. Measured clips: "
        f"{' or '.join(sorted(shapes)) or 'none'} (T x H x W), {SAME_CLIP}."
    )


_PROTOCOL_NOTE = (
    f"Reported: {PAPER}, on an {HARDWARE}; {PROTOCOL}: batch, clip length, resolution, precision, "
    "statistic and what a time includes are missing, so its milliseconds stand beside ours and no "
    "ratio of the two is drawn. Measured: median of one clip, and seconds of one epoch; of what "
    "the paper's training times are is not stated either."
)


def _notes(table: int) -> tuple[str, ...]:
    counts = ", ".join(formats.as_printed(row.parameters) for row in full_model())
    if table == 1:
        return (
            "An image in the source, and no figure of it survives: reported cells stay empty. Its "
            "text claims fewer parameters and operations and shorter times than every baseline, "
            "and on UCF Sports an inference time up to 20-30 ms below theirs.",
        )
    if table == 4:
        methods = "; ".join(f"{name}: {what}" for name, what in ABLATIONS.items())
        return (
            f"Section 4.2 describes the ablations: {methods}.",
            "The second block of the source names no data sets; it is kept without names and "
            "nothing is measured for it.",
            f"Five figures are given for the parameters of one full model ({counts} M, the last "
            "in Table 6). A data set changes only the classifier, well under 1 M of them.",
        )
    return (
        "What the paper calls Flops is compared with multiply-adds: counted once each, those of "
        "the preset gym99 come within a percent of the reported figure at the reported number of "
        "parameters; as two operations each they would be twice as many. The preset is a fit to "
        "these two figures, not a reproduction: the paper does not name its encoders.",
        "The source's table is an image; these figures stand in section 4.3. Those of other models "
        "were not measured here.",
    )
