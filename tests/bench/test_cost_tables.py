"""Tables of costs: terminal and Markdown say what the report says, and nothing else."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest
from rich.console import Console

from fgmclip.bench.cost import formats
from fgmclip.bench.cost.datasets import DATASETS
from fgmclip.bench.cost.report import CostReport, Entry
from fgmclip.bench.cost.reported import (
    FULL_MODEL,
    NO_FIGURE,
    PROTOCOL,
    REPORTED,
    UNLABELLED,
    full_model,
    reported,
)
from fgmclip.bench.cost.sheet import Sheet
from fgmclip.bench.cost.sheets import KEYS, headlines, sheets
from fgmclip.bench.cost.tables import markdown, tables

Rows = list[dict[str, str]]


def parsed(text: str) -> dict[str, Rows]:
    """Return a Markdown document's tables by title, each row by column."""
    found: dict[str, Rows] = {}
    for section in text.split("\n## ")[1:]:
        lines = [
            [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            for line in section.splitlines()
            if line.startswith("|")
        ]
        header, _, *rows = lines
        found[section.splitlines()[0]] = [dict(zip(header, row, strict=True)) for row in rows]
    return found


def beginning(found: dict[str, Rows], title: str) -> Rows:
    return next(rows for name, rows in found.items() if name.startswith(title))


def row_of(rows: Rows, **cells: str) -> dict[str, str]:
    (row,) = [row for row in rows if all(row[name] == text for name, text in cells.items())]
    return row


def common(report: CostReport) -> list[Entry]:
    return [entry for entry in report.entries if entry.dataset is None]


def test_times_in_markdown_are_the_reports(report: CostReport) -> None:
    rows = beginning(parsed(markdown(report)), "One clip")
    assert len(rows) == len(common(report))
    for entry in common(report):
        row = row_of(rows, model=entry.name)
        time = entry.latency
        if time is None:
            assert {row[name] for name in ("p50, ms", "95 % interval, ms", "p99, ms")} == {""}
            assert entry.why in row["precision and gate"]
            continue
        low, high = row["95 % interval, ms"].split(" to ")
        shown = [
            float(text) for text in (row["p50, ms"], low, high, row["p90, ms"], row["p99, ms"])
        ]
        assert shown == pytest.approx([time.p50, time.low, time.high, time.p90, time.p99], rel=5e-3)


def test_a_clip_of_another_shape_is_said(report: CostReport) -> None:
    entry = replace(report.entries[-1], dataset=None, clip=(16, 112, 112), name="other shape")
    rows = beginning(
        parsed(markdown(replace(report, entries=(*report.entries, entry)))), "One clip"
    )
    assert "clips of 16 x 112 x 112" in row_of(rows, model="other shape")["precision and gate"]
    others = [row for row in rows if row["model"] != "other shape"]
    assert not any("clips of" in row["precision and gate"] for row in others)


def test_ratios_in_markdown_are_the_reports(report: CostReport) -> None:
    rows = beginning(parsed(markdown(report)), "One clip")
    for ratio in report.ratios:
        entry = report.entry(ratio.longer)
        assert entry is not None
        row = row_of(rows, model=entry.name)
        low, high = row["its 95 % interval"].split(" to ")
        shown = [float(text) for text in (row["times ours"], low, high)]
        assert shown == pytest.approx([ratio.value, ratio.low, ratio.high], rel=1e-2)


def test_sizes_in_markdown_are_the_reports(report: CostReport) -> None:
    rows = beginning(parsed(markdown(report)), "What ran")
    for entry in common(report):
        row = row_of(rows, model=entry.name)
        shown = [row["parameters, M"], row["of these run, M"], row["multiply-adds, G"]]
        assert [float(text) for text in shown] == pytest.approx(
            [
                (entry.parameters or 0) / 1e6,
                (entry.served_parameters or 0) / 1e6,
                (entry.multiply_adds or 0) / 1e9,
            ],
            abs=5.1e-3,
        )


@pytest.mark.parametrize("table", [1, 4, 6])
def test_a_table_of_the_paper_has_reported_beside_measured(report: CostReport, table: int) -> None:
    rows = beginning(parsed(markdown(report)), f"Table {table}")
    for figures in reported(table):
        head = f"{figures.method}, {figures.dataset_name}"
        paper = row_of(rows, **{"model, data set": head, "figures": "reported"})
        shown = [
            paper[name]
            for name in ("parameters, M", "multiply-adds, G", "inference, ms", "training, s")
        ]
        printed = (figures.parameters, figures.operations, figures.inference, figures.training)
        assert [None if text == "" else float(text) for text in shown] == list(printed)
        assert paper["how"] == (NO_FIGURE if table == 1 else PROTOCOL)
        beside = [row["figures"] for row in rows if row["model, data set"] == head]
        measured = figures.method in KEYS and figures.dataset in DATASETS
        assert beside == (["reported", "measured"] if measured else ["reported"])
        if measured:
            entry = report.entry(KEYS[figures.method], figures.dataset)
            assert entry is not None
            assert entry.latency is not None
            ours = row_of(rows, **{"model, data set": head, "figures": "measured"})
            assert float(ours["inference, ms"]) == pytest.approx(entry.latency.p50, rel=1e-3)
            assert float(ours["parameters, M"]) == pytest.approx(
                (entry.parameters or 0) / 1e6, 1e-3
            )


def test_a_time_of_training_stands_only_where_there_is_one(report: CostReport) -> None:
    rows = beginning(parsed(markdown(report)), "Table 6")
    measured = {row["model, data set"]: row for row in rows if row["figures"] == "measured"}
    assert measured["FGM-CLIP, Gym99"]["training, s"] == "123.2"
    assert measured["FGM-CLIP, Gym251"]["training, s"] == ""


def test_what_was_not_part_of_the_run_is_said(report: CostReport) -> None:
    fewer = replace(report, entries=tuple(common(report)))
    rows = beginning(parsed(markdown(fewer)), "Table 6")
    row = row_of(rows, **{"model, data set": "FGM-CLIP, Gym99", "figures": "measured"})
    assert row.pop("how") == "not part of this run"
    assert set(row.values()) == {"FGM-CLIP, Gym99", "measured", ""}


def test_the_unlabelled_block_is_kept_and_nothing_is_measured_for_it(report: CostReport) -> None:
    rows = beginning(parsed(markdown(report)), "Table 4")
    unlabelled = [row for row in rows if "unlabelled" in row["model, data set"]]
    assert len(unlabelled) == 4 * len(UNLABELLED)
    assert {row["figures"] for row in unlabelled} == {"reported"}


def test_the_paper_gives_one_model_five_counts() -> None:
    assert len(full_model()) == 5
    assert len({row.parameters for row in full_model()}) == 5
    assert all(row.inference is None for row in REPORTED if row.table == 1)


def test_a_reduced_precision_is_never_without_its_gate(report: CostReport) -> None:
    reduced = re.compile("int8|bf16|fp16")
    cells = [cell for sheet in sheets(report) for row in sheet.rows for cell in row.cells]
    texts = [*cells, *(item.text for item in headlines(report))]
    found = [text for text in texts if reduced.search(text)]
    assert found
    assert all("gate" in text for text in found), found


def test_headlines_are_ours_eager_and_naive(report: CostReport) -> None:
    first, eager, naive = headlines(report)
    assert first.figure == "271.5 ms"
    assert "gate: passed, invented" in first.text
    assert (eager.figure, naive.figure) == ("8.44 times", "5.88 times")
    assert "8.02 to 8.94" in eager.text
    assert all(f"**{item.figure}**" in markdown(report) for item in (first, eager, naive))


def test_without_our_time_there_are_no_headlines(report: CostReport) -> None:
    assert headlines(replace(report, entries=report.entries[1:])) == []


@pytest.mark.parametrize("width", [100, 140])
def test_a_terminal_shows_every_figure_whole(report: CostReport, width: int) -> None:
    file = io.StringIO()
    console = Console(file=file, width=width)
    for sheet, table in zip(sheets(report), tables(report), strict=True):
        console.print(table)
        shown = re.split(r"\s+", file.getvalue())
        for figure in numeric(sheet):
            assert set(figure.split()) <= set(shown), figure
        file.seek(0)
        file.truncate()


def test_a_narrow_terminal_cuts_nothing_off(report: CostReport) -> None:
    file = io.StringIO()
    console = Console(file=file, width=60)
    for table in tables(report):
        console.print(table)
    assert "…" not in file.getvalue()


def numeric(sheet: Sheet) -> set[str]:
    return {
        cell
        for row in sheet.rows
        for column, cell in zip(sheet.columns, row.cells, strict=True)
        if column.numeric and cell
    }


def test_markup_is_text(report: CostReport) -> None:
    text = "[red]x[/red] | y"
    entries = (replace(report.entries[0], name=text), *report.entries[1:])
    changed = replace(report, entries=entries, protocol={text: text})
    file = io.StringIO()
    for table in tables(changed):
        Console(file=file, width=200).print(table)
    # Its name in two tables, and a fact with its name.
    assert file.getvalue().count(text) == 4
    found = parsed(markdown(changed))
    assert row_of(beginning(found, "One clip"), model=text)
    assert row_of(found["Protocol"], what=text, how=text)


def test_a_report_of_nothing_still_has_the_papers_figures(report: CostReport) -> None:
    empty = replace(report, entries=(), ratios=())
    rows = beginning(parsed(markdown(empty)), "Table 6")
    assert row_of(rows, **{"model, data set": f"{FULL_MODEL}, Gym99", "figures": "reported"})
    assert len(tables(empty)) == len(sheets(empty))


def test_aligned_figures_have_their_points_below_each_other() -> None:
    texts = ["271.5", "", "8.48", "12", "1.25"]
    padded = formats.aligned(texts)
    assert [text.strip() for text in padded] == texts
    points = {text.index(".") for text in padded if "." in text}
    assert points == {3}
    assert {len(text) for text in padded if text} == {6}


def test_aligned_intervals_keep_their_ends() -> None:
    padded = formats.aligned(["263.4 to 282.4", "8.23 to 8.82", ""])
    assert [[end.strip() for end in text.split(" to ")] for text in padded] == [
        ["263.4", "282.4"],
        ["8.23", "8.82"],
        [""],
    ]


@pytest.mark.parametrize(
    ("value", "text"), [(0.5, "0.50"), (9.994, "9.99"), (9.996, "10.0"), (2290.78, "2290.8")]
)
def test_a_time_has_as_many_decimals_as_it_needs(value: float, text: str) -> None:
    assert formats.milliseconds(value) == text
