"""The process of one camera: a thread that decodes, and one that answers the gateway.

It ends when the gateway says so or is gone; when its decoder hangs; and when it holds more memory
than `RESIDENT_BYTES`. Signals to a whole group of processes are the gateway's business.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import threading
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection

from fgmclip.client.gateway.annotate import Shown
from fgmclip.client.gateway.messages import Message, Samples, Waiting
from fgmclip.client.gateway.pipeline import CameraPipeline, Resume, WorkerTask

RESIDENT_BYTES = 2**30
"""A process that holds more is ended: a stream of 8K frames stays below, a leak does not."""

ADDRESS_BYTES = 3 * 2**29
"""What one picture's header may make the decoder ask for, beyond what the process starts with."""

LONGEST_WAIT_SECONDS = 5.0
"""A longer wait is answered by `Waiting` earlier."""

FINISH_SECONDS = 2.0
"""How long the decoder may take to come to the next frame at the end."""

EXIT_HUNG = 70
EXIT_MEMORY = 71

_POLL_SECONDS = 0.5
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Next:
    """Asks for exactly one `Reply`.

    Attributes:
        wait_seconds: How long to wait for something new.
    """

    wait_seconds: float


@dataclass(frozen=True, slots=True)
class Show:
    """Tells the annotator a decision; without a reply.

    Attributes:
        time: `StreamSample.time` of the decision.
        shown: What was decided.
    """

    time: float
    shown: Shown


@dataclass(frozen=True, slots=True)
class Stop:
    """Ends the process once its files are closed; without a reply."""


@dataclass(frozen=True, slots=True)
class Reply:
    """Answers `Next`.

    Attributes:
        message: What is next.
        resume: Where another worker would go on.
        warning: What went wrong beside the camera itself, in one line without secrets; said once.
    """

    message: Message
    resume: Resume
    warning: str | None


def run_worker(connection: Connection, task: WorkerTask) -> None:
    """Be a camera's process; never returns.

    Args:
        connection: To the gateway.
        task: What to watch.
    """
    # The gateway gets them as well, and what was captured is to be handed over first.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    # The gateway's end closes the pipe; this is for a thread that cannot look at it.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    _limit_memory()
    try:
        pipeline = CameraPipeline(task)
        decoding = threading.Thread(target=_decode, args=(pipeline,), daemon=True)
        decoding.start()
        _answer(connection, pipeline)
        pipeline.stop()
        decoding.join(FINISH_SECONDS)
        if pipeline.annotator is not None:
            pipeline.annotator.close()
    except MemoryError:
        os._exit(EXIT_MEMORY)
    # The decoding thread may be inside FFmpeg, where an orderly end would wait for it.
    os._exit(0)


def _limit_memory() -> None:
    now, _ = _memory()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    soft = now + ADDRESS_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (soft if hard < 0 else min(soft, hard), hard))


def _memory() -> tuple[int, int]:
    """Return the bytes of address space and the resident ones."""
    with open("/proc/self/statm", encoding="ascii") as statm:
        total, resident = statm.read().split()[:2]
    page = resource.getpagesize()
    return int(total) * page, int(resident) * page


def end_if_sick(pipeline: CameraPipeline) -> None:
    """End the process where only a new one helps."""
    if pipeline.hangs:
        os._exit(EXIT_HUNG)
    if _memory()[1] > RESIDENT_BYTES:
        os._exit(EXIT_MEMORY)


def _decode(pipeline: CameraPipeline) -> None:
    try:
        pipeline.run()
    except MemoryError:
        os._exit(EXIT_MEMORY)


def _answer(connection: Connection, pipeline: CameraPipeline) -> None:
    warned = False
    while True:
        end_if_sick(pipeline)
        try:
            if not connection.poll(_POLL_SECONDS):
                continue
            request = connection.recv()
            if isinstance(request, Stop):
                return
            if isinstance(request, Show):
                if pipeline.annotator is not None:
                    pipeline.annotator.show(request.time, request.shown)
                continue
            message = _next(pipeline, request.wait_seconds)
            resume = pipeline.resume
            annotator = pipeline.annotator
            warning = None if annotator is None or warned else annotator.failure
            connection.send(Reply(message, resume, warning))
        except (EOFError, OSError):
            return
        warned = warned or warning is not None
        pipeline.told(resume)


def _next(pipeline: CameraPipeline, wait_seconds: float) -> Message:
    deadline = time.monotonic() + min(wait_seconds, LONGEST_WAIT_SECONDS)
    while True:
        remaining = max(0.0, deadline - time.monotonic())
        taken = pipeline.queue.take(min(remaining, _POLL_SECONDS))
        if isinstance(taken, tuple):
            return Samples(*taken, pipeline.counts)
        if taken is not None:
            return taken
        # A wake-up ends the wait early: there is a new `Resume` to tell.
        if pipeline.wants_to_tell or remaining <= _POLL_SECONDS:
            return Waiting(pipeline.counts)
