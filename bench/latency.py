"""What FGM-CLIP costs: the paper's tables beside what this machine measures, and the peers.

Run as `python bench/latency.py`. Exports the model on the fastest rung that the gate lets pass,
once for each version of this program (`--repository DIR` takes the release that serves there), and
lets it take turns with the same model in PyTorch, in runtimes as they come and in a naive Triton
repository, with its ablations, and with models that a user would pick instead: the same clips, the
same run, each in a process of its own. Prints the tables and writes `latency.json`, `latency.md`
and `latency.html` into `--out`. A run that was stopped goes on when it is started again.
`--baseline FILE` compares with an earlier `latency.json`; exit code 3 if anything takes longer by
more than noise. On a machine with a GPU the same command uses TensorRT and CUDA events.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from fgmclip.bench.bars import REGRESSION
from fgmclip.bench.cost import epoch_process
from fgmclip.bench.cost.baseline import changes_table, compare
from fgmclip.bench.cost.competitor import SERVED, Competitor
from fgmclip.bench.cost.lineup import lineup
from fgmclip.bench.cost.page import page
from fgmclip.bench.cost.plan import Device, Plan
from fgmclip.bench.cost.protocol import protocol, settings
from fgmclip.bench.cost.released import Released, cached_release, open_release
from fgmclip.bench.cost.report import CostReport, ReportError
from fgmclip.bench.cost.run import FULL, QUICK, Effort, race, utc_now
from fgmclip.bench.cost.state import STATE_FILE, RaceState, state_key
from fgmclip.bench.cost.summary import ratios_of, with_datasets
from fgmclip.bench.cost.tables import markdown, tables
from fgmclip.bench.gpu_check import GPU_QUERY, find_gpus
from fgmclip.command import run_command
from fgmclip.export.sources import open_model
from fgmclip.spec import PRESETS, FgmclipError, preset
from fgmclip.storage.cache import cache_folder

MODEL = "gym99"
"""The preset that fits the paper's Table 6."""

STOPPED = 130
"""Exit code of a run that was stopped from the keyboard, as shells have it."""

WIDTH = 150
"""Columns that the tables need."""

LEFT_OUT = (
    "a full run has more rounds and more peers and serves the fastest rung that the gate lets "
    "pass, as a quick one does once that is in the cache"
)


Lineup = Callable[[Plan, Callable[[str], None]], list[Competitor]]
"""Returns what takes part in a plan's race, and tells which graph it makes meanwhile."""


def main(
    argv: Sequence[str] | None = None, *, effort: Effort | None = None, lineup: Lineup = lineup
) -> int:
    """Run the bench and return the exit status.

    Args:
        argv: Arguments; None for those of the command line.
        effort: How long is measured; None for what the arguments say.
        lineup: What takes part.
    """
    arguments = _parse(argv)
    console, errors = Console(), Console(stderr=True)
    # A log or a pipe has no width of its own, and a narrow one would cut figures off.
    console.width = max(console.width, WIDTH)
    try:
        earlier = CostReport.load(arguments.baseline) if arguments.baseline else None
        report = _run(arguments, effort or (QUICK if arguments.quick else FULL), lineup, errors)
        changes = compare(report, earlier) if earlier else []
    except FgmclipError as error:
        errors.print(f"error: {error}", style="red", highlight=False, markup=False)
        return error.exit_code
    except KeyboardInterrupt:
        errors.print("stopped: start it again with the same arguments and it goes on")
        return STOPPED
    if arguments.json:
        print(report.to_json())
    else:
        for table in tables(report):
            console.print(table)
    screen = errors if arguments.json else console
    if changes:
        screen.print(changes_table(changes))
    screen.print(f"written: {', '.join(str(path) for path in written(arguments.out))}")
    return REGRESSION if any(change.regression for change in changes) else 0


def written(out: Path) -> tuple[Path, Path, Path]:
    """Return the files that a run writes."""
    return out / "latency.json", out / "latency.md", out / "latency.html"


