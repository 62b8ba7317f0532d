"""`LoadProcess`: a load generator in a process of its own, asked over a pipe."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType

from fgmclip.bench.load import generator
from fgmclip.bench.load.generator import write_traffic
from fgmclip.bench.load.plan import LoadPlan, LoadResult, Traffic
from fgmclip.spec import FgmclipError


class LoadProcessError(FgmclipError):
    """The load generator ended by itself."""


class LoadProcess:
    """A load generator that sleeps until it is asked. Use it in a `with` statement.

    Example:
        ```python
        with LoadProcess() as load:
            load.give(traffic)
            result = load.run(LoadPlan(traffic.name, (url,), 1.0, 10.0, concurrency=4))
        ```
    """

    def __enter__(self) -> LoadProcess:
        """Start it."""
        self._directory = tempfile.TemporaryDirectory(prefix="fgmclip-load-")
        self._process = subprocess.Popen(
            [sys.executable, "-m", generator.__name__, self._directory.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it, also in the middle of a run."""
        if kind is not None:
            self._process.kill()
        self._process.communicate()
        self._directory.cleanup()

    @property
    def pid(self) -> int:
        """Of its process."""
        return self._process.pid

    def give(self, traffic: Traffic) -> None:
        """Let it have a kind of request, under its name."""
        write_traffic(traffic, Path(self._directory.name))

    def run(self, plan: LoadPlan) -> LoadResult:
        """Carry out a plan; returns when its last counted request is answered.

        Raises:
            LoadProcessError: It ended instead.
        """
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(plan.to_json() + "\n")
        stdin.flush()
        line = stdout.readline()
        if not line:
            raise LoadProcessError(
                f"the load generator: expected a result, got its end with exit status "
                f"{self._process.wait()}; its own message stands above"
            )
        return LoadResult.from_json(line)
