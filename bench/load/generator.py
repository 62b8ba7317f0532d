"""The process of a load generator: `python -m fgmclip.bench.load.generator FOLDER`.

It reads a `LoadPlan` a line and writes a `LoadResult` a line, and waits in between without using a
core. It imports what a camera host does: no torch.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import selectors
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from fgmclip.bench.load.loops import closed_loop, open_loop
from fgmclip.bench.load.plan import LoadPlan, LoadResult, Traffic
from fgmclip.client import ClientError, OverloadedError
from fgmclip.client.async_transport import AsyncGrpcTransport

REQUEST_SECONDS = 60.0
"""What a request may take; a queue that is longer than that is no answer to any question here."""

_SETTLE_PAUSE = 0.2


def write_traffic(traffic: Traffic, folder: Path) -> None:
    """Write a kind of request where the process finds it."""
    np.savez(folder / f"{traffic.name}.npz", **traffic.arrays)
    rest = {"model": traffic.model, "strings": traffic.strings, "outputs": traffic.outputs}
    (folder / f"{traffic.name}.json").write_text(json.dumps(rest), encoding="utf-8")


def read_traffic(name: str, folder: Path) -> Traffic:
    """Read what `write_traffic` wrote."""
    rest = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    with np.load(folder / f"{name}.npz") as file:
        arrays = dict(file)
    return Traffic(name, rest["model"], arrays, rest["strings"], tuple(rest["outputs"]))


class Generator:
    """Carries out plans, one after the other, in one event loop."""

    def __init__(self, folder: Path) -> None:
        """Name where kinds of requests lie."""
        self._folder = folder
        self._traffic: dict[str, Traffic] = {}
        self._transports: dict[str, AsyncGrpcTransport] = {}

    async def run(self, plan: LoadPlan) -> LoadResult:
        """Carry out one plan.

        Raises:
            ClientError: A server does not answer at all, or refuses even a single request for long.
        """
        if plan.traffic not in self._traffic:
            self._traffic[plan.traffic] = read_traffic(plan.traffic, self._folder)
        traffic = self._traffic[plan.traffic]
        inputs = dict(traffic.arrays)
        for name, text in traffic.strings.items():
            inputs[name] = np.array([text.encode()], dtype=object)
        for url in plan.urls:
            if url not in self._transports:
                self._transports[url] = AsyncGrpcTransport(url)
        turns = itertools.cycle([self._transports[url] for url in plan.urls])
        failures: list[str] = []

        async def ask() -> bool:
            try:
                await next(turns).infer(
                    traffic.model, inputs, traffic.outputs, timeout_seconds=REQUEST_SECONDS
                )
            except ClientError as error:
                failures.append(str(error))
                return False
            return True

        for url in plan.urls:
            await self._settle(url, traffic, inputs)
        began, busy = time.monotonic(), time.process_time()
        if plan.arrivals is not None:
            record = await open_loop(ask, plan.arrivals, warm_up=plan.warm_up, seconds=plan.seconds)
        else:
            assert plan.concurrency is not None
            record = await closed_loop(
                ask, concurrency=plan.concurrency, warm_up=plan.warm_up, seconds=plan.seconds
            )
        cores = (time.process_time() - busy) / (time.monotonic() - began)
        late = float(np.percentile(record.lags, 95)) if record.lags else 0.0
        return LoadResult(tuple(record.latencies), late, cores, failures[0] if failures else "")

    async def _settle(self, url: str, traffic: Traffic, inputs: Mapping[str, Any]) -> None:
        """Wait until a server answers a single request.

        After an overload it does not at once: one step of an ensemble refuses a request while
        another is still busy with it.
        """
        until = time.monotonic() + REQUEST_SECONDS
        while True:
            try:
                await self._transports[url].infer(
                    traffic.model, inputs, traffic.outputs, timeout_seconds=REQUEST_SECONDS
                )
            except OverloadedError:
                if time.monotonic() > until:
                    raise
                await asyncio.sleep(_SETTLE_PAUSE)
            else:
                return

    async def close(self) -> None:
        """Close the connections."""
        for transport in self._transports.values():
            await transport.close()


def answer(folder: Path, asked: IO[str], told: IO[str]) -> None:
    """Carry out a plan for each line that is read, and write what came of it."""
    # epoll waits for whole milliseconds, which is as long as small models take.
    loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
    generator = Generator(folder)
    try:
        for line in asked:
            result = loop.run_until_complete(generator.run(LoadPlan.from_json(line)))
            print(result.to_json(), file=told, flush=True)
        loop.run_until_complete(generator.close())
    finally:
        loop.close()


if __name__ == "__main__":
    answer(Path(sys.argv[1]), sys.stdin, sys.stdout)
