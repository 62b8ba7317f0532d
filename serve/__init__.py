"""Serving: the steps that run inside Triton, and a Triton server on this machine.

Light at import: steps run in containers that have neither pydantic nor tritonclient, so the names
below are imported when they are asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fgmclip.serve.binaries import find_tritonserver
    from fgmclip.serve.embedded import EmbeddedServer
    from fgmclip.serve.errors import ServeError
    from fgmclip.serve.forever import serve_forever

__all__ = ["EmbeddedServer", "ServeError", "find_tritonserver", "serve_forever"]

_HOMES = {
    "EmbeddedServer": "fgmclip.serve.embedded",
    "ServeError": "fgmclip.serve.errors",
    "find_tritonserver": "fgmclip.serve.binaries",
    "serve_forever": "fgmclip.serve.forever",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
