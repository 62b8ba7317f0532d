"""Locks on files: one process holds one, and it goes with that process, however it ends."""

from __future__ import annotations

import errno
import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fgmclip.storage.atomic import naming
from fgmclip.storage.errors import LockedError, StorageError

_ASK_AGAIN_SECONDS = 0.05

_HELD = {errno.EACCES, errno.EAGAIN}
_NO_LOCKS = {errno.EBADF, errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP}


@contextmanager
def file_lock(path: Path, patience_seconds: float = 0.0) -> Iterator[None]:
    """Hold the lock of a file.

    Args:
        path: The file; made if there is none.
        patience_seconds: How long to wait for another that holds it.

    Raises:
        LockedError: Another holds it.
        StorageError: The file system knows no locks.
        OSError: The file cannot be opened.
    """
    until = time.monotonic() + patience_seconds
    with path.open("wb") as file:
        while not _taken(file.fileno(), path):
            if time.monotonic() >= until:
                raise LockedError(f"{path}: another process holds it; wait for it to end")
            time.sleep(_ASK_AGAIN_SECONDS)
        yield


def is_locked(path: Path) -> bool:
    """Return whether a process holds the lock of a file; False where there is no file.

    Raises:
        StorageError: The file system knows no locks.
        OSError: The file cannot be opened.
    """
    if not path.exists():
        return False
    try:
        with file_lock(path):
            return False
    except FileNotFoundError:
        return False
    except LockedError:
        return True


def _taken(number: int, path: Path) -> bool:
    try:
        with naming(path):
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD:
            return False
        if error.errno in _NO_LOCKS:
            raise StorageError(
                f"{path}: expected a file system with locks, got '{error.strerror}'; mount it with "
                "them (NFS: lockd, or local_lock=flock where one host writes; Lustre: flock), or "
                "write to a local disk and copy"
            ) from error
        raise
    return True
