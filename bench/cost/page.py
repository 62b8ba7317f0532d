"""A report as one HTML file: no scripts, and nothing is loaded from anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib.resources import files
from itertools import groupby

from fgmclip.bench.cost.plots import latency_plot, ratio_plot, size_plot
from fgmclip.bench.cost.report import CostReport
from fgmclip.bench.cost.sheet import Row, Sheet
from fgmclip.bench.cost.sheets import headlines, sheets, title

# As wide as a digit and as a point: figures stay aligned, and readers of text skip them.
_DIGIT, _POINT = "\N{FIGURE SPACE}", "\N{PUNCTUATION SPACE}"


def page(report: CostReport) -> str:
    """Return the report as an HTML document that needs nothing else."""
    style = files("fgmclip.bench.cost").joinpath("page.css").read_text(encoding="utf-8")
    found = sheets(report)
    plots = (latency_plot(report), ratio_plot(report), size_plot(report))
    links = "".join(f'<li><a href="#{sheet.key}">{escape(sheet.title)}</a></li>' for sheet in found)
    lines = "".join(
        f"<li><strong>{escape(item.figure)}</strong> {escape(item.text)}</li>"
        for item in headlines(report)
    )
    where = ", ".join(
        report.protocol[name] for name in ("device", "processor") if name in report.protocol
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>{escape(title(report))}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        f"<header><h1>{escape(title(report))}</h1><p>{escape(report.started)}"
        f"{', ' if where else ''}{escape(where)}</p></header>\n"
        f'<nav aria-label="Tables"><ul>{links}</ul></nav>\n<main>\n'
        f'<ul class="headlines">{lines}</ul>\n'
        f'<div class="plots">{"".join(plots)}</div>\n'
        f"{''.join(_section(sheet) for sheet in found)}</main>\n</body>\n</html>\n"
    )


def _section(sheet: Sheet) -> str:
    notes = "".join(f"<li>{escape(note)}</li>" for note in sheet.notes)
    below = f'<ul class="notes">{notes}</ul>' if notes else ""
    # A region that scrolls must be reachable by keyboard and named.
    return (
        f'<section id="{sheet.key}"><div class="scroll" role="region" tabindex="0" '
        f'aria-labelledby="{sheet.key}-title">{_table(sheet)}</div>{below}</section>\n'
    )


def _table(sheet: Sheet) -> str:
    heads = f'<th scope="col">{escape(sheet.heads[-1])}</th>' + "".join(
        f'<th scope="col"{_numeric(column.numeric)}>{escape(column.title)}</th>'
        for column in sheet.columns
    )
    lines = zip(sheet.rows, zip(*sheet.aligned_columns(_DIGIT, _POINT), strict=True), strict=True)
    grouped = len(sheet.heads) > 1
    bodies = []
    for name, members in groupby(lines, key=lambda line: line[0].heads[0] if grouped else ""):
        span = len(sheet.columns) + 1
        head = f'<tr><th scope="rowgroup" colspan="{span}"><span>{escape(name)}</span></th></tr>'
        rows = "".join(_line(sheet, row, texts) for row, texts in members)
        bodies.append(f"<tbody>{head if grouped else ''}{rows}</tbody>")
    return (
        f'<table><caption id="{sheet.key}-title"><span>{escape(sheet.title)}</span></caption>'
        f"<thead><tr>{heads}</tr></thead>{''.join(bodies)}</table>"
    )


def _line(sheet: Sheet, row: Row, texts: Sequence[str]) -> str:
    cells = "".join(
        f"<td{_numeric(column.numeric)}>{escape(text)}</td>"
        for column, text in zip(sheet.columns, texts, strict=True)
    )
    return f'<tr class="{row.kind}"><th scope="row">{escape(row.heads[-1])}</th>{cells}</tr>'


def _numeric(numeric: bool) -> str:
    return ' class="figure"' if numeric else ""
