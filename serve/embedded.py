"""A Triton server of this program: started, watched over, and gone when the program is."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType

from fgmclip.serve import supervisor
from fgmclip.serve.binaries import Tritonserver, find_tritonserver
from fgmclip.serve.control import RESTRICTION, Control
from fgmclip.serve.errors import (
    PortError,
    ReadyTimeoutError,
    ReloadError,
    ServeError,
    ServerDiedError,
    StartError,
)
from fgmclip.serve.logs import failure
from fgmclip.serve.releases import Releases
from fgmclip.serve.shared_memory import region_prefix, require_shared_memory
from fgmclip.serve.watch import Watch

HOST = "127.0.0.1"
"""The only address: whoever wants to serve others runs a current Triton container."""

MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(32 * 2**20), "MALLOC_TRIM_THRESHOLD_": str(2**30)}
"""What makes glibc keep the memory of a request for the next one, up to 1 GB of it. Left to itself
it gave large blocks back: a clip of 1080p frames touched 14,454 new pages, and 384 with this."""

_GRACE_SECONDS = 10.0


class EmbeddedServer:
    """A tritonserver on loopback that serves the ensembles of a repository.

    Use it in a `with` statement. The server and everything it started end with the block, and with
    this process, whatever ends it. Leftovers in the repository are not looked at: only the
    ensembles and the steps that they name are loaded.

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
    ) -> None:
        """Name what to serve; nothing is started yet.

        Args:
            repository: Directory of models, as `fgmclip export` publishes it.
            grpc_port: Port for clients; a free one if None.
            metrics_port: Port for Prometheus; a free one if None.
            watch: Whether to serve a newly published release without being told.
            ready_timeout_seconds: How long loading may take, at the start and at a reload.
        """
        self._repository = Path(repository)
        self._ports = (grpc_port, metrics_port)
        self._watching = watch
        self._timeout = ready_timeout_seconds
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Address for gRPC clients, `127.0.0.1:PORT`."""
        return f"{HOST}:{self._grpc_port}"

    @property
    def metrics_url(self) -> str:
        """Address of the Prometheus metrics."""
        return f"http://{HOST}:{self._metrics_port}/metrics"

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the ensembles that are served."""
        return tuple(self._releases.served)

    def __enter__(self) -> EmbeddedServer:
        """Start the server and wait until every ensemble answers.

        Raises:
            ServeError: It cannot be started; the message says why.
        """
        binary = find_tritonserver()
        require_shared_memory()
        self._grpc_port, self._metrics_port = _ports(*self._ports)
        key = secrets.token_urlsafe(24)
        self._control = Control(self.url, key)
        self._releases = Releases(self._repository, self._control, self._timeout)
        self._watch = Watch(self._repository, self._releases.served, self.reload)
        self._directory = Path(tempfile.mkdtemp(prefix="fgmclip-server-"))
        self.log_path = self._directory / "triton.log"
        try:
            self._process = self._start(binary, key)
            self._wait_until_ready()
            self.version = self._control.version()
        except BaseException as error:
            self._end()
            if not isinstance(error, ServeError):
                shutil.rmtree(self._directory, ignore_errors=True)
            raise
        if self._watching:
            self._watch.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the server and wait until nothing of it is left."""
        died = self._process is not None and self._process.poll() is not None
        self._end()
        if not died:
            shutil.rmtree(self._directory, ignore_errors=True)

    def check(self) -> None:
        """Raise if the server is not running.

        Raises:
            ServerDiedError: It ended by itself, or was never started or already ended.
        """
        if self._process is None:
            raise ServerDiedError("the server is not running: use it inside its 'with' block")
        status = self._process.poll()
        if status is not None:
            why = failure(self.log_path) or f"exit status {status}"
            raise ServerDiedError(f"tritonserver ended by itself: {why} (log: {self.log_path})")

    def wait(self, timeout_seconds: float) -> None:
        """Return after that time, or raise as soon as the server has ended by itself.

        Raises:
            ServerDiedError: It is not running.
        """
        self.check()
        assert self._process is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_seconds)
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
        self.check()
        try:
            self._releases.reload()
        except ReloadError:
            self.check()
            raise

    def _start(self, binary: Tritonserver, key: str) -> subprocess.Popen[bytes]:
        prefix = region_prefix()
        command = [
            *binary.arguments(self._directory),
            f"--model-repository={self._repository.resolve()}",
            "--model-control-mode=explicit",
            # Configs are complete; to complete them Triton would start every step twice.
            "--disable-auto-complete-config",
            *(f"--load-model={name}" for name in self._releases.models),
            # A release that failed to load would else count against a server that serves the old.
            "--strict-readiness=false",
            "--allow-http=false",
            f"--grpc-address={HOST}",
            f"--grpc-port={self._grpc_port}",
            f"--metrics-address={HOST}",
            f"--metrics-port={self._metrics_port}",
            f"--grpc-restricted-protocol={RESTRICTION.format(key=key)}",
            f"--backend-config=python,shm-region-prefix-name={prefix}",
            f"--exit-timeout-secs={_GRACE_SECONDS // 2:.0f}",
        ]
        with self.log_path.open("wb") as log:
            return subprocess.Popen(
                # As a file, isolated and without site: it starts in a few milliseconds.
                [
                    *(sys.executable, "-I", "-S", supervisor.__file__),
                    *(prefix, str(self._directory), str(_GRACE_SECONDS)),
                    *command,
                ],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=MEMORY | binary.environment(),
                start_new_session=True,
            )

    def _wait_until_ready(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + self._timeout
        while not self._control.ready():
            if self._process.poll() is not None:
                why = failure(self.log_path) or f"exit status {self._process.returncode}"
                raise StartError(f"{self._repository}: {why} (log: {self.log_path})")
            if time.monotonic() > deadline:
                why = failure(self.log_path) or "models are still loading"
                raise ReadyTimeoutError(
                    f"{self._repository}: expected a ready server within {self._timeout:g} s, got "
                    f"none: {why} (log: {self.log_path})"
                )
            time.sleep(0.05)

    def _end(self) -> None:
        self._watch.stop()
        if self._process is not None:
            assert self._process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write(supervisor.STOP)
                self._process.stdin.close()
            self._process.wait()
            self._process = None
        # Only now: a reload on the way fails with the server instead of being waited for.
        self._watch.join()
        self._releases.close()
        self._control.close()


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
