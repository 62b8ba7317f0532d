"""Clients that give up, processes that are killed, servers that are ended: is anything lost?

Run as `python bench/crashes.py`; `--quick` does a tenth of everything. It starts `fgmclip serve`
with the demo's release, or `--repository DIR`, and does to it what people do: impatient clients of
ours, killed clients, requests that a foreign client cancels, killed steps under streams with a
second server, SIGTERM under load. Prints a table of faults, losses and times to recover; `--json
FILE` writes it. Exit code 0 when every bar is reached, else 3.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
import tritonclient.grpc as triton
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from fgmclip.bench.bars import Bar, run_bench
from fgmclip.bench.frames import moving_frames
from fgmclip.bench.machine import describe_machine
from fgmclip.bench.rig import Part, RigError
from fgmclip.bench.rig import triton as served
from fgmclip.bench.rtsp_camera import free_port
from fgmclip.client import ActionClient, ClientError, StreamClient, StreamDecision, Timeouts
from fgmclip.client.endpoints.pool import EndpointPool
from fgmclip.command import run_command
from fgmclip.export.demo import demo_repository

BACK_SECONDS = 15.0
"""A client's doing may cost a restart of so long."""

STEP_SECONDS = 10.0
"""A step's death may cost so long, and so may the end of a server."""

HEIGHT, WIDTH = 240, 320

_SETTLE_SECONDS = 0.3
_LONGEST_SECONDS = 90.0

KILLED_CLIENT = """
import sys, threading
from fgmclip.bench.crashes import window
from fgmclip.client import ActionClient
client = ActionClient(sys.argv[1])
frames = window(client)
client.classify_window(frames)
print("asking", flush=True)
def ask():
    while True:
        client.classify_window(frames)
for _ in range(4):
    threading.Thread(target=ask, daemon=True).start()
threading.Event().wait()
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one kind of fault did.

    Attributes:
        fault: What was done.
        times: How often.
        answered: Answers that came meanwhile.
        lost: Answers that were owed and never came.
        restarts: Starts of Triton that it cost.
        longest_seconds: Longest time until the service answered again.
        bar_seconds: What that may be.
        detail: What else is worth knowing.
    """

    fault: str
    times: int
    answered: int
    lost: int
    restarts: int
    longest_seconds: float
    bar_seconds: float
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Server:
    """A `fgmclip serve` in a process of its own.

    Attributes:
        part: The process.
        port: Where it answers.
        log: What it prints.
    """

    part: Part
    port: int
    log: Path

    @property
    def url(self) -> str:
        """Its address."""
        return f"127.0.0.1:{self.port}"

    def restarts(self) -> int:
        """Return how often Triton was started again, as the server says."""
        return self.log.read_text(encoding="utf-8").count("serving again after")

    def steps(self) -> dict[str, int]:
        """Return the process of each step that runs now."""
        found = {}
        for child in psutil.Process(self.part.pid).children(recursive=True):
            try:
                words = child.cmdline()
            except psutil.Error:
                continue
            if len(words) > 1 and words[0].endswith("triton_python_backend_stub"):
                found[Path(words[1]).parent.parent.name] = child.pid
        return found

    def back(self, since: float) -> float:
        """Return how long after a moment a new client was answered, seconds.

        Raises:
            RigError: None was for too long.
        """
        fault = ""
        while time.monotonic() - since < _LONGEST_SECONDS:
            try:
                with ActionClient(self.url, timeouts=Timeouts(request_seconds=10)) as client:
                    client.classify_window(window(client))
                return time.monotonic() - since
            except ClientError as error:
                fault = str(error)
                time.sleep(0.05)
        raise RigError(f"{self.url}: expected it back within {_LONGEST_SECONDS:g} s, got {fault}")


def window(client: ActionClient) -> Any:
    """Return frames u8 [T+1,H,W,3] of one question."""
    return moving_frames(client.manifest.spec.clip.frames + 1, HEIGHT, WIDTH)


def impatient(server: Server, seconds: float, clients: int, deadline: float) -> Outcome:
    """Let clients of ours ask with a deadline that most answers miss."""
    counts: Counter[str] = Counter()
    before = server.restarts()

    def ask(client: ActionClient, frames: Any) -> None:
        try:
            client.classify_window(frames)
            counts["answered"] += 1
        except ClientError as error:
            counts[type(error).__name__] += 1

    with _hammering(server.url, clients, ask, deadline):
        time.sleep(seconds)
    longest = server.back(time.monotonic())
    answered = counts.pop("answered", 0)
    return Outcome(
        f"{clients} clients of ours, deadline {deadline:g} s, {seconds:g} s long",
        1,
        answered,
        0,
        server.restarts() - before,
        longest,
        BACK_SECONDS,
        ", ".join(f"{name} {count}" for name, count in sorted(counts.items())),
    )


