"""The kernels against OpenCV, ground truth and their NumPy twin; every figure from this run.

Run as `python bench/kernels.py`. Competitors take turns on two threads each, so ratios hold on a
busy machine too; medians count, quartiles and the fastest calls stand beside them. Prints tables,
draws `out/flow.png` and `out/kernels.png`; `--json FILE` writes everything. Exit code 0 when every
bar is reached, else 3.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
from rich.console import Console, RenderableType
from rich.progress import Progress, TaskID
from rich.text import Text

from fgmclip.bench import agreement, costs, cuda_source
from fgmclip.bench.bars import REGRESSION, Bar, bars_table
from fgmclip.bench.flow_picture import draw_flow
from fgmclip.bench.flow_table import SIDES, error_table, flow_bars, measure_flow, time_table
from fgmclip.bench.flow_truth import FlowPair, read_pairs
from fgmclip.bench.machine import describe_machine
from fgmclip.bench.photometric import (
    find_clips,
    measure_clips,
    photometric_bars,
    photometric_table,
)
from fgmclip.bench.preprocess_race import race_preprocess
from fgmclip.bench.racing import Timing
from fgmclip.command import run_command
from fgmclip.kernels import native
from fgmclip.kernels.cuda.host import HostDevice, compiler
from fgmclip.kernels.errors import BuildError, KernelError
from fgmclip.kernels.parameters import FlowParameters, PreprocessParameters
from fgmclip.spec import FgmclipError, preset

THREADS = 2
PRESET = "b16"
"""Its PIXELS are 224 and its MOTION 112 pixels wide."""

NOISY = 0.2
"""Share of disturbed rounds beyond which the reader is warned."""

WIDTH = 120
"""Columns that the tables need."""

_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured.

    Attributes:
        race: Rounds of `preprocess` against OpenCV.
        flow: Rounds of the flow methods on each pair.
        cost: Rounds of each cost.
        counts: New frames in a call whose cost is measured.
        clips: Every so manieth clip is taken.
        per_clip: Pairs of a clip at most, at each size and spacing.
        build: Whether the CUDA binary is built, which takes a minute, where there is none yet.
    """

    race: int = 60
    flow: int = 40
    cost: int = 9
    counts: tuple[int, ...] = costs.COUNTS
    clips: int = 1
    per_clip: int = 6
    build: bool = True


QUICK = Effort(race=9, flow=7, cost=3, counts=(1, 8, 64), clips=8, per_clip=2, build=False)


