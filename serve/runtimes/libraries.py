"""TensorRT and TensorRT for RTX by name: what both building and serving need to know of them."""

from __future__ import annotations

import importlib
from typing import Any, Literal, get_args

LibraryName = Literal["tensorrt", "rtx"]

LIBRARIES: tuple[LibraryName, ...] = get_args(LibraryName)

MODULES: dict[LibraryName, str] = {"tensorrt": "tensorrt", "rtx": "tensorrt_rtx"}

TITLES: dict[LibraryName, str] = {"tensorrt": "TensorRT", "rtx": "TensorRT for RTX"}

INSTALL: dict[LibraryName, str] = {
    "tensorrt": "pip install 'fgmclip[gpu]', or use NVIDIA's container, which has it",
    "rtx": "pip install 'fgmclip[rtx]'",
}


def import_library(name: LibraryName) -> Any:
    """Import the module of a library.

    Args:
        name: `tensorrt` or `rtx`.

    Raises:
        ImportError: It is not installed, cannot be loaded, or has nothing in it.
    """
    module_name = MODULES[name]
    try:
        module = importlib.import_module(module_name)
    except (ImportError, OSError) as error:
        raise ImportError(
            f"{TITLES[name]}: expected the module {module_name}, got '{error}'; {INSTALL[name]}"
        ) from error
    if getattr(module, "__version__", None) is None or not hasattr(module, "Builder"):
        # `tensorrt-stubs` leaves a folder of that name, which imports as an empty package.
        raise ImportError(
            f"{TITLES[name]}: expected a module {module_name} with a builder, got an empty one, as "
            f"type stubs leave it; {INSTALL[name]}"
        )
    return module


def version_tuple(version: str) -> tuple[int, ...]:
    """Return the numbers of a version, for example (10, 13, 0, 35)."""
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def notes_logger(module: Any, lines: list[str]) -> Any:
    """Return a logger of a library that keeps warnings and errors.

    Args:
        module: The library's module.
        lines: Where to put them.
    """
    base = module.ILogger
    worst = int(base.WARNING)

    def start(logger: Any) -> None:
        base.__init__(logger)

    def log(logger: Any, severity: Any, message: str) -> None:
        if int(severity) <= worst:
            lines.append(message)

    # The base class is known only at run time.
    return type("Logger", (base,), {"__init__": start, "log": log})()