def killed_clients(server: Server, times: int, tick: Callable[[], None]) -> Outcome:
    """Kill clients with four requests under way."""
    before, longest = server.restarts(), 0.0
    for _ in range(times):
        command = [sys.executable, "-c", KILLED_CLIENT, server.url]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as client:
            assert client.stdout is not None
            client.stdout.readline()
            time.sleep(random.uniform(0.05, 0.2))
            client.kill()
        time.sleep(_SETTLE_SECONDS)
        longest = max(longest, server.back(time.monotonic() - _SETTLE_SECONDS))
        tick()
    return Outcome(
        "kill -9 of a client under way",
        times,
        0,
        0,
        server.restarts() - before,
        longest,
        BACK_SECONDS,
    )


def foreign_cancellations(server: Server, times: int, tick: Callable[[], None]) -> Outcome:
    """Cancel requests on the wire, ten at once, as a client of another project does."""
    before, longest, cancelled = server.restarts(), 0.0, 0
    with ActionClient(server.url) as client:
        frames = window(client)
    tensor = triton.InferInput("FRAMES", frames.shape, "UINT8")
    tensor.set_data_from_numpy(frames)
    while cancelled < times:
        with triton.InferenceServerClient(server.url) as foreign:
            calls = [
                foreign.async_infer("fgm_clip", [tensor], lambda result, error: None)
                for _ in range(10)
            ]
            time.sleep(random.uniform(0.0, 0.1))
            for call in calls:
                call.cancel()
            cancelled += len(calls)
            time.sleep(_SETTLE_SECONDS)
        longest = max(longest, server.back(time.monotonic() - _SETTLE_SECONDS))
        for _ in calls:
            tick()
    return Outcome(
        "cancellation by a foreign client",
        cancelled,
        0,
        0,
        server.restarts() - before,
        longest,
        BACK_SECONDS,
    )


def killed_steps(first: Server, second: Server, rounds: int, tick: Callable[[], None]) -> Outcome:
    """Kill the process of each step of one server under streams that know a second one."""
    before, longest, times = first.restarts(), 0.0, 0
    made: Counter[str] = Counter()
    errors: list[str] = []
    stop = threading.Event()
    with EndpointPool((first.url, second.url)) as pool:
        clients = [ActionClient(first.url, transport=pool.transport(f"c{i}")) for i in range(4)]
        clip = clients[0].manifest.spec.clip
        frames = moving_frames(16, HEIGHT, WIDTH)

        def watch(client: ActionClient, name: str) -> None:
            stream, index = StreamClient(client), 0
            while not stop.wait(clip.dt):
                made[f"{name} due"] += index + 1 >= clip.frames
                try:
                    results = stream.push(frames[index % len(frames)], index * clip.dt)
                    while stream.due:
                        results = [*results, *stream.decide()]
                    made[name] += sum(isinstance(item, StreamDecision) for item in results)
                except ClientError as error:
                    errors.append(str(error))
                index += 1

        threads = [
            threading.Thread(target=watch, args=(client, f"c{number}"))
            for number, client in enumerate(clients)
        ]
        for thread in threads:
            thread.start()
        try:
            time.sleep(clip.window_seconds + 1)
            for _ in range(rounds):
                for step in sorted(first.steps()):
                    pid = first.steps()[step]
                    os.kill(pid, signal.SIGKILL)
                    killed = time.monotonic()
                    # The question below does not go through every step.
                    while first.steps().get(step, pid) == pid:
                        time.sleep(0.05)
                    longest = max(longest, first.back(killed))
                    times += 1
                    tick()
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    due = sum(count for name, count in made.items() if name.endswith("due"))
    done = sum(made.values()) - due
    return Outcome(
        "kill -9 of a step under 4 streams, two servers",
        times,
        done,
        due - done,
        first.restarts() - before,
        longest,
        STEP_SECONDS,
        f"{len(errors)} requests failed for good" + (f": {errors[0]}" if errors else ""),
    )


