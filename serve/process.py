"""One run of a tritonserver: its command line, its supervisor, its end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fgmclip.serve import supervisor
from fgmclip.serve.binaries import Tritonserver
from fgmclip.serve.control import RESTRICTION
from fgmclip.serve.logs import failure
from fgmclip.serve.shared_memory import region_prefix

HOST = "127.0.0.1"
"""The only address: whoever wants to serve others runs a current Triton container."""

MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(32 * 2**20), "MALLOC_TRIM_THRESHOLD_": str(2**30)}
"""What makes glibc keep the memory of a request for the next one, up to 1 GB of it. Left to itself
it gave large blocks back: a clip of 1080p frames touched 14,454 new pages, and 384 with this."""

GRACE_SECONDS = 5.0
"""How long Triton may take to end once it was asked to; what ran was waited for before."""

_MODELS = "models"


@dataclass(frozen=True)
class Installation:
    """What every run of one server shares: its folder, ports and key.

    Attributes:
        repository: The user's directory of models.
        directory: Folder of the server, of a plain name.
        command: Start of the command line.
        environment: What the program and its stubs need.
        grpc_port: Port for clients.
        metrics_port: Port for Prometheus.
        key: Value of the restricted protocols.
    """

    repository: Path
    directory: Path
    command: tuple[str, ...]
    environment: Mapping[str, str]
    grpc_port: int
    metrics_port: int
    key: str

    @classmethod
    def lay_out(
        cls, repository: Path, directory: Path, binary: Tritonserver, ports: Iterable[int], key: str
    ) -> Installation:
        """Fill the folder of a server.

        Args:
            repository: The user's directory of models; a link in the folder leads there.
            directory: The folder, new and of a plain name.
            binary: What to run.
            ports: For clients, and for Prometheus.
            key: Value of the restricted protocols.
        """
        (directory / _MODELS).symlink_to(repository.resolve(), target_is_directory=True)
        grpc_port, metrics_port = ports
        return cls(
            repository,
            directory,
            tuple(binary.arguments(directory)),
            MEMORY | binary.environment() | _absolute_places(),
            grpc_port,
            metrics_port,
            key,
        )

    @property
    def log(self) -> Path:
        """What Triton writes, over all runs."""
        return self.directory / "triton.log"

    def own_words(self, text: str) -> str:
        """Return what Triton said with the user's path of the repository in place of the link."""
        return text.replace(str(self.directory / _MODELS), str(self.repository))

    def start(self, models: Iterable[str]) -> TritonProcess:
        """Start Triton under a supervisor that ends it with this program.

        Args:
            models: What it loads at once.
        """
        prefix = region_prefix()
        command = [
            *self.command,
            f"--model-repository={self.directory / _MODELS}",
            "--model-control-mode=explicit",
            # Configs are complete; to complete them Triton would start every step twice.
            "--disable-auto-complete-config",
            *(f"--load-model={name}" for name in models),
            # A release that failed to load would else count against a server that serves the old.
            "--strict-readiness=false",
            "--allow-http=false",
            f"--grpc-address={HOST}",
            f"--grpc-port={self.grpc_port}",
            f"--metrics-address={HOST}",
            f"--metrics-port={self.metrics_port}",
            f"--grpc-restricted-protocol={RESTRICTION.format(key=self.key)}",
            f"--backend-config=python,shm-region-prefix-name={prefix}",
            f"--exit-timeout-secs={GRACE_SECONDS // 2:.0f}",
        ]
        with self.log.open("ab") as log:
            since = log.tell()
            process = subprocess.Popen(
                # As a file, isolated and without site: it starts in a few milliseconds.
                [
                    *(sys.executable, "-I", "-S", supervisor.__file__),
                    *(prefix, str(self.directory), str(GRACE_SECONDS)),
                    *command,
                ],
                stdin=subprocess.PIPE,
                bufsize=0,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Python stubs import from where they start; not from where the user happens to be.
                cwd=self.directory,
                env=self.environment,
                start_new_session=True,
            )
        return TritonProcess(self, process, since)


def _absolute_places() -> dict[str, str]:
    """Return the folders that variables name, as seen from the server's own."""
    names = ("FGMCLIP_ENGINES", "FGMCLIP_CUDA_CACHE", "TMPDIR")
    return {name: os.path.abspath(os.environ[name]) for name in names if os.environ.get(name)}


class TritonProcess:
    """A tritonserver that was started, seen through its supervisor."""

    def __init__(
        self, installation: Installation, process: subprocess.Popen[bytes], since: int
    ) -> None:
        """Take a supervisor over.

        Args:
            installation: What it runs.
            process: The supervisor.
            since: Length of the log when it started.
        """
        self._installation = installation
        self._process = process
        self._since = since

    @property
    def pid(self) -> int:
        """Of the supervisor, the parent of the tritonserver."""
        return self._process.pid

    @property
    def killed_by(self) -> signal.Signals | None:
        """The signal that ended it; None while it runs or if it ended in another way."""
        status = self._process.poll() or 0
        # A negative one is the supervisor's own.
        number = max(status - 128, -status)
        with contextlib.suppress(ValueError):
            return signal.Signals(number)
        return None

    def ended(self) -> bool:
        """Return whether it has ended."""
        return self._process.poll() is not None

    def reason(self) -> str:
        """Return why it failed in one line: a signal, or Triton's words; empty without a cause."""
        number = self.killed_by
        if number is not None:
            # It had no time to say anything, and what the log holds has other reasons.
            return f"killed by signal {number.value} ({number.name})"
        said = failure(self._installation.log, self._since)
        status = self._process.poll()
        ended = "" if status is None else f"exit status {status}"
        return self._installation.own_words(said) or ended

    def stop(self, *, at_once: bool = False) -> None:
        """End it and everything that it started.

        Args:
            at_once: Without letting it finish what it does.
        """
        assert self._process.stdin is not None
        if not self._process.stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write(supervisor.KILL if at_once else supervisor.STOP)
            self._process.stdin.close()
        self._process.wait()
