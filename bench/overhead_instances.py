"""One instance of each encoder against two, on all cores, under several clients.

Run as `python bench/overhead_instances.py REPOSITORY`, with a release for CPUs, on a quiet machine:
beside others' work more threads get a larger share of the cores, which says nothing. Both servers
run; clients ask one of them for a stream's decisions, then the other. Exit code 0 when one instance
answers at least as many decisions a second as two, but for noise, else 3.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from fgmclip.bench.bars import REGRESSION, Bar, bars_table
from fgmclip.bench.overhead import requests
from fgmclip.bench.overhead_race import Case
from fgmclip.client import ActionClient
from fgmclip.command import run_command
from fgmclip.export.configs import format_config, parse_config
from fgmclip.export.settings import ENCODERS
from fgmclip.serve import EmbeddedServer
from fgmclip.spec import FgmclipError

CLIENTS = 4
NOISE = 0.97
"""Least ratio of one instance's decisions to two's: below this two are better."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the comparison and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("repository", type=Path, help="with a release for CPUs")
    parser.add_argument("--rounds", type=int, default=8, help="turns of each server")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of a turn")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args(argv)
    console = Console()
    try:
        rates = _race(arguments.repository, arguments.rounds, arguments.seconds, console)
    except FgmclipError as error:
        Console(stderr=True).print(f"error: {error}", style="red", highlight=False, markup=False)
        return error.exit_code
    ratios = np.divide(rates[1], rates[2])
    low, median, high = (float(value) for value in np.percentile(ratios, (25, 50, 75)))
    bar = Bar(
        f"decisions a second, {CLIENTS} clients: one instance over two",
        NOISE,
        median,
        at_least=True,
        unit="x",
        detail=f"quartiles {low:.2f} to {high:.2f}; {np.median(rates[1]):.1f} and "
        f"{np.median(rates[2]):.1f} a second",
    )
    console.print(bars_table([bar]))
    if arguments.json:
        figures = {"decisions_per_second": {str(key): value for key, value in rates.items()}}
        arguments.json.write_text(
            json.dumps(figures | {"bars": [bar.to_json()]}, indent=2) + "\n", encoding="utf-8"
        )
    return 0 if bar.reached else REGRESSION


def with_instances(repository: Path, path: Path, count: int) -> Path:
    """Copy a repository, with so many instances of each encoder."""
    shutil.copytree(repository, path)
    for encoder in ENCODERS:
        for file in path.glob(f"{encoder}__r*/config.pbtxt"):
            config = parse_config(file.read_text(encoding="utf-8"))
            for group in config.instance_group:
                group.count = count
            file.write_text(format_config(config), encoding="utf-8")
    return path


def decisions_per_second(client: ActionClient, case: Case, seconds: float) -> float:
    """Return how many requests several clients get answered, each with one in flight."""
    counts = [0] * CLIENTS
    start = time.perf_counter()

    def ask(number: int) -> None:
        while time.perf_counter() - start < seconds:
            client.transport.infer(
                case.model,
                case.inputs,
                case.outputs,
                timeout_seconds=client.timeouts.request_seconds,
            )
            counts[number] += 1

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - start)


def _race(
    repository: Path, rounds: int, seconds: float, console: Console
) -> dict[int, list[float]]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        clients = {}
        for count in (1, 2):
            path = with_instances(repository, folder / f"instances{count}", count)
            server = stack.enter_context(EmbeddedServer(path))
            clients[count] = stack.enter_context(ActionClient(server.url))
        manifest = clients[1].manifest
        cases = {case.name: case for case in requests(manifest.spec, manifest.embedding_tag)}
        rates: dict[int, list[float]] = {count: [] for count in clients}
        for number in track(range(rounds + 1), "turns", console=console, transient=True):
            for count in sorted(clients, reverse=number % 2 == 1):
                rate = decisions_per_second(clients[count], cases["stream 224"], seconds)
                # The first turn wakes libraries and does not count.
                if number:
                    rates[count].append(rate)
        return rates


if __name__ == "__main__":
    sys.exit(run_command(main))