def ended_servers(first: Server, second: Server, times: int, tick: Callable[[], None]) -> Outcome:
    """End two servers in turn with SIGTERM under eight clients that know both."""
    longest, answered = 0.0, 0
    failed: list[str] = []
    statuses: Counter[int] = Counter()
    counted = threading.Lock()

    def ask(client: ActionClient, frames: Any) -> None:
        nonlocal answered
        try:
            client.classify_window(frames)
        except ClientError as error:
            failed.append(f"{type(error).__name__}: {error}")
            return
        with counted:
            answered += 1

    with (
        EndpointPool((first.url, second.url)) as pool,
        _hammering(first.url, 8, ask, 60.0, pool),
    ):
        time.sleep(1)
        for number in range(times):
            server = (first, second)[number % 2]
            began = time.monotonic()
            statuses[server.part.stop(60)] += 1
            longest = max(longest, time.monotonic() - began)
            server.part.start()
            server.back(time.monotonic())
            # The pool looks once a second: both have to be in use before the other is ended.
            time.sleep(1.5)
            tick()
    return Outcome(
        "SIGTERM under 8 clients, two servers (time: until it had ended)",
        times,
        answered,
        len(failed),
        0,
        longest,
        STEP_SECONDS,
        f"exit status {dict(statuses)}" + (f"; first: {failed[0]}" if failed else ""),
    )


@contextmanager
def _hammering(
    url: str,
    clients: int,
    ask: Callable[[ActionClient, Any], None],
    seconds: float,
    pool: EndpointPool | None = None,
) -> Iterator[None]:
    """Let clients ask in a loop, each in a thread."""
    stop = threading.Event()

    def run(number: int) -> None:
        transport = None if pool is None else pool.transport(f"client{number}")
        timeouts = Timeouts(request_seconds=seconds)
        with ActionClient(url, timeouts=timeouts, transport=transport) as client:
            while not stop.is_set():
                ask(client, frames)

    with ActionClient(url) as first:
        frames = window(first)
    threads = [threading.Thread(target=run, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def measure(arguments: argparse.Namespace, console: Console) -> tuple[dict[str, Any], list[Bar]]:
    """Do everything and return the outcomes and bars."""
    share = 0.1 if arguments.quick else 1.0
    kills, cancels, ends = (max(2, round(share * count)) for count in (20, 200, 50))
    with ExitStack() as stack:
        with console.status("exporting the demo"):
            repository = arguments.repository or demo_repository()
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        servers = []
        for name in ("a", "b"):
            (folder / name).mkdir()
            port = free_port()
            part = stack.enter_context(served(repository, port, folder / name))
            servers.append(Server(part, port, folder / name / "triton.log"))
            servers[-1].back(time.monotonic())
        first, second = servers
        progress = stack.enter_context(Progress(console=console, transient=True))

        def ticking(what: str, total: int) -> Callable[[], None]:
            task = progress.add_task(what, total=total)
            return lambda: progress.advance(task)

        outcomes = [
            impatient(first, 60.0 * share, 16, 0.1),
            killed_clients(first, kills, ticking("killed clients", kills)),
            foreign_cancellations(first, cancels, ticking("cancellations", cancels)),
            killed_steps(first, second, 1, ticking("killed steps", len(first.steps()))),
            ended_servers(first, second, ends, ticking("ended servers", ends)),
        ]
    crashed = outcomes[0].restarts
    bars = [Bar("restarts by our clients' deadlines", 0, crashed)]
    for outcome in outcomes:
        bars.append(Bar(f"lost: {outcome.fault}", 0, outcome.lost))
        bars.append(
            Bar(f"time: {outcome.fault}", outcome.bar_seconds, outcome.longest_seconds, unit=" s")
        )
    figures = {
        "machine": describe_machine(),
        "quick": arguments.quick,
        "outcomes": [asdict(outcome) for outcome in outcomes],
    }
    return figures, bars


def tables(figures: dict[str, Any]) -> Sequence[Table]:
    """Return the outcomes as a table."""
    table = Table(title="What a server survives", title_justify="left")
    table.add_column("fault")
    for column in ("times", "answered", "lost", "restarts", "longest s"):
        table.add_column(column, justify="right")
    table.add_column("detail", style="dim", overflow="fold")
    for outcome in figures["outcomes"]:
        table.add_row(
            outcome["fault"],
            *(str(outcome[name]) for name in ("times", "answered", "lost", "restarts")),
            f"{outcome['longest_seconds']:.1f}",
            outcome["detail"],
        )
    return (table,)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the bench and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repository", type=Path, help="serve this one")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--quick", action="store_true", help="a tenth of everything")
    return run_bench(parser.parse_args(argv), measure, tables)


if __name__ == "__main__":
    sys.exit(run_command(main))
