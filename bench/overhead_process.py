"""`BareProcess`: the bare chain of a release in another process, asked over a pipe."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgmclip.bench import overhead_bare
from fgmclip.bench.overhead_bare import ENGINES, PLAN_FILE
from fgmclip.export.configs import parse_config
from fgmclip.export.names import step_name
from fgmclip.spec import FgmclipError

Arrays = Mapping[str, NDArray[Any]]


class BareProcessError(FgmclipError):
    """The process with the bare chain ended by itself."""


def bare_plan(repository: Path, release: int) -> dict[str, Any]:
    """Return what the bare chain runs: the very kernels' parameters and engines of a release.

    Args:
        repository: Directory of models, exported for CPUs.
        release: Number of the release.
    """

    def parameters(step: str) -> dict[str, str]:
        text = (repository / step_name(step, release) / "config.pbtxt").read_text(encoding="utf-8")
        return {key: value.string_value for key, value in parse_config(text).parameters.items()}

    engines = {}
    for part in ENGINES:
        options = parameters(part)
        name, file = options.pop("runtime"), options.pop("engine")
        path = repository.resolve() / step_name(part, release) / "1" / file
        engines[part] = (name, str(path), options)
    return {"preprocess": json.loads(parameters("preprocess")["preprocess"]), "engines": engines}


class BareProcess:
    """The bare chain as a process that sleeps until it is asked. Use it in a `with` statement."""

    def __init__(self, plan: Mapping[str, Any]) -> None:
        """Name what it runs, as `bare_plan` returns it; nothing is started yet."""
        self._plan = plan

    def __enter__(self) -> BareProcess:
        """Start it, and wait until its engines are open.

        Raises:
            BareProcessError: It ended instead.
        """
        self._directory = tempfile.TemporaryDirectory(prefix="fgmclip-bare-")
        self._folder = Path(self._directory.name)
        (self._folder / PLAN_FILE).write_text(json.dumps(self._plan), encoding="utf-8")
        self._process = subprocess.Popen(
            [sys.executable, "-m", overhead_bare.__name__, str(self._folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
        )
        try:
            self._answer()
        except BareProcessError:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it."""
        self._end()

    def give(self, name: str, inputs: Arrays) -> None:
        """Let it have the arrays of a request, under a name without spaces."""
        numbers = {key: array for key, array in inputs.items() if array.dtype != object}
        np.savez(self._folder / f"{name}.npz", **numbers)

    def ask(self, name: str, calls: int) -> tuple[list[dict[str, float]], NDArray[np.float32]]:
        """Answer a request several times.

        Returns:
            Milliseconds by stage of each call, and the last EMBEDDING [1,H].

        Raises:
            BareProcessError: It ended instead.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(f"{name} {calls}\n")
        self._process.stdin.flush()
        answer = json.loads(self._answer())
        return answer["times"], np.array(answer["embedding"], np.float32)

    def _end(self) -> None:
        # Its input ends, and with that it does.
        self._process.communicate()
        self._directory.cleanup()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise BareProcessError(
                f"the bare chain: expected an answer, got its end with exit status "
                f"{self._process.wait()}; its own message stands above"
            )
        return line
