"""Keep a server running: start it again when it, or the process of one of its steps, has died.

Triton 2.51 dies of a client's cancelled request (https://github.com/triton-inference-server/server
issues 7368 and 8034), and with a step whose process died it goes on saying that it is ready while
it fails every request.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from typing import Protocol

from fgmclip.serve.errors import ServeError
from fgmclip.serve.process import TritonProcess
from fgmclip.serve.stubs import runs, stubs_of

DELAYS_SECONDS = (0.0, 0.2, 0.5, 1.0, 2.0)
"""Before each start that follows another one soon; the last one for all that come after."""

CALM_SECONDS = 30.0
"""A server that ran for so long begins anew with the first delay."""

ATTEMPTS = 5
"""Starts in a row that may fail before the server is given up."""

LOOK_SECONDS = 0.1
LIST_SECONDS = 2.0

Report = Callable[[str], None]


class Guarded(Protocol):
    """What a guard needs of a server."""

    @property
    def process(self) -> TritonProcess:
        """The run that is to be guarded now."""

    def wanted_steps(self) -> Collection[str]:
        """Return the steps that need a process."""

    def start_again(self, attempt: int) -> None:
        """End what is left of the server and start it anew; raises `ServeError` if it cannot."""

    def give_up(self, reason: str) -> None:
        """Take note that the server stays down."""


class Guard:
    """A thread that looks at a server's processes.

    Attributes:
        restarts: How often the server was started again.
    """

    def __init__(self, server: Guarded, report: Report) -> None:
        """Name what to guard.

        Args:
            server: The server.
            report: Told in one line what happened.
        """
        self.restarts = 0
        self._server = server
        self._report = report
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fgmclip-guard", daemon=True)
        self._known: dict[int, str] = {}
        # Missed at the last look, or list: a step that is being unloaded has no process for a
        # moment before it is wanted no more.
        self._gone: set[int] = set()
        self._without: set[str] = set()
        self._next_list = 0.0
        self._soon = 0

    def start(self) -> None:
        """Begin to look at a server that runs."""
        self._take_stock()
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end; nothing is started from now on."""
        self._stopped.set()

    def join(self) -> None:
        """Wait until the thread has ended."""
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        started = time.monotonic()
        while not self._stopped.wait(LOOK_SECONDS):
            if self._server.process.ended():
                fault = f"tritonserver ended by itself: {self._server.process.reason()}"
            else:
                step = self._dead_step()
                if step is None:
                    continue
                fault = f"the process of {step} died"
            if time.monotonic() - started > CALM_SECONDS:
                self._soon = 0
            if not self._revive(fault):
                return
            started = time.monotonic()

    def _dead_step(self) -> str | None:
        """Return a step whose process is gone although nobody unloaded it.

        One that was there is missed within two looks. All of them are listed now and then, which
        costs more, for one that died before it was ever seen.
        """
        wanted = self._server.wanted_steps()
        gone = {
            pid: step for pid, step in self._known.items() if step in wanted and not runs(pid, step)
        }
        dead = [step for pid, step in gone.items() if pid in self._gone]
        self._gone = set(gone)
        if not dead and time.monotonic() >= self._next_list:
            self._next_list = time.monotonic() + LIST_SECONDS
            running = stubs_of(self._server.process.pid)
            self._known = running | gone
            without = {step for step in wanted if step not in self._known.values()}
            dead = list(without & self._without)
            self._without = without
        return dead[0] if dead else None

    def _take_stock(self) -> None:
        """Begin with the processes of a server that has just become ready."""
        self._known = stubs_of(self._server.process.pid)
        self._gone, self._without = set(), set()
        self._next_list = 0.0

    def _revive(self, fault: str) -> bool:
        """Start the server again; return whether it runs."""
        self._report(f"{fault}; starting it again on the same port")
        began = time.monotonic()
        for attempt in range(ATTEMPTS):
            delay = DELAYS_SECONDS[min(self._soon, len(DELAYS_SECONDS) - 1)]
            self._soon += 1
            if self._stopped.wait(delay):
                return False
            try:
                self._server.start_again(attempt)
            except ServeError as error:
                if self._stopped.is_set():
                    return False
                fault = str(error)
                self._report(f"start {attempt + 1} of {ATTEMPTS} failed: {fault}")
                continue
            self._take_stock()
            self.restarts += 1
            self._report(f"serving again after {time.monotonic() - began:.1f} s")
            return True
        self._server.give_up(fault)
        return False
