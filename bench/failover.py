"""Two servers under streams, one of them killed: are decisions lost, and how late do they come?

Run as `python bench/failover.py`; `--repository DIR` serves the release there instead of the
demo's. Two embedded servers on the same cores answer `--cameras` streams of 480p frames at the
model's own rate, edge preprocessing included. After a while one of them is killed with SIGKILL and
stays dead. Latency is from the moment a frame is due to its decision. Prints a table; `--json FILE`
writes everything. Exit code 0 when every bar is reached, else 3.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from fgmclip.bench.bars import REGRESSION, Bar, bars_table
from fgmclip.bench.frames import moving_frames
from fgmclip.bench.machine import describe_machine
from fgmclip.bench.overhead import SIZES
from fgmclip.bench.rig import triton
from fgmclip.bench.rtsp_camera import free_port
from fgmclip.client import ActionClient, ClientError, StreamClient, StreamDecision
from fgmclip.client.endpoints.endpoint import EndpointStatus
from fgmclip.client.endpoints.pool import EndpointPool, rank
from fgmclip.command import run_command
from fgmclip.export.demo import demo_repository
from fgmclip.serve import EmbeddedServer
from fgmclip.spec import FgmclipError

SLOWER = 1.2
"""p95 from `SETTLED_SECONDS` after the kill, as a multiple of p95 before it."""

SETTLED_SECONDS = 10.0

LATE_SECONDS = 0.25
"""A decision that comes later than this after the next sample is late."""

FRAMES = 32
"""Different frames of a stream, over and over."""


@dataclass(frozen=True, slots=True)
class Decided:
    """One decision.

    Attributes:
        due: When its last sample was seen, seconds of the monotonic clock.
        latency: From then to the decision, seconds.
    """

    due: float
    latency: float


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of the run.

    Attributes:
        name: For people.
        expected: Decisions that were due in it.
        made: Those of them that were made.
        late: Those of them that were late.
        p50_ms: Median latency, milliseconds.
        p95_ms: 95th percentile.
        longest_ms: Longest.
    """

    name: str
    expected: int
    made: int
    late: int
    p50_ms: float
    p95_ms: float
    longest_ms: float


