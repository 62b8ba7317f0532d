"""A Triton server of this program: started, kept running, and gone when the program is."""

from __future__ import annotations

import logging
import secrets
import shutil
import socket
import threading
import time
from collections.abc import Collection
from pathlib import Path
from types import TracebackType

from fgmclip.serve.binaries import find_tritonserver
from fgmclip.serve.control import Control
from fgmclip.serve.drain import drain
from fgmclip.serve.errors import (
    PortError,
    ReadyTimeoutError,
    ReloadError,
    ServeError,
    ServerDiedError,
    StartError,
)
from fgmclip.serve.guard import Guard, Report
from fgmclip.serve.process import HOST, Installation, TritonProcess
from fgmclip.serve.releases import Releases
from fgmclip.serve.shared_memory import require_shared_memory
from fgmclip.serve.watch import Watch
from fgmclip.storage.plain import make_plain_directory

DRAIN_SECONDS = 4.0
"""How long requests that were accepted may take when the server is to end."""

_DEAD_STEP_DRAIN_SECONDS = 1.0
_CHANGE_SECONDS = 2.0
_STARTS = 3
_LOG = logging.getLogger(__name__)


class EmbeddedServer:
    """A tritonserver on loopback that serves the ensembles of a repository.

    Use it in a `with` statement. The server and everything it started end with the block, and with
    this process, whatever ends it. What it has accepted is answered first. Until then it is kept
    running: if Triton or the process of a step dies, it is started again on the same ports, with
    the releases that it served. Leftovers in the repository are not looked at: only the ensembles
    and the steps that they name are loaded.

    HTTP is off. The shared-memory, model-repository, trace and logging protocols of gRPC need a
    random key of this server; other users of this machine can read it in the process list, since
    Triton takes it on its command line only.

    Attributes:
        version: Version of the server, for example 2.51.0.
        log_path: What Triton writes; it is kept if the server failed, else removed at the end.
    """

    def __init__(
        self,
        repository: Path,
        *,
        grpc_port: int | None = None,
        metrics_port: int | None = None,
        watch: bool = False,
        ready_timeout_seconds: float = 120.0,
        report: Report = _LOG.warning,
    ) -> None:
        """Name what to serve; nothing is started yet.

        Args:
            repository: Directory of models, as `fgmclip export` publishes it.
            grpc_port: Port for clients; a free one if None.
            metrics_port: Port for Prometheus; a free one if None.
            watch: Whether to serve a newly published release without being told.
            ready_timeout_seconds: How long loading may take, at the start and at a reload.
            report: Told in one line what happens to the server: restarts, changes of release,
                damaged ensembles. Called from threads of the server.
        """
        self._repository = Path(repository)
        self._ports = (grpc_port, metrics_port)
        self._watching = watch
        self._timeout = ready_timeout_seconds
        self._report = report
        self._process: TritonProcess | None = None
        self._dead: str | None = None
        self._gone = threading.Event()
        self._ending = threading.Event()
        # A reload and a new start of the server take turns.
        self._changing = threading.Lock()

    @property
    def url(self) -> str:
        """Address for gRPC clients, `127.0.0.1:PORT`."""
        return f"{HOST}:{self._installation.grpc_port}"

    @property
    def metrics_url(self) -> str:
        """Address of the Prometheus metrics."""
        return f"http://{HOST}:{self._installation.metrics_port}/metrics"

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the ensembles that are served."""
        return tuple(self._releases.served)

    @property
    def releases(self) -> str:
        """The releases that the ensembles name, for people: `r7`."""
        return self._releases.names

    @property
    def restarts(self) -> int:
        """How often the server was started again."""
        return self._guard.restarts

    @property
    def log_path(self) -> Path:
        """What Triton writes, over all its starts."""
        return self._installation.log

    @property
    def process(self) -> TritonProcess:
        """The run of Triton that serves now.

        Raises:
            ServerDiedError: There is none.
        """
        if self._process is None:
            raise ServerDiedError("the server is not running: use it inside its 'with' block")
        return self._process

    def __enter__(self) -> EmbeddedServer:
        """Start the server and wait until every ensemble answers.

        Raises:
            ServeError: It cannot be started; the message says why.
        """
        binary = find_tritonserver()
        require_shared_memory()
        ports = _ports(*self._ports)
        key = secrets.token_urlsafe(24)
        self._control = Control(f"{HOST}:{ports[0]}", key)
        self._releases = Releases(self._repository, self._control, self._timeout)
        self._watch = Watch(self._repository, self._releases, self.reload, self._report)
        self._guard = Guard(self, self._report)
        for damage in self._releases.damaged:
            self._report(f"{self._repository}: {damage}; it is not served")
        directory = make_plain_directory("fgmclip-server-")
        try:
            self._installation = Installation.lay_out(
                self._repository, directory, binary, ports, key
            )
            self._start_at_last()
            self.version = self._control.version()
        except BaseException as error:
            self._end()
            if not isinstance(error, ServeError):
                shutil.rmtree(directory, ignore_errors=True)
            raise
        self._guard.start()
        if self._watching:
            self._watch.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let the server answer what it has accepted, end it, and wait until nothing is left."""
        self._end()
        if self._dead is None:
            shutil.rmtree(self._installation.directory, ignore_errors=True)

    def check(self) -> None:
        """Raise if the server is not running, or was given up.

        Raises:
            ServerDiedError: It died and could not be started again, or was never started or
                already ended.
        """
        if self._dead is not None:
            raise ServerDiedError(f"{self._dead} (log: {self.log_path})")
        _ = self.process

    def wait(self, timeout_seconds: float) -> None:
        """Return after that time, or raise as soon as the server was given up.

        Raises:
            ServerDiedError: It is not running and is not being started again.
        """
        self.check()
        self._gone.wait(timeout_seconds)
        self.check()

    def reload(self) -> None:
        """Serve what the repository holds now, while requests go on.

        The steps of a new release are loaded first, under their own names; only when all of them
        stand do the ensembles change over. The old steps leave half a minute later.

        Raises:
            ReloadError: The new release cannot be served; the old one still answers.
            RepositoryError: An ensemble that is served vanished or became unreadable.
            ServerDiedError: The server is not running.
        """
        with self._changing:
            self.check()
            try:
                self._releases.reload()
            except ReloadError as error:
                raise ReloadError(self._installation.own_words(str(error))) from error

    def wanted_steps(self) -> Collection[str]:
        """Return the steps that have to run; for the guard."""
        return self._releases.needed

    def start_again(self, attempt: int) -> None:
        """End what is left of the server and start it anew; for the guard.

        Args:
            attempt: 0 for the first one of several. Every second one takes the repository as it
                is now: what was served before may have been removed, or replaced for a reason.

        Raises:
            ServeError: It cannot be started.
        """
        with self._changing:
            self._require_time()
            if not self.process.ended():
                drain(self._control, self._releases.served, _DEAD_STEP_DRAIN_SECONDS)
            self.process.stop(at_once=True)
            if attempt % 2:
                self._releases.read()
            else:
                self._releases.forget_retired()
            self._start()
        # A change of the repository that failed with the server is tried again.
        self._watch.look_again()

    def give_up(self, reason: str) -> None:
        """Take note that the server stays down; for the guard."""
        self._dead = f"tritonserver ended and cannot be started again: {reason}"
        self._gone.set()

    def _start_at_last(self) -> None:
        """Start Triton; once more if it died on the way.

        On a busy machine Triton 2.51 now and then aborts while it starts its steps, with a
        `lock_exception` of its shared memory.
        """
        for attempt in range(_STARTS):
            try:
                self._start()
                return
            except StartError as error:
                if self.process.killed_by is None or attempt + 1 == _STARTS:
                    raise
                self._report(f"{error}; starting it again")

    def _start(self) -> None:
        """Start Triton and wait until every ensemble answers."""
        known, changed = self._releases.on_disk()
        self._process = self._installation.start([*self._releases.steps, *known])
        try:
            self._wait_until_ready()
        except ServeError:
            self._process.stop(at_once=True)
            raise
        # What was served, though the files name another release by now.
        self._releases.load(changed)

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + self._timeout
        while not self._control.ready():
            self._require_time()
            if self.process.ended():
                raise StartError(
                    f"{self._repository}: {self.process.reason()} (log: {self.log_path})"
                )
            if time.monotonic() > deadline:
                why = self.process.reason() or "models are still loading"
                raise ReadyTimeoutError(
                    f"{self._repository}: expected a ready server within {self._timeout:g} s, got "
                    f"none: {why} (log: {self.log_path})"
                )
            time.sleep(0.05)

    def _require_time(self) -> None:
        if self._ending.is_set():
            raise StartError(f"{self._repository}: the server is being ended")

    def _end(self) -> None:
        self._ending.set()
        self._watch.stop()
        self._guard.stop()
        # A start that is on its way ends by itself; a reload may take too long to be waited for,
        # and fails with the server.
        waited = self._changing.acquire(timeout=_CHANGE_SECONDS)
        if self._process is not None:
            if not self._process.ended():
                drain(self._control, self._releases.served, DRAIN_SECONDS)
            self._process.stop()
            self._process = None
        if waited:
            self._changing.release()
        self._guard.join()
        self._watch.join()
        self._releases.close()
        self._control.close()
        self._gone.set()


def _ports(*asked: int | None) -> list[int]:
    """Return the ports to listen on; free ones, all different, where none is asked for."""
    sockets = []
    try:
        for port in asked:
            listener = socket.socket()
            sockets.append(listener)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((HOST, port or 0))
            except (OSError, OverflowError) as error:
                raise PortError(
                    f"port {port} of {HOST}: expected a free port ({error}); name another, or none "
                    "for a free one"
                ) from error
        return [int(listener.getsockname()[1]) for listener in sockets]
    finally:
        for listener in sockets:
            listener.close()
