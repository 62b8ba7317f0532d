"""A real Triton server on this machine, and the steps that run inside any Triton server.

The names below are imported on first use: steps import this package inside Triton, where only
numpy is certain to be installed.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fgmclip.serve.binaries import TritonInstall, find_tritonserver
    from fgmclip.serve.embedded import EmbeddedServer
    from fgmclip.serve.errors import (
        AffectedVersionError,
        ModelLoadError,
        NoModelsError,
        PortInUseError,
        ReloadError,
        ServeError,
        ServerDiedError,
        SharedMemoryError,
        StartError,
        StartTimeoutError,
        TritonNotFoundError,
    )
    from fgmclip.serve.serving import serve_forever

_HOMES = {
    "EmbeddedServer": "embedded",
    "TritonInstall": "binaries",
    "find_tritonserver": "binaries",
    "serve_forever": "serving",
}

__all__ = [
    "AffectedVersionError",
    "EmbeddedServer",
    "ModelLoadError",
    "NoModelsError",
    "PortInUseError",
    "ReloadError",
    "ServeError",
    "ServerDiedError",
    "SharedMemoryError",
    "StartError",
    "StartTimeoutError",
    "TritonInstall",
    "TritonNotFoundError",
    "find_tritonserver",
    "serve_forever",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = importlib.import_module(f"{__name__}.{_HOMES.get(name, 'errors')}")
    return getattr(home, name)
