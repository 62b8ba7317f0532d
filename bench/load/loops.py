"""Closed and open loops of requests, without coordinated omission, whoever sends them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

Ask = Callable[[], Awaitable[bool]]
"""Sends a request; returns whether it was answered."""

_REFUSED_PAUSE = 0.01
"""What a client of a closed loop waits after a refusal, seconds, instead of asking in a spin."""


@dataclass
class Record:
    """What is noted of counted requests.

    Attributes:
        latencies: Seconds; None for a request that was not answered.
        lags: How long after its moment each was sent, seconds; empty in a closed loop.
    """

    latencies: list[float | None] = field(default_factory=list)
    lags: list[float] = field(default_factory=list)


async def closed_loop(ask: Ask, *, concurrency: int, warm_up: float, seconds: float) -> Record:
    """Keep a number of requests in flight; those count that start after the warm-up.

    The load goes on, uncounted, until the last counted request is answered: else the last ones
    would meet an idle server.
    """
    record, pending = Record(), 0
    first = time.monotonic() + warm_up
    last = first + seconds

    async def client() -> None:
        nonlocal pending
        while (start := time.monotonic()) < last or pending:
            counts = first <= start < last
            pending += counts
            answered = await ask()
            pending -= counts
            if counts:
                record.latencies.append(time.monotonic() - start if answered else None)
            if not answered:
                await asyncio.sleep(_REFUSED_PAUSE)

    await asyncio.gather(*(client() for _ in range(concurrency)))
    return record


async def open_loop(
    ask: Ask, arrivals: Sequence[float], *, warm_up: float, seconds: float
) -> Record:
    """Send requests when they are due, answered or not; those due after the warm-up count.

    Args:
        ask: Sends one.
        arrivals: When, seconds from now, in order.
        warm_up: Seconds that do not count.
        seconds: Seconds that do.

    Returns:
        Latencies from the moment at which a request was due: a server that stalls is charged with
        every request that it keeps waiting.
    """
    record, pending = Record(), 0
    began = time.monotonic()
    tasks: set[asyncio.Task[None]] = set()

    async def request(due: float, counts: bool) -> None:
        nonlocal pending
        if counts:
            record.lags.append(time.monotonic() - due)
        answered = await ask()
        if counts:
            pending -= 1
            record.latencies.append(time.monotonic() - due if answered else None)

    for offset in arrivals:
        if offset >= warm_up + seconds and not pending:
            break
        due = began + offset
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        counts = warm_up <= offset < warm_up + seconds
        pending += counts
        task = asyncio.create_task(request(due, counts))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    return record
