"""`CameraWorker`: the gateway's handle of a camera's process, which may die and be replaced."""

from __future__ import annotations

import atexit
import contextlib
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from types import ModuleType

from fgmclip.client.gateway.annotate import Shown
from fgmclip.client.gateway.backoff import Backoff
from fgmclip.client.gateway.messages import Counts, Ended, Lost, Message, Samples, Waiting
from fgmclip.client.gateway.pipeline import STEADY_SECONDS, Resume, WorkerTask
from fgmclip.client.gateway.settings import CameraSettings
from fgmclip.client.gateway.sources import Source, parse_source
from fgmclip.client.gateway.worker_main import (
    EXIT_HUNG,
    EXIT_MEMORY,
    LONGEST_WAIT_SECONDS,
    RESIDENT_BYTES,
    Next,
    Reply,
    Show,
    Stop,
    run_worker,
)
from fgmclip.spec import ModelSpec
from fgmclip.storage.explain import explain
from fgmclip.storage.text import one_line

ANSWER_SECONDS = 15.0
"""A worker that has not answered so long after the wait it was given is killed."""

_log = logging.getLogger(__name__)
_forkserver = multiprocessing.get_context("forkserver")
_forkserver.set_forkserver_preload(["fgmclip.client.gateway.preload"])
_starting = threading.Lock()

_running: weakref.WeakSet[CameraWorker] = weakref.WeakSet()


@atexit.register
def _kill_all() -> None:
    """Let no worker that hangs hold up the interpreter's end, which waits for its children."""
    for worker in list(_running):
        worker.kill()