@dataclass(slots=True)
class Report:
    """What was measured, as far as it got.

    Attributes:
        figures: For the JSON file.
        shown: Tables and lines for the terminal.
        bars: What must be reached.
        timings: Of all races.
    """

    figures: dict[str, Any] = field(default_factory=dict)
    shown: list[RenderableType] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)
    timings: list[Timing] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Bench:
    """The sections of the bench; each adds to the report.

    Attributes:
        parameters: What is computed.
        flow: Its flow's parameters.
        effort: How much is measured.
        pairs: Folder of pairs with known flow.
        clips: Folder of real clips.
        out: Folder of the pictures.
    """

    parameters: PreprocessParameters
    flow: FlowParameters
    effort: Effort
    pairs: Path
    clips: Path
    out: Path

    def preprocess(self, report: Report, progress: Progress) -> None:
        """Race `preprocess` of one 1080p pair against OpenCV."""
        tick = _task(progress, "preprocess against OpenCV", self.effort.race)
        result = race_preprocess(
            self.parameters, threads=THREADS, rounds=self.effort.race, tick=tick
        )
        report.figures["preprocess"] = result.to_json()
        report.shown.append(result.table())
        report.timings += result.times.values()
        report.bars += result.bars()

    def optical_flow(self, report: Report, progress: Progress) -> None:
        """Compare flow methods over pairs with known flow, and draw them."""
        pairs = self._pairs()
        tick = _task(progress, "flow against OpenCV", len(pairs) * len(SIDES))
        rows = measure_flow(pairs, self.flow, threads=THREADS, rounds=self.effort.flow, tick=tick)
        picture = self.out / "flow.png"
        draw_flow(pairs, self.flow, picture, threads=THREADS)
        report.figures["optical_flow"] = [row.to_json() for row in rows]
        report.shown += [error_table(rows), time_table(rows), f"flows: {picture}"]
        report.timings += [timing for row in rows for timing in row.times.values()]
        report.bars += flow_bars(rows)

    def clips_warped(self, report: Report, progress: Progress) -> None:
        """Compare what the flows leave of real clips after warping."""
        clips = self._clips()
        rows = measure_clips(
            clips,
            self.flow,
            threads=THREADS,
            per_clip=self.effort.per_clip,
            sides=SIDES,
            tick=_task(progress, "flow on real clips", len(clips)),
        )
        report.figures["photometric"] = [row.to_json() for row in rows]
        report.shown.append(photometric_table(rows))
        report.bars += photometric_bars(rows)

    def compiled(self, report: Report, progress: Progress) -> None:
        """Hold the C++ build to the NumPy twin."""
        tick = _task(progress, "agreement with the twin", 2)
        self._hold_to_twin(agreement.NATIVE, report, tick)

    def cuda(self, report: Report, progress: Progress) -> None:
        """Hold the CUDA source to the NumPy twin on the host layer, count its bytes, read ptxas."""
        tick = _task(progress, "CUDA source on the host layer", 3)
        if compiler() is None:
            _leave_out(
                report, "CUDA source", "expected a C++ compiler to run it on this CPU, got none"
            )
        else:
            device = HostDevice()
            self._hold_to_twin(cuda_source.cuda_operations(device), report, tick)
            traffic = cuda_source.measure_traffic(device, self.parameters)
            tick()
            report.figures["cuda_traffic"] = [row.to_json() for row in traffic]
            report.shown.append(cuda_source.traffic_table(traffic))
            report.bars.append(cuda_source.traffic_bar(traffic))
        try:
            figures = cuda_source.read_ptxas(_nvcc(progress) if self.effort.build else None)
        except BuildError as error:
            # A source that does not compile is a failure, a machine without nvcc is none.
            if error.log:
                raise
            _leave_out(report, "ptxas", str(error))
        else:
            report.figures["ptxas"] = [asdict(item) for item in figures]
            report.shown.append(cuda_source.ptxas_table(figures))
            report.bars.append(cuda_source.spill_bar(figures))

    def cost(self, report: Report, progress: Progress) -> None:
        """Measure the cost against frames, size and threads, and of the stages; draw it."""
        rounds, counts = self.effort.cost, self.effort.counts
        tick = _task(progress, "cost", 3 * rounds)
        whole = costs.measure_costs(self.parameters, rounds=rounds, tick=tick, counts=counts)
        stages = costs.measure_stages(self.parameters, rounds=2 * rounds, tick=tick)
        picture = self.out / "kernels.png"
        costs.draw_costs(whole, stages, picture)
        report.figures["cost"] = [item.to_json() for item in (*whole, *stages)]
        report.timings += [item.timing for item in (*whole, *stages)]
        report.shown += [costs.cost_table(whole), costs.stage_table(stages), f"costs: {picture}"]

    def _hold_to_twin(
        self, operations: agreement.Operations, report: Report, tick: Callable[[], None]
    ) -> None:
        """Compare an implementation with the NumPy twin on random and on real pictures."""
        one_a_class = {clip.parent: clip for clip in self._clips()}
        rows = []
        for pictures in (
            agreement.random_pictures(),
            agreement.real_pictures(list(one_a_class.values()), self._pairs()),
        ):
            rows += agreement.measure_agreement(operations, pictures, self.parameters)
            tick()
        report.figures.setdefault("agreement", []).extend(row.to_json() for row in rows)
        report.shown.append(agreement.agreement_table(rows))
        report.bars += agreement.agreement_bars(rows)

    def _pairs(self) -> list[FlowPair]:
        return read_pairs(self.pairs)

    def _clips(self) -> list[Path]:
        return find_clips(self.clips)[:: self.effort.clips]


