"""The page of costs: the same figures as everywhere, readable by anybody, loading nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page, Request, expect

from fgmclip.bench.cost.page import page
from fgmclip.bench.cost.plots import Scale, latency_plot, ratio_plot, size_plot
from fgmclip.bench.cost.report import CostReport
from fgmclip.bench.cost.sheets import sheets

OUT = Path(__file__).resolve().parents[2] / "out"


@dataclass
class Table:
    caption: str = ""
    scopes: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)


class Tables(HTMLParser):
    """Tables of a document: cells by row; a row of one cell heads those below it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: list[Table] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self._text: list[str] | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.tags.add(tag)
        self.attributes += found.items()
        if tag == "table":
            self.tables.append(Table())
        elif tag == "tr":
            self.tables[-1].rows.append([])
        elif tag in ("th", "td", "caption"):
            self._text = []
            if tag == "th":
                self.tables[-1].scopes.append(found["scope"])

    def handle_endtag(self, tag: str) -> None:
        if tag in ("th", "td", "caption"):
            assert self._text is not None
            # Figure spaces align figures; they are no part of them.
            words = "".join(self._text).split()
            if tag == "caption":
                self.tables[-1].caption = " ".join(words)
            else:
                self.tables[-1].rows[-1].append(" ".join(words))
            self._text = None

    def handle_data(self, data: str) -> None:
        if self._text is not None:
            self._text.append(data)


def test_the_page_has_the_cells_of_markdown_and_terminal(report: CostReport) -> None:
    tables = Tables(page(report)).tables
    for sheet, table in zip(sheets(report), tables, strict=True):
        assert table.caption == sheet.title
        header, *rows = table.rows
        assert header == [sheet.heads[-1], *(column.title for column in sheet.columns)]
        expected: list[list[str]] = []
        before = ""
        for row in sheet.rows:
            if len(row.heads) > 1 and row.heads[0] != before:
                before = row.heads[0]
                expected.append([before])
            expected.append([row.heads[-1], *row.cells])
        assert rows == expected


def test_every_head_says_what_it_heads(report: CostReport) -> None:
    for table in Tables(page(report)).tables:
        assert table.scopes.count("col") == len(table.rows[0])
        assert table.scopes.count("rowgroup") == sum(len(row) == 1 for row in table.rows)
        assert "row" in table.scopes


def test_the_page_loads_nothing_and_runs_nothing(report: CostReport) -> None:
    found = Tables(page(report))
    assert found.tags.isdisjoint({"script", "link", "img", "iframe", "object", "embed"})
    assert all(value.startswith("#") for name, value in found.attributes if name == "href")
    assert not any(
        name in ("src", "style") or name.startswith("on") for name, _ in found.attributes
    )
    assert "url(" not in page(report)
    assert "@import" not in page(report)


def test_names_are_text(report: CostReport) -> None:
    hostile = '<script>x</script>"&'
    entries = [replace(entry, name=hostile, why=hostile) for entry in report.entries]
    text = page(replace(report, entries=tuple(entries), protocol={hostile: hostile}))
    assert "<script>" not in text
    assert any(hostile in row for table in Tables(text).tables for row in table.rows)


def test_a_report_of_nothing_has_tables_and_no_plots(report: CostReport) -> None:
    empty = replace(report, entries=(), ratios=())
    assert latency_plot(empty) == ratio_plot(empty) == size_plot(empty) == ""
    assert len(Tables(page(empty)).tables) == len(sheets(empty))


@pytest.mark.parametrize("values", [(3.0, 4000.0), (0.03, 8.4), (271.5,), (9.99, 10.01)])
def test_a_logarithmic_axis_holds_its_values_at_equal_ratios(values: tuple[float, ...]) -> None:
    scale = Scale.around(values)
    assert all(0 < scale.place(value) < 100 for value in values)
    low, high = scale.ticks[0], scale.ticks[-1]
    assert scale.place((low * high) ** 0.5) == pytest.approx(50)
    assert scale.place(low) == pytest.approx(0)
    assert scale.place(high) == pytest.approx(100)


@pytest.mark.parametrize("most", [0.7, 9.0, 215.0, 378.0, 1000.0])
def test_a_linear_axis_starts_at_zero(most: float) -> None:
    scale = Scale.from_zero([0.1 * most, most])
    assert scale.ticks[0] == 0
    assert scale.place(scale.ticks[-1] / 2) == pytest.approx(50)
    assert scale.place(most) < 100
    assert 3 <= len(scale.ticks) <= 8


@dataclass
class Visit:
    page: Page
    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


@pytest.fixture
def visit(browser: Browser, report: CostReport, tmp_path: Path) -> Iterator[Visit]:
    file = tmp_path / "latency.html"
    file.write_text(page(report), encoding="utf-8")
    context = browser.new_context(viewport={"width": 1280, "height": 900}, offline=True)
    context.set_default_timeout(10_000)
    visit = Visit(context.new_page())

    def asked(request: Request) -> None:
        visit.requests.append(request.url)

    visit.page.on("request", asked)
    visit.page.on("console", lambda message: visit.errors.append(message.text))
    visit.page.on("pageerror", lambda error: visit.errors.append(str(error)))
    visit.page.goto(file.as_uri())
    yield visit
    context.close()