@contextmanager
def _no_main_module() -> Iterator[None]:
    """Keep a new process from running the program's main module again.

    It would, to find what was defined there, and that may import torch: seconds and hundreds of
    megabytes for each camera. What a worker is given is defined in modules.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


class CameraWorker:
    """A camera's process, whatever happens to it.

    One thread calls `next` and `show`; `stop` and `kill` may come from another. A process that
    crashes, hangs or needs too much memory is replaced: a live source is `Lost` and opened again, a
    folder goes on with its next recording, a file has `Ended`.

    Example:
        ```python
        worker = CameraWorker(settings, spec)
        worker.start()
        while not isinstance(message := worker.next(1.0), Ended):
            ...
        worker.stop()
        ```
    """

    def __init__(self, settings: CameraSettings, spec: ModelSpec) -> None:
        """Make a handle; `start` starts the process.

        Args:
            settings: Of the camera.
            spec: The model's spec.

        Raises:
            SourceError: The source has no meaning.
        """
        self.source: Source = parse_source(settings)
        self._settings = settings
        self._spec = spec
        self._resume = Resume()
        self._lock = threading.Lock()
        self._process: ForkServerProcess | None = None
        self._connection: Connection | None = None
        self._began = 0.0
        self._restart_at = 0.0
        self._backoff = Backoff()
        self._earlier = Counts()
        self._counts = Counts()
        self._crashes: list[str] = []
        self._crashed_after: str | None = None
        self._ended: Ended | None = None
        self._stopping = threading.Event()

    @property
    def pid(self) -> int | None:
        """Of its process; None while there is none."""
        process = self._process
        return None if process is None else process.pid

    def start(self) -> None:
        """Start the process; returns before it has opened anything.

        Where that fails, `next` tries again and says so.
        """
        with contextlib.suppress(OSError, EOFError):
            self._launch()

    def next(self, wait_seconds: float) -> Message:
        """Return what the worker says next; after `Ended` always that.

        Args:
            wait_seconds: How long to wait for something new, at most; up to `ANSWER_SECONDS` more
                if the worker hangs.
        """
        if self._ended is not None:
            return self._ended
        if self._stopping.is_set():
            return Ended(None, self._counts)
        if self._process is None:
            until = self._restart_at - time.monotonic()
            if self._stopping.wait(min(max(0.0, until), wait_seconds)) or until > wait_seconds:
                return Waiting(self._counts)
            try:
                self._launch()
            except OSError as error:
                return self._crashed(f"no process can be started: {explain(error)}")
            except EOFError as error:
                return self._crashed(f"no process can be started: {one_line(str(error))}")
        reply = self._ask(min(wait_seconds, LONGEST_WAIT_SECONDS))
        if isinstance(reply, str):
            return self._crashed(reply)
        if reply.warning is not None:
            _log.warning("%s", reply.warning, extra={"camera": self._settings.name})
        self._resume = reply.resume
        message = self._totalled(reply.message)
        if isinstance(message, Ended):
            cause = "; ".join([*self._crashes, *([message.cause] if message.cause else [])])
            self._ended = message = Ended(cause or None, message.counts)
            self.stop()
        return message

    def show(self, time: float, shown: Shown) -> None:
        """Tell the annotated video what was decided; nothing happens where there is none.

        Args:
            time: `StreamSample.time` of the decision; must increase.
            shown: Label and probability by track; None for the whole frame.
        """
        if self._settings.annotate is not None:
            self._send(Show(time, shown))

    def stop(self, grace_seconds: float = 5.0) -> None:
        """End the process; it closes its files first if that takes no longer than the grace.

        Args:
            grace_seconds: Until it is killed.
        """
        self._stopping.set()
        self._send(Stop())
        process = self._process
        if process is not None:
            process.join(grace_seconds)
        self.kill()

    def kill(self) -> None:
        """End the process at once."""
        with self._lock:
            process, self._process = self._process, None
            # Not closed: another thread may be waiting on it, and hears of the process's end.
            self._connection = None
        if process is not None:
            if process.exitcode is None and process.pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
            process.join()
        _running.discard(self)

    def _launch(self) -> None:
        here, there = _forkserver.Pipe()
        settings = self._settings.replace(source="")
        task = WorkerTask(settings, self.source, self._spec, self._resume)
        process = _forkserver.Process(
            target=run_worker, args=(there, task), daemon=True, name=self._settings.name
        )
        with _starting, _no_main_module():
            process.start()
        there.close()
        with self._lock:
            self._process, self._connection = process, here
        self._began = time.monotonic()
        self._earlier = self._counts
        _running.add(self)

    def _send(self, request: Next | Show | Stop) -> bool:
        with self._lock:
            if self._connection is None:
                return False
            try:
                self._connection.send(request)
            except OSError:
                return False
            return True

    def _ask(self, wait_seconds: float) -> Reply | str:
        """Return the worker's reply, or what happened to it."""
        connection = self._connection
        if connection is None or not self._send(Next(wait_seconds)):
            return self._fate()
        try:
            if not connection.poll(wait_seconds + ANSWER_SECONDS):
                return f"the worker gave no answer for {ANSWER_SECONDS:.0f} s and was killed"
            reply: Reply = connection.recv()
        except (EOFError, OSError):
            return self._fate()
        return reply

    def _fate(self) -> str:
        process = self._process
        if process is None:
            return "the worker was stopped"
        process.join(ANSWER_SECONDS)
        code = process.exitcode
        if code == EXIT_HUNG:
            return "the decoder hung and was ended"
        if code == EXIT_MEMORY:
            return f"decoding it needs more than {RESIDENT_BYTES // 2**20} MiB of memory"
        if code is not None and code < 0:
            return f"the worker was ended by signal {-code} ({signal.strsignal(-code)})"
        return f"the worker ended by itself with status {code}"

    def _crashed(self, cause: str) -> Message:
        if self._stopping.is_set():
            return Ended(None, self._counts)
        self.kill()
        if self.source.is_live:
            if time.monotonic() - self._began > STEADY_SECONDS:
                self._backoff.reset()
            delay = self._backoff.next()
            self._restart_at = time.monotonic() + delay
            self._counts = replace(self._counts, reconnects=self._counts.reconnects + 1)
            return Lost(cause, delay)
        after = self._resume.after
        goes_on = (
            self.source.kind == "folder" and after is not None and after != self._crashed_after
        )
        if goes_on:
            self._crashed_after = after
            self._crashes = [*self._crashes, f"{after}: {cause}"][-3:]
            self._restart_at = 0.0
            return Waiting(self._counts)
        self._ended = Ended("; ".join([*self._crashes, cause]), self._counts)
        return self._ended

    def _totalled(self, message: Message) -> Message:
        """Return the message with what earlier processes of this camera counted."""
        if not isinstance(message, (Samples, Waiting, Ended)):
            return message
        before, now = self._earlier, message.counts
        self._counts = Counts(
            before.frames + now.frames,
            before.samples + now.samples,
            before.dropped + now.dropped,
            before.gaps + now.gaps,
            before.reconnects + now.reconnects,
            before.lost + now.lost,
        )
        return replace(message, counts=self._counts)