SECTIONS: dict[str, Callable[[Bench, Report, Progress], None]] = {
    "preprocess": Bench.preprocess,
    "flow": Bench.optical_flow,
    "clips": Bench.clips_warped,
    "agreement": Bench.compiled,
    "cuda": Bench.cuda,
    "cost": Bench.cost,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the bench and return the exit status."""
    arguments = _parse(argv)
    console = Console()
    # A log or a pipe has no width of its own, and a narrow one would cut figures off.
    console.width = max(console.width, WIDTH)
    try:
        report = run(arguments, console)
    except (FgmclipError, KernelError, BuildError) as error:
        Console(stderr=True).print(f"error: {error}", style="red", highlight=False, markup=False)
        return getattr(error, "exit_code", 1)
    for item in report.shown:
        console.print(item)
    if report.bars:
        console.print(bars_table(report.bars))
    if report.figures["disturbed"] > NOISY:
        console.print(
            f"{report.figures['disturbed']:.0%} of the rounds were disturbed by other work on this "
            "machine: measure again when it is quiet",
            style="yellow",
        )
    facts = ", ".join(f"{key} {value}" for key, value in report.figures["machine"].items())
    console.print(f"machine: {facts}", style="dim", highlight=False)
    if arguments.json:
        arguments.json.write_text(json.dumps(report.figures, indent=2) + "\n", encoding="utf-8")
    return 0 if all(bar.reached for bar in report.bars) else REGRESSION


def run(arguments: argparse.Namespace, console: Console) -> Report:
    """Measure the sections that were asked for.

    Raises:
        FgmclipError: Test data is missing or cannot be read.
        KernelError: There are no compiled kernels, or the CUDA source does not compile for a CPU.
        BuildError: nvcc does not compile the CUDA source.
    """
    parameters = PreprocessParameters.from_spec(preset(PRESET))
    if parameters.flow is None:
        raise KernelError(f"preset {PRESET}: expected a model with motion, got one without")
    bench = Bench(
        parameters,
        parameters.flow,
        QUICK if arguments.quick else Effort(),
        arguments.pairs or arguments.data / "flow",
        arguments.data / "clips" / "ut_interaction",
        arguments.out,
    )
    report = Report()
    report.figures["machine"] = describe_machine() | {
        "opencv": cv2.__version__,
        "instruction set": native.instruction_set(),
        "threads": str(THREADS),
        "load before": f"{os.getloadavg()[0]:.2f}",
    }
    report.figures["quick"] = arguments.quick
    with Progress(console=console, transient=True) as progress:
        for name in arguments.only or SECTIONS:
            SECTIONS[name](bench, report, progress)
    disturbed = [timing.disturbed for timing in report.timings]
    report.figures["disturbed"] = sum(disturbed) / max(1, len(disturbed))
    report.figures["bars"] = [bar.to_json() for bar in report.bars]
    return report


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, clips and frames")
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(os.environ.get("FGMCLIP_TEST_DATA", _DATA)),
        help="folder with flow/ and clips/ut_interaction/ (default: $FGMCLIP_TEST_DATA)",
    )
    parser.add_argument(
        "--pairs", type=Path, help="folder of pairs frame1.*, frame2.*, flow.flo or flow.png"
    )
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder of the pictures")
    parser.add_argument(
        "--only", action="append", choices=SECTIONS, help="measure this section; may be repeated"
    )
    return parser.parse_args(argv)


def _nvcc(progress: Progress) -> Callable[[str, int, int], None]:
    """Return what shows how far nvcc is, once it is asked to build."""
    tasks: list[TaskID] = []

    def show(name: str, done: int, total: int) -> None:
        if not tasks:
            tasks.append(progress.add_task("nvcc", total=total))
        progress.update(tasks[0], description=f"nvcc: {name}", completed=done)

    return show


def _leave_out(report: Report, what: str, why: str) -> None:
    """Say what could not be measured on this machine, and why."""
    report.figures.setdefault("left_out", {})[what] = why
    report.shown.append(Text(f"left out: {what}: {why}", style="yellow"))


def _task(progress: Progress, name: str, total: int) -> Callable[[], None]:
    """Return what moves a new bar of the progress display one step on."""
    task = progress.add_task(name, total=total)
    return lambda: progress.advance(task)


if __name__ == "__main__":
    sys.exit(run_command(main))
