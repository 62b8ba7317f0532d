"""Write files and folders whole: a reader sees the old or the new one, also after a power cut.

What fails, by a full disk for one, leaves what was there and nothing else, and its error names the
file that was to be written. What a killed writer leaves is named so that `remove_temporaries` finds
it; who writes into a folder says when it sweeps there.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from io import RawIOBase
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from fgmclip.storage.errors import StorageError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

TEMPORARY = ".fgmclip-writing-"
"""Start of the names of what is being written; one that stays is a killed writer's."""

ABANDONED_SECONDS = 24 * 3600.0
"""Nothing is written for that long: in a folder that several processes share, a temporary of that
age is a killed writer's."""

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}

_LONGEST_NAME = 255  # Bytes, of every usual file system.

# A network or FUSE file system may have no fsync for folders, or not let them be opened.
_NO_SYNC = {errno.EACCES, errno.EBADF, errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EPERM}


@contextmanager
def replacing(path: Path, *, aside: Path | None = None) -> Iterator[Path]:
    """Give the name of a new file, which takes the place of `path` when the block ends well.

    The new file, or link, lies beside the old one and keeps its suffix. It is on the disk before it
    bears the name. If the block fails, by a full disk for one, the new file is removed and the old
    one stays.

    Args:
        path: File to write; its folder has to exist.
        aside: Folder of the new file, on the same file system; that of `path` if None.

    Yields:
        The name to write to.

    Raises:
        OSError: It cannot be written; the error names `path`.
    """
    temporary = _temporary(path, aside or path.parent)
    try:
        with naming(path, instead=temporary):
            yield temporary
            if not temporary.is_symlink():
                flush(temporary)
            temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    flush_folder(path.parent)


@contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """Give a stream whose content takes the place of `path` when the block ends well.

    For libraries that write: some name a full disk by an error of their own, or by none, and some
    write once more while they clean up. The stream keeps the first error, which is raised.

    Args:
        path: File to write; its folder has to exist.

    Yields:
        The stream; it can seek.

    Raises:
        OSError: It cannot be written; the error names `path`, and what was there stays.
    """
    with replacing(path) as temporary:
        stream = _Stream(temporary)
        try:
            yield cast("BinaryIO", stream)
        except Exception as error:
            if stream.failure is not None and stream.failure is not error:
                raise stream.failure from error
            raise
        finally:
            stream.close()
        if stream.failure is not None:
            raise stream.failure


@contextmanager
def making_folder(path: Path) -> Iterator[Path]:
    """Give a new folder, which bears the name `path` when the block ends well.

    For folders whose name says what is in them: if another process was faster, its folder stays.

    Args:
        path: Folder to make; its parent has to exist.

    Yields:
        The empty folder to write into.

    Raises:
        OSError: It cannot be written; the error names `path` or a file in it.
    """
    temporary = _temporary(path, path.parent)
    try:
        with naming(path, instead=temporary):
            temporary.mkdir()
            yield temporary
            flush_tree(temporary)
            try:
                temporary.rename(path)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or not path.is_dir():
                    raise
                shutil.rmtree(temporary)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    flush_folder(path.parent)


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


def require_writable(path: Path) -> None:
    """Refuse a file that cannot be written, before the work whose outcome it is to hold.

    Raises:
        OSError: It cannot be written; the error names it.
    """
    temporary = _temporary(path, path.parent)
    with naming(path, instead=temporary):
        temporary.touch()
        temporary.unlink()


@contextmanager
def naming(path: Path, *, instead: Path | None = None) -> Iterator[None]:
    """Let each error of the file system name the file that was written: a full disk's names none.

    Args:
        path: What is named where an error names nothing.
        instead: A temporary: where an error names it, or a file in it, `path` is named.

    Raises:
        OSError: As the block raised it, with a name; a `StorageError` where NumPy or shutil say in
            words alone what failed.
    """
    try:
        yield
    except shutil.Error as error:
        # Of a folder's copies; the first tells enough.
        _, target, reason = error.args[0][0]
        raise StorageError(
            f"{target}: expected to copy it whole, got '{reason}'; free space on its disk, or "
            "name another place, and repeat the command"
        ) from error
    except OSError as error:
        if type(error) is OSError and error.errno is None:
            raise StorageError(
                f"{path}: expected to write it whole, got '{error}'; free space on its disk, or "
                "name another place, and repeat the command"
            ) from error
        if error.errno is None:
            raise
        # A copy that failed for want of room: what it was made of had some.
        copied = error.errno in _NO_ROOM and error.filename2 is not None
        named = error.filename2 if copied else error.filename
        if named is None:
            named = path
        elif instead is not None and isinstance(named, str | os.PathLike):
            inside = Path(named)
            if inside.is_relative_to(instead):
                named = path / inside.relative_to(instead)
        if named is error.filename:
            raise
        raise OSError(error.errno, error.strerror, str(named)) from error


def flush(path: Path) -> None:
    """Wait until a file is on the disk.

    Raises:
        OSError: The disk refused; what was written may be lost.
    """
    number = os.open(path, os.O_RDONLY)
    try:
        with naming(path):
            os.fsync(number)
    finally:
        os.close(number)


def flush_folder(path: Path) -> None:
    """Wait until a folder's list of files is on the disk, where the file system can say so.

    Raises:
        OSError: The disk refused; files that were made or renamed there may be lost.
    """
    try:
        flush(path)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise


def flush_tree(folder: Path) -> None:
    """Wait until all that lies in a folder is on the disk, and the lists of what lies there.

    Raises:
        OSError: The disk refused; what was written may be lost.
    """
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            continue
        if path.is_dir():
            flush_folder(path)
        else:
            flush(path)
    flush_folder(folder)


def remove_temporaries(
    folder: Path, *, name: str | None = None, abandoned_seconds: float = 0.0
) -> None:
    """Remove what killed writers left in a folder.

    Args:
        folder: The folder; it need not exist.
        name: File that they were writing; any if None.
        abandoned_seconds: What was touched within this time stays: others may be writing there.
            With 0 nobody may.
    """
    now = time.time()
    pattern = f"{TEMPORARY}*" if name is None else f"{TEMPORARY}*-{escape(name)}"
    for path in folder.glob(pattern):
        # Another process may sweep as well.
        with suppress(FileNotFoundError):
            if abandoned_seconds and now - path.lstat().st_mtime < abandoned_seconds:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


class _Stream(RawIOBase):
    """A file that keeps its first error, and takes no more after it or after its end."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        # Unbuffered: an error comes where it belongs, not from a later seek.
        self._file = path.open("wb", buffering=0)
        self._ended = False
        self.failure: OSError | None = None

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer, /) -> int:
        rest = memoryview(data).cast("B")
        size = rest.nbytes
        try:
            while rest and not self._ended:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            self.failure, self._ended = error, True
            raise
        return size

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        return 0 if self._ended else self._file.seek(offset, whence)

    def tell(self) -> int:
        return 0 if self._ended else self._file.tell()

    def flush(self) -> None:
        """Do nothing: nothing is held back, and NumPy's ZIP file flushes after the end."""

    def close(self) -> None:
        """End the file; the stream itself stays open for those who clean up late."""
        self._ended = True
        self._file.close()


def _temporary(path: Path, folder: Path) -> Path:
    start = f"{TEMPORARY}{os.getpid()}-{secrets.token_hex(4)}"
    name = f"{start}-{path.name}"
    if len(os.fsencode(name)) > _LONGEST_NAME:
        name = f"{start}{path.suffix}"
    return folder / name