def _run(
    arguments: argparse.Namespace, effort: Effort, lineup: Lineup, console: Console
) -> CostReport:
    started, begun = utc_now(), time.monotonic()
    with _progress(console) as progress:
        task = progress.add_task("look for the release", total=None)
        plan = _plan(arguments, progress, task)
        competitors = lineup(plan, lambda what: progress.update(task, description=what))
        keys = {item.entry.key for item in competitors}
        if unknown := plan.only - keys:
            raise ReportError(
                f"--only: expected keys of entries of this run ({', '.join(sorted(keys))}), got "
                f"{', '.join(sorted(unknown))}"
            )
        state_path = arguments.out / STATE_FILE
        if arguments.fresh:
            state_path.unlink(missing_ok=True)
        key = state_key([item.entry for item in competitors], settings(plan))
        raced = race(
            competitors,
            RaceState.resumed(state_path, key, started),
            effort=effort,
            started=begun,
            path=state_path,
            tell=lambda what: progress.update(task, description=what),
            tick=lambda done, total: progress.update(task, completed=done, total=total),
        )
        entries, training, trained_on = raced.entries, "", ""
        if arguments.dataset:
            progress.update(task, description="one epoch of training", total=None)
            took = _epoch_seconds(plan.model, arguments.dataset)
            training = f"{took:.1f} s an epoch, all weights, {arguments.dataset.name}"
            trained_on = arguments.dataset.stem
            entries = tuple(
                replace(item, training_seconds=took) if item.key == SERVED else item
                for item in entries
            )
        report = CostReport(
            started=raced.state.started,
            quick=arguments.quick,
            protocol=protocol(
                plan,
                raced.state.rounds,
                seconds=time.monotonic() - begun,
                training=training,
                left_out=LEFT_OUT if arguments.quick else "",
            ),
            entries=with_datasets(entries, plan.spec, trained_on=trained_on),
            ratios=ratios_of(raced.state.rounds, without=raced.failed),
        )
    as_json, as_markdown, as_page = written(arguments.out)
    report.save(as_json)
    as_markdown.write_text(markdown(report), encoding="utf-8")
    as_page.write_text(page(report), encoding="utf-8")
    state_path.unlink(missing_ok=True)
    return report


def _plan(arguments: argparse.Namespace, progress: Progress, task: TaskID) -> Plan:
    device: Device = "cuda" if find_gpus(GPU_QUERY) else "cpu"
    cache = cache_folder("cost")
    if arguments.repository:
        released = open_release(arguments.repository)
        model = _model_of(released, arguments.model)
        _require_same(model, released)
    else:
        model = arguments.model or MODEL
        released = cached_release(
            model,
            device=device,
            quick=arguments.quick,
            cache=cache,
            report=lambda what: progress.update(task, description=what),
        )
    public = released.manifest.public
    return Plan(
        model=model,
        spec=public.spec,
        repository=released.repository,
        release=public.release,
        model_tag=public.model_tag,
        precision=public.precision,
        verdict=released.verdict,
        quick=arguments.quick,
        threads=len(os.sched_getaffinity(0)),
        cache=cache,
        only=frozenset(filter(None, arguments.only.split(","))),
        device=device,
    )


def _model_of(released: Released, asked: str | None) -> str:
    """Return the checkpoint or preset that a release was exported from.

    Raises:
        ReportError: It cannot be told, or another one was asked for.
    """
    name = released.manifest.public.spec.name
    if asked is None and name in PRESETS:
        return name
    if asked is None or (asked in PRESETS and asked != name):
        raise ReportError(
            f"--model: expected the checkpoint that the release of {name} was exported from, got "
            f"{asked or 'none'}; name it"
        )
    return asked


def _require_same(model: str, released: Released) -> None:
    """Refuse to set a release beside competitors that run another model.

    Raises:
        ReportError: The model's spec is not the release's.
    """
    untrained = model in PRESETS and model != "demo"
    spec = preset(model) if untrained else open_model(model).spec
    if spec != released.manifest.public.spec:
        raise ReportError(
            "--model: expected the checkpoint that the release of "
            f"{released.manifest.public.spec.name} was exported from, got {model}, which is "
            "another model; name that checkpoint"
        )


def _epoch_seconds(model: str, dataset: Path) -> float:
    """Return how long one epoch of training takes, in a process of its own.

    Raises:
        ReportError: The data set cannot be trained on.
    """
    done = subprocess.run(
        [sys.executable, "-m", epoch_process.__name__, model, str(dataset)],
        capture_output=True,
        check=False,
        encoding="utf-8",
        errors="replace",
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise ReportError(f"--dataset {dataset}: {last}")
    return float(done.stdout)


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total}"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="under 3 minutes: fewer rounds and fewer peers"
    )
    parser.add_argument(
        "--model",
        help=f"checkpoint, or preset (random weights but for demo); {MODEL} if not said",
    )
    parser.add_argument(
        "--repository", type=Path, help="take the release of the model that serves there"
    )
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for the report")
    parser.add_argument(
        "--only", default="", help="keys of the entries that take part, separated by commas"
    )
    parser.add_argument(
        "--dataset",
        type=Path,
        help="labelled videos (folder or CSV): time one epoch of training on them as well; called "
        "like a data set of the paper, for example gym99, they fill its row",
    )
    parser.add_argument("--baseline", type=Path, help="an earlier latency.json to compare with")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument(
        "--fresh", action="store_true", help="forget what a stopped run has measured"
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(run_command(main))
