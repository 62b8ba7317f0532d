"""Plain names: all that programs can be given which put paths into shell lines.

Triton's Python backend does and so does nvcc: a space in the path of a repository kept a server
waiting for a step that never came up, and a folder called `x$(touch${IFS}y)` ran its command. Such
a program works in a folder of ours with a plain name and never sees a path of the user's.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from fgmclip.storage.cache import cache_folder
from fgmclip.storage.errors import StorageError

_PLAIN = re.compile(r"[A-Za-z0-9_./-]+")


def is_plain(text: str) -> bool:
    """Return whether a path or name means itself to a shell and in any locale."""
    return _PLAIN.fullmatch(text) is not None


def make_plain_directory(prefix: str) -> Path:
    """Make a new folder of a plain path, below the first place where programs may run.

    The places are `TMPDIR`, `/tmp`, `/var/tmp`, this user's cache and `/dev/shm`.

    Args:
        prefix: Start of its name.

    Raises:
        StorageError: There is no such place; the message says what is wrong with each.
    """
    reasons = []
    for place in dict.fromkeys(_places()):
        reason = _unfit(place)
        if reason is None:
            try:
                return Path(tempfile.mkdtemp(prefix=prefix, dir=place))
            except OSError as error:
                reason = error.strerror or str(error)
        reasons.append(f"{place}: {reason}")
    raise StorageError(
        "expected a folder for temporary files whose path has only letters, digits and _ . / - and "
        f"that allows programs to run, got none ({'; '.join(reasons)}); set TMPDIR to one"
    )


def plain_path(path: Path, link: Path) -> Path:
    """Return a plain path of a file: its own, or one through a link to its folder.

    Args:
        path: The file; its name has to be plain itself.
        link: Where the link may be made.
    """
    if is_plain(str(path)):
        return path
    link.symlink_to(path.parent, target_is_directory=True)
    return link / path.name


def _places() -> Iterator[Path]:
    chosen = os.environ.get("TMPDIR")
    if chosen:
        yield Path(chosen).absolute()
    yield from (Path("/tmp"), Path("/var/tmp"))
    # A user without a home has no cache; the other places are as good.
    with suppress(StorageError):
        yield cache_folder("tmp")
    yield Path("/dev/shm")


def _unfit(place: Path) -> str | None:
    if not is_plain(str(place)):
        return "its path is not plain"
    try:
        place.mkdir(parents=True, exist_ok=True)
        if os.statvfs(place).f_flag & os.ST_NOEXEC:
            return "mounted noexec"
    except OSError as error:
        return error.strerror or str(error)
    return None
