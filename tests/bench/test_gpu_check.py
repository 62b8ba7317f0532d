"""`make gpu-check`: its runner of stages on harmless commands, and what it says without a GPU."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

import pytest

from fgmclip.bench import gpu_check
from fgmclip.bench.gpu_check import Stage, find_gpus, main, run_stages, stages, write_report

ROOT = Path(__file__).resolve().parents[2]


def python(text: str) -> tuple[str, ...]:
    return (sys.executable, "-c", text)


def test_without_a_gpu_it_says_so_in_one_line_and_ends_with_2(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for query in (("no-such-program",), python("raise SystemExit(9)"), python("")):
        assert main(query) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err == (
            "gpu-check: expected a GPU and NVIDIA's driver, got none; run it on a machine where "
            "nvidia-smi lists one\n"
        )


def test_it_needs_no_package_to_say_so(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(ROOT / "bench" / "gpu_check.py")],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        check=False,
        encoding="utf-8",
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "nvidia-smi" in done.stderr


def test_a_failed_stage_ends_only_those_that_need_it(tmp_path: Path) -> None:
    plan = (
        Stage("good", (python("print('hello')"), python("print('again')"))),
        Stage("bad", (python("print('why'); raise SystemExit(4)"), python("print('never')"))),
        Stage("needs bad", (python("print('never')"),), needs=("good", "bad")),
        Stage("needs that", (python("print('never')"),), needs=("needs bad",)),
        Stage("missing", (("no-such-program",),)),
        Stage("slow", (python("import time; time.sleep(60)"),), minutes=0.005),
        Stage("last", (python("print('still')"),), needs=("good",)),
    )
    said: list[str] = []
    results = run_stages(plan, tmp_path / "out", said.append)
    assert [(item.name, item.status) for item in results] == [
        ("good", "ok"),
        ("bad", "failed"),
        ("needs bad", "skipped"),
        ("needs that", "skipped"),
        ("missing", "failed"),
        ("slow", "failed"),
        ("last", "ok"),
    ]
    reasons = {item.name: item.reason for item in results}
    assert reasons["bad"].endswith("exit code 4, refused by the gate")
    assert reasons["needs bad"] == "bad did not succeed"
    assert reasons["needs that"] == "needs bad did not succeed"
    assert "no-such-program" in reasons["missing"]
    assert reasons["slow"].endswith("took more than 0.005 minutes")
    logs = {item.name: tmp_path / item.log for item in results if item.log}
    assert logs["good"].read_text(encoding="utf-8").splitlines()[1::2] == ["hello", "again"]
    assert "never" not in logs["bad"].read_text(encoding="utf-8").splitlines()
    assert "why" in next(item for item in results if item.name == "bad").tail
    assert "bad: failed, " in "\n".join(said)


def test_the_report_has_every_stage_and_the_figures(tmp_path: Path) -> None:
    out = tmp_path / "gpu-check-1"
    figures = str(out / "latency.json")
    plan = (
        Stage("latency", (python(f"open({figures!r}, 'w').write('[1, 2]')"),)),
        Stage("tests", (python("print('no'); raise SystemExit(1)"),)),
    )
    results = run_stages(plan, out, lambda line: None)
    started = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
    report = write_report(out, started, ["Some GPU, 8.9, 570"], results)
    text = report.read_text(encoding="utf-8")
    assert text.startswith("# GPU check, 2026-01-02T03:04:05+00:00\n")
    assert "| latency | ok | " in text
    assert "| tests | failed | " in text
    assert "exit code 1" in text
    data = json.loads(report.with_suffix(".json").read_text(encoding="utf-8"))
    assert data["gpus"] == ["Some GPU, 8.9, 570"]
    assert data["figures"] == {"latency": [1, 2]}
    assert [item["status"] for item in data["stages"]] == ["ok", "failed"]


@pytest.mark.parametrize(("code", "expected"), [(0, 0), (1, 1)])
def test_it_ends_with_1_if_anything_failed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    code: int,
    expected: int,
) -> None:
    monkeypatch.setattr(gpu_check, "ROOT", tmp_path)
    plan = (Stage("only", (python(f"raise SystemExit({code})"),)),)
    monkeypatch.setattr(gpu_check, "stages", lambda out: plan)
    assert main(python("print('Some GPU, 8.9, 570')")) == expected
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.endswith(".md")
    assert Path(last.removeprefix("gpu-check: ")).is_file()


def test_the_plan_names_what_exists() -> None:
    plan = stages(ROOT / "out" / "check")
    names = [stage.name for stage in plan]
    for index, stage in enumerate(plan):
        assert set(stage.needs) <= set(names[:index])
        for command in stage.commands:
            scripts = [word for word in command if word.endswith(".py")]
            assert all((ROOT / script).is_file() for script in scripts)
    extras = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert all(f"\n{extra} = [" in extras for extra in gpu_check.EXTRAS.split(","))


def test_gpus_are_listed_a_line_each() -> None:
    assert find_gpus(python("print('A, 8.9, 570'); print('B, 9.0, 570')")) == [
        "A, 8.9, 570",
        "B, 9.0, 570",
    ]