def test_it_opens_without_a_network(visit: Visit, report: CostReport) -> None:
    expect(visit.page.get_by_role("heading", level=1)).to_be_visible()
    for sheet in sheets(report):
        expect(visit.page.get_by_role("table", name=sheet.title)).to_be_visible()
    assert visit.requests == [visit.page.url]
    assert visit.errors == []


def test_bars_end_where_the_axis_has_their_times(visit: Visit, report: CostReport) -> None:
    rows = visit.page.locator("#plot-latency li:not(.reported)")
    timed = [entry for entry in report.entries if entry.dataset is None and entry.latency]
    expect(rows).to_have_count(len(timed))
    widths = {}
    for index in range(len(timed)):
        row = rows.nth(index)
        value = float(row.locator(".value").inner_text().removesuffix(" ms"))
        box = row.locator(".bar").bounding_box()
        assert box is not None
        widths[value] = box["width"]
    ordered = sorted(widths)
    assert [widths[value] for value in ordered] == sorted(widths.values())
    # On a logarithmic axis, twice as long is the same step everywhere.
    unit = [
        (widths[longer] - widths[shorter]) / math.log(longer / shorter)
        for shorter, longer in pairwise(ordered)
        if longer > 1.2 * shorter
    ]
    assert unit == pytest.approx([unit[0]] * len(unit), rel=0.05)


def test_ours_is_marked_and_the_papers_markers_are_open(visit: Visit) -> None:
    ours = visit.page.locator("#plot-latency li.ours")
    expect(ours).to_have_count(1)
    expect(ours).to_contain_text("gate: passed, invented")
    paper = visit.page.locator("#plot-latency li.reported")
    assert all("protocol not stated" in text for text in paper.all_inner_texts())
    expect(visit.page.locator("#plot-size .reported .open")).to_have_count(5)
    fill = visit.page.locator("#plot-size .open").first.evaluate(
        "node => getComputedStyle(node).fill"
    )
    assert fill == "none"


def test_a_model_in_two_runtimes_is_one_point(visit: Visit) -> None:
    labels = visit.page.locator("#plot-size .plane svg text").all_text_contents()
    assert [label for label in labels if label.startswith("3D peer")] == ["3D peer"]


def test_labels_of_the_scatter_do_not_overlap(visit: Visit) -> None:
    for width in (400, 1280):
        visit.page.set_viewport_size({"width": width, "height": 900})
        labels = visit.page.locator("#plot-size .plane svg text")
        boxes = [labels.nth(index).bounding_box() for index in range(labels.count())]
        for index, a in enumerate(boxes):
            for b in boxes[index + 1 :]:
                assert a is not None
                assert b is not None
                apart = (
                    a["x"] + a["width"] <= b["x"] + 1
                    or b["x"] + b["width"] <= a["x"] + 1
                    or a["y"] + a["height"] <= b["y"] + 2
                    or b["y"] + b["height"] <= a["y"] + 2
                )
                assert apart, (width, a, b)


def test_a_narrow_page_does_not_scroll_sideways_but_its_tables_do(visit: Visit) -> None:
    visit.page.set_viewport_size({"width": 400, "height": 800})
    assert visit.page.evaluate("document.documentElement.scrollWidth") == 400
    region = visit.page.get_by_role("region").first
    assert region.evaluate("node => node.scrollWidth > node.clientWidth")
    region.focus()
    visit.page.keyboard.press("End")
    visit.page.keyboard.press("ArrowRight")
    head = region.locator("tbody th[scope=row]").first
    region.evaluate("node => { node.scrollLeft = 200; }")
    box = head.bounding_box()
    assert box is not None
    assert box["x"] >= 0, "the row's name stays in sight"


MARKS = """
for (const node of document.querySelectorAll(".bar, .dot, .open, .whisker, .one, .reach")) {
  const style = getComputedStyle(node);
  const color = node.matches(".bar, .dot") ? style.fill : style.stroke;
  check(node, color, 3, node.getAttribute("class"));
}
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_marks_have_the_contrast_of_wcag_aa(
    visit: Visit, contrast: str, scheme: Literal["light", "dark"]
) -> None:
    visit.page.emulate_media(color_scheme=scheme)
    assert visit.page.evaluate(f"() => {{ {contrast} {MARKS} return found; }}") == []
    OUT.mkdir(exist_ok=True)
    visit.page.screenshot(path=OUT / f"costs_{scheme}.png", full_page=True)


def test_print_shows_tables_whole(visit: Visit) -> None:
    visit.page.emulate_media(media="print", color_scheme="dark")
    visit.page.set_viewport_size({"width": 1030, "height": 700})
    assert visit.page.locator("nav").is_hidden()
    cut = "nodes => nodes.filter(node => node.scrollWidth > node.clientWidth + 1).length"
    assert visit.page.locator(".scroll").evaluate_all(cut) == 0
    ground = "getComputedStyle(document.body).backgroundColor"
    assert visit.page.evaluate(ground) == "rgb(255, 255, 255)"
