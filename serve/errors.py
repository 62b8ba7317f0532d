"""What goes wrong when a Triton server is started and looked after on this machine.

FgmclipError
└── ServeError
    ├── TritonNotFoundError     no tritonserver, or a part of it is missing (FileNotFoundError)
    ├── NoModelsError           the repository holds nothing to serve (ValueError); exit 2
    ├── AffectedVersionError    would expose a version with known holes (ValueError); exit 2
    ├── PortInUseError          a given port is taken (OSError)
    ├── SharedMemoryError       /dev/shm is too small to start (OSError)
    ├── StartError              the server ended before it was ready (RuntimeError)
    │   └── ModelLoadError      models failed to load; has `reasons`
    ├── StartTimeoutError       the server was not ready in time (TimeoutError)
    ├── ReloadError             a release was not taken over, the old one serves on (RuntimeError)
    └── ServerDiedError         the server ended by itself (RuntimeError)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from fgmclip.spec.errors import FgmclipError


class ServeError(FgmclipError):
    """Base of everything that goes wrong around the server."""


class TritonNotFoundError(ServeError, FileNotFoundError):
    """There is no tritonserver here, or a part that it needs is missing."""


class NoModelsError(ServeError, ValueError):
    """The repository does not exist or holds nothing to serve."""

    exit_code: ClassVar[int] = 2


class AffectedVersionError(ServeError, ValueError):
    """A version with published vulnerabilities would be exposed beyond this machine."""

    exit_code: ClassVar[int] = 2


class PortInUseError(ServeError, OSError):
    """A port that was asked for is taken."""


class SharedMemoryError(ServeError, OSError):
    """There is too little shared memory to start the steps."""


class StartError(ServeError, RuntimeError):
    """The server ended before it was ready."""


class ModelLoadError(StartError):
    """Models failed to load.

    Attributes:
        reasons: What each failed model said, by the model's name.
    """

    def __init__(self, reasons: Mapping[str, str], remedy: str) -> None:
        """Name the models, what they said, and where more is to be read."""
        self.reasons = dict(reasons)
        super().__init__(f"{format_reasons(reasons)}; {remedy}")


class StartTimeoutError(ServeError, TimeoutError):
    """The server was not ready in time."""


class ReloadError(ServeError, RuntimeError):
    """What was published could not be loaded; what was served before serves on.

    Attributes:
        reasons: What each failed model said, by the model's name.
    """

    def __init__(self, reasons: Mapping[str, str]) -> None:
        """Name the models and what they said."""
        self.reasons = dict(reasons)
        super().__init__(f"{format_reasons(reasons)}; the release before it serves on")


class ServerDiedError(ServeError, RuntimeError):
    """The server ended by itself."""


def format_reasons(reasons: Mapping[str, str]) -> str:
    """Return one line that names each model that failed to load, and why."""
    return "; ".join(f"model {name} failed to load: {why}" for name, why in reasons.items())