@dataclass
class Camera:
    """One stream in real time; `run` is its thread.

    Attributes:
        stream: Asks for its decisions.
        frames: u8 RGB [n,H,W,3], over and over.
        dt: Time from one sample to the next, seconds.
        window: Samples before the first decision.
        phase: When its first sample is due, seconds of the monotonic clock.
        due: When each of its decisions was due.
        decided: The decisions that were made.
        failures: Requests that failed for good and were asked again.
    """

    stream: StreamClient
    frames: NDArray[np.uint8]
    dt: float
    window: int
    phase: float
    due: list[float] = field(default_factory=list)
    decided: list[Decided] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def run(self, stop: threading.Event) -> None:
        """Push a frame every dt until told to stop, and wait for the decisions that are due."""
        index = 0
        while not stop.wait(max(0.0, self.phase + index * self.dt - time.monotonic())):
            if index + 1 >= self.window:
                self.due.append(self.phase + index * self.dt)
            frame = self.frames[index % len(self.frames)]
            self._take(lambda: self.stream.push(frame, index * self.dt))  # noqa: B023
            while self.stream.due:
                self._take(self.stream.decide)
            index += 1

    def _take(self, ask: Any) -> None:
        try:
            results = ask()
        except ClientError as error:
            self.failures.append(str(error))
            return
        for result in results:
            if isinstance(result, StreamDecision):
                due = self.phase + result.index * self.dt
                self.decided.append(Decided(due, time.monotonic() - due))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the bench and return the exit status."""
    arguments = _parse(argv)
    console = Console()
    console.width = max(console.width, 110)
    try:
        figures, phases, bars = _run(arguments, console)
    except FgmclipError as error:
        Console(stderr=True).print(f"error: {error}", style="red", highlight=False, markup=False)
        return error.exit_code
    console.print(_table(phases, figures))
    console.print(bars_table(bars))
    machine = describe_machine() | {"load after": f"{os.getloadavg()[0]:.2f}"}
    line = ", ".join(f"{key} {value}" for key, value in machine.items())
    console.print(f"machine: {line}", style="dim", highlight=False)
    if arguments.json:
        report = {
            "machine": machine,
            "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "quick": arguments.quick,
            **figures,
            "phases": [asdict(phase) for phase in phases],
            "bars": [bar.to_json() for bar in bars],
        }
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0 if all(bar.reached for bar in bars) else REGRESSION


def phases_of(cameras: Sequence[Camera], begin: float, killed: float, end: float) -> list[Phase]:
    """Return what happened before the kill, in the seconds after it, and from then on.

    Args:
        cameras: After their run.
        begin: When counting begins, seconds of the monotonic clock.
        killed: When the server was killed.
        end: When counting ends.
    """
    settled = killed + SETTLED_SECONDS
    spans = (
        ("before", begin, killed),
        (f"first {SETTLED_SECONDS:g} s after the kill", killed, settled),
        (f"from {SETTLED_SECONDS:g} s after it", settled, end),
    )
    return [_phase(name, cameras, since, until) for name, since, until in spans]


def bars_of(phases: Sequence[Phase]) -> list[Bar]:
    """Return what must hold."""
    before, _, after = phases
    return [
        Bar("decisions lost", 0, sum(phase.expected - phase.made for phase in phases)),
        Bar(
            "p95 after to before",
            SLOWER,
            after.p95_ms / before.p95_ms,
            unit="x",
            detail=f"{after.p95_ms:.1f} and {before.p95_ms:.1f} ms",
        ),
    ]


def _phase(name: str, cameras: Sequence[Camera], since: float, until: float) -> Phase:
    expected = sum(since <= due < until for camera in cameras for due in camera.due)
    latest = cameras[0].dt + LATE_SECONDS
    latencies = [
        decided.latency
        for camera in cameras
        for decided in camera.decided
        if since <= decided.due < until
    ]
    if not latencies:
        return Phase(name, expected, 0, 0, np.inf, np.inf, np.inf)
    p50, p95, longest = (float(value) * 1e3 for value in np.percentile(latencies, (50, 95, 100)))
    late = sum(latency > latest for latency in latencies)
    return Phase(name, expected, len(latencies), late, p50, p95, longest)


def _run(
    arguments: argparse.Namespace, console: Console
) -> tuple[dict[str, Any], list[Phase], list[Bar]]:
    warm, before, after = (2.0, 5.0, 5.0) if arguments.quick else (5.0, 30.0, 30.0)
    with ExitStack() as stack:
        with console.status("exporting the demo"):
            repository = arguments.repository or demo_repository()
        with console.status("starting two servers"):
            stays = stack.enter_context(EmbeddedServer(repository))
            # In a process of its own: one that dies alone would be started again.
            port = free_port()
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            victim = stack.enter_context(triton(repository, port, folder))
        urls = (stays.url, f"127.0.0.1:{port}")
        pool = stack.enter_context(EndpointPool(urls))
        names = _names(urls, arguments.cameras)
        clients = [ActionClient(stays.url, transport=pool.transport(name)) for name in names]
        clip = clients[0].manifest.spec.clip
        frames = moving_frames(FRAMES, *SIZES["480p"])
        start = time.monotonic() + 1.0
        cameras = [
            # Cameras are not in step.
            Camera(
                StreamClient(client),
                frames,
                clip.dt,
                clip.frames,
                start + clip.dt * number / len(clients),
            )
            for number, client in enumerate(clients)
        ]
        stop = threading.Event()
        threads = [threading.Thread(target=camera.run, args=(stop,)) for camera in cameras]
        progress = stack.enter_context(Progress(console=console, transient=True))
        task = progress.add_task("streams", total=warm + before + SETTLED_SECONDS + after)
        for thread in threads:
            thread.start()
        try:
            begin = start + clip.window_seconds + warm
            _wait(begin + before, progress, task)
            homes = [status.requests for status in pool.status()]
            # The harder case: requests are out when it dies.
            patience = time.monotonic() + clip.window_seconds
            while not pool.status()[1].in_flight and time.monotonic() < patience:
                time.sleep(0.0005)
            victim.kill_all()
            killed = time.monotonic()
            end = killed + SETTLED_SECONDS + after
            _wait(end, progress, task)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        phases = phases_of(cameras, begin, killed, end)
        figures: dict[str, Any] = {
            "model": clients[0].manifest.spec.name,
            "precision": clients[0].manifest.precision,
            "cameras": len(cameras),
            "samples_per_second": 1 / clip.dt,
            "requests_before_the_kill": homes,
            "endpoints": [_facts(status) for status in pool.status()],
            "failures": sorted({failure for camera in cameras for failure in camera.failures}),
        }
        return figures, phases, bars_of(phases)


def _names(urls: tuple[str, str], cameras: int) -> list[str]:
    """Return names of cameras, half of which prefer either server."""
    names = [f"camera{number}" for number in range(100 + 10 * cameras)]
    first = [name for name in names if rank(name, urls[0]) < rank(name, urls[1])]
    second = [name for name in names if name not in first]
    # In turn, so that neighbours in time are not at the same server.
    pairs = zip(first, second, strict=False)
    return [name for pair in pairs for name in pair][:cameras]


def _wait(until: float, progress: Progress, task: Any) -> None:
    while (left := until - time.monotonic()) > 0:
        step = min(0.5, left)
        time.sleep(step)
        progress.advance(task, step)


def _facts(status: EndpointStatus) -> dict[str, Any]:
    # Ports differ from run to run and say nothing.
    return {key: value for key, value in asdict(status).items() if key != "url"}


def _table(phases: Sequence[Phase], figures: dict[str, Any]) -> Table:
    first, second = figures["endpoints"]
    table = Table(
        title=(
            f"{figures['model']}: {figures['cameras']} streams at "
            f"{figures['samples_per_second']:g} samples a second on two servers, one killed"
        ),
        title_justify="left",
        caption=(
            f"Requests: {first['requests']} to the one that stayed, {second['requests']} to the "
            f"other; {second['failures']} failed there, {first['retries']} were sent again."
        ),
        caption_justify="left",
    )
    table.add_column("when", no_wrap=True)
    for column in ("expected", "made", "late", "p50 ms", "p95 ms", "longest ms"):
        table.add_column(column, justify="right")
    for phase in phases:
        table.add_row(
            phase.name,
            *(str(count) for count in (phase.expected, phase.made, phase.late)),
            *(f"{value:.1f}" for value in (phase.p50_ms, phase.p95_ms, phase.longest_ms)),
        )
    return table


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cameras", type=int, default=8, help="streams")
    parser.add_argument("--repository", type=Path, help="serve this one")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--quick", action="store_true", help="shorter phases")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(run_command(main))
