"""Plain names: all that Triton can be given, since its Python backend puts paths into shell lines.

A space in the path of a repository kept a server waiting for a step that never came up, and a
folder called `x$(touch${IFS}y)` ran its command. So Triton never sees a path of the user's: it is
given a folder of ours with a plain name, and a link in it that leads to the repository.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from fgmclip.serve.errors import StartError
from fgmclip.storage.cache import cache_folder
from fgmclip.storage.errors import StorageError

PREFIX = "fgmclip-server-"

_PLAIN = re.compile(r"[A-Za-z0-9_./-]+")


def is_plain(text: str) -> bool:
    """Return whether a path or name means itself to a shell, to Triton and in any locale."""
    return _PLAIN.fullmatch(text) is not None


def make_plain_directory() -> Path:
    """Make a folder of this server's own, below the first place that Triton can work in.

    Raises:
        StartError: There is none; the message says what is wrong with each place.
    """
    reasons = []
    for place in dict.fromkeys(_places()):
        reason = _unfit(place)
        if reason is None:
            try:
                return Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
            except OSError as error:
                reason = error.strerror or str(error)
        reasons.append(f"{place}: {reason}")
    raise StartError(
        "expected a folder for temporary files whose path has only letters, digits and _ . / - and "
        f"that allows programs to run, got none ({'; '.join(reasons)}); set TMPDIR to one"
    )


def _places() -> Iterator[Path]:
    chosen = os.environ.get("TMPDIR")
    if chosen:
        yield Path(chosen).absolute()
    yield from (Path("/tmp"), Path("/var/tmp"))
    # A user without a home has no cache; the other places are as good.
    with suppress(StorageError):
        yield cache_folder("servers")
    yield Path("/dev/shm")


def _unfit(place: Path) -> str | None:
    if not is_plain(str(place)):
        return "its path is not plain"
    try:
        place.mkdir(parents=True, exist_ok=True)
        # The backend's stub is a program, and lies in there.
        if os.statvfs(place).f_flag & os.ST_NOEXEC:
            return "mounted noexec"
    except OSError as error:
        return error.strerror or str(error)
    return None
