"""Where caches lie: one folder of this user for everything that can be made again."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

from fgmclip.storage.errors import StorageError

VARIABLE = "XDG_CACHE_HOME"

_variables: dict[Path, str] = {}
"""Of each folder that was given out, the variable that names another."""


def cache_folder(name: str, *, override: str | None = None) -> Path:
    """Return the folder of one cache; it need not exist yet.

    In this order: `$OVERRIDE` itself, `$XDG_CACHE_HOME/fgmclip/NAME`, `~/.cache/fgmclip/NAME`. An
    empty variable counts as none, and so does a relative `XDG_CACHE_HOME`, as the XDG Base
    Directory Specification has it: neither may mean the working directory.

    Args:
        name: What is cached, for example `engines`.
        override: Environment variable that names the folder of this cache alone.

    Raises:
        StorageError: No variable names one and this user has no home.
    """
    chosen = os.environ.get(override) if override else None
    if chosen:
        return _noted(Path(chosen).absolute(), override)
    root = os.environ.get(VARIABLE, "")
    if os.path.isabs(root):
        return _noted(Path(root) / "fgmclip" / name)
    # The home is asked for only now: a container's user may have none and name its cache instead.
    home = _home()
    if home is None:
        also = f" or {override}" if override else ""
        raise StorageError(
            f"cache: expected a home for user {os.getuid()}, got none (no HOME, no passwd entry); "
            f"set {VARIABLE}{also} to a folder that this user can write"
        )
    return _noted(home / ".cache" / "fgmclip" / name)


def variable_of(path: Path) -> str | None:
    """Return the variable that moves a cache, if `path` is in one or on the way to one.

    Args:
        path: What could not be used.

    Returns:
        None if no cache was asked for there.
    """
    for folder, variable in _variables.items():
        if path.is_relative_to(folder) or (path != Path("/") and folder.is_relative_to(path)):
            return variable
    return None


def _noted(folder: Path, variable: str | None = None) -> Path:
    _variables[folder] = variable or VARIABLE
    return folder


def _home() -> Path | None:
    home = os.environ.get("HOME", "")
    if not os.path.isabs(home):
        try:
            home = pwd.getpwuid(os.getuid()).pw_dir
        except KeyError:
            return None
    return Path(home) if os.path.isabs(home) else None
