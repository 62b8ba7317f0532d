"""Write files whole: a reader sees the old content or the new, also after a power cut."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

TEMPORARY = ".fgmclip-writing-"
"""Start of the names of files that are being written; one that stays is a killed writer's."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give the name of a new file, which takes the place of `path` when the block ends well.

    The new file lies beside the old one and keeps its suffix. It is on the disk before it bears
    the name. If the block fails, by a full disk for one, the new file is removed and the old one
    stays.

    Args:
        path: File to write; its folder has to exist.

    Yields:
        The name to write to.

    Raises:
        OSError: It cannot be written; the error names `path`'s folder or the new file.
    """
    temporary = path.with_name(f"{TEMPORARY}{os.getpid()}-{secrets.token_hex(4)}-{path.name}")
    try:
        yield temporary
        flush(temporary)
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    flush(path.parent)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole.

    Raises:
        OSError: It cannot be written; what was there stays.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole, in UTF-8 whatever the locale, its line ends as they are.

    Raises:
        OSError: It cannot be written; what was there stays.
    """
    write_bytes(path, text.encode("utf-8"))


def flush(path: Path) -> None:
    """Wait until a file, or a folder's list of files, is on the disk.

    Raises:
        OSError: The disk refused; what was written may be lost.
    """
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def remove_temporaries(folder: Path) -> None:
    """Remove what killed writers left in a folder; nobody may be writing there."""
    for path in folder.glob(f"{TEMPORARY}*"):
        path.unlink(missing_ok=True)
