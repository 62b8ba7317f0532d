"""README.md: its measured figures are those of files that benches wrote."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from fgmclip.bench.cost.competitor import EAGER, SERVED
from fgmclip.bench.cost.figures import FiguresError, figures, strays, table, with_table
from fgmclip.bench.cost.report import CostReport, Entry, Group, Latency, Ratio

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"
README = (ROOT / "README.md").read_text(encoding="utf-8")
RENEW = "run python bench/figures.py --write"


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return Path(shutil.copytree(RESULTS, tmp_path / "results"))


def test_the_figures_are_those_of_the_files() -> None:
    assert with_table(README, RESULTS) == README, RENEW


def test_no_measured_figure_stands_outside_of_the_table() -> None:
    assert strays(README) == [], "move it into bench/cost/figures.py"


def test_every_figure_links_to_its_file() -> None:
    links = re.findall(r"\]\((bench/results/\S+)\)", table(RESULTS))
    assert len(links) == len(figures(RESULTS)) > 0
    assert all((ROOT / link).is_file() for link in links)


def test_a_figure_that_was_measured_again_is_noticed(results: Path) -> None:
    path = results / "overhead-gym99.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    case = next(item for item in data["cases"] if item["case"] == "edge clip")
    case["served"]["median_ms"] = 1234.56
    path.write_text(json.dumps(data), encoding="utf-8")
    changed = with_table(README, results)
    assert changed != README
    assert "| 1234.6 ms |" in changed


@pytest.mark.parametrize("text", ["42 ms", "4.5x", "99 %", "7 GB", "3 times", "25 fps"])
def test_a_figure_outside_of_the_table_is_noticed(text: str) -> None:
    assert strays(f"{README}\nIt takes {text}, on a good day.\n") == [text]


@pytest.mark.parametrize("text", ["Python 3.12", "Triton 2.51", "`42 ms`", "exit code 4"])
def test_what_is_no_measurement_may_stand_anywhere(text: str) -> None:
    assert strays(f"{README}\n{text}\n") == []


def test_figures_of_a_file_that_is_not_there_are_left_out(results: Path) -> None:
    (results / "overhead-gym99.json").unlink()
    assert not any(item.file == "overhead-gym99.json" for item in figures(results))


def test_a_run_of_latency_adds_its_times_and_ratios(results: Path) -> None:
    time = Latency(271.5, 280.0, 290.0, 263.4, 282.4, 120, 12, 0.0)
    kinds: tuple[tuple[str, Group], ...] = ((SERVED, "served"), (EAGER, "pytorch"))
    entries = tuple(
        Entry(key, key, group, None, (10, 224, 224), 1, 1, 1, "int8", "gate: passed", "", time)
        for key, group in kinds
    )
    ratios = (Ratio(EAGER, SERVED, 8.4375, 8.02, 8.94, 12),)
    CostReport("1970-01-01", True, {}, entries, ratios).save(results / "latency.json")
    added = [item for item in figures(results) if item.file == "latency.json"]
    assert [item.text for item in added] == ["271.5 ms", "8.44 (8.02 to 8.94)"]
    assert "gate: passed" in added[0].what


@pytest.mark.parametrize("text", ["{", "{}", "[]"])
def test_a_file_of_something_else_is_refused(results: Path, text: str) -> None:
    (results / "overhead-gym99.json").write_text(text, encoding="utf-8")
    with pytest.raises(FiguresError, match="run the bench again"):
        figures(results)


def test_a_readme_without_a_place_for_them_is_refused() -> None:
    with pytest.raises(FiguresError, match="expected one line"):
        with_table("# fgmclip\n", RESULTS)
