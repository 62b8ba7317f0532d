"""Locks: held by one, gone with whoever held them."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from pathlib import Path

import pytest

from fgmclip.storage.errors import LockedError, StorageError
from fgmclip.storage.lock import file_lock, is_locked


def test_a_lock_is_held_by_one(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not is_locked(path)
    with file_lock(path):
        assert is_locked(path)
        with pytest.raises(LockedError, match="another process holds it"), file_lock(path):
            pass
    assert not is_locked(path)


def test_a_lock_is_waited_for(tmp_path: Path) -> None:
    path, held, asked = tmp_path / "lock", threading.Event(), threading.Event()

    def hold() -> None:
        with file_lock(path):
            held.set()
            asked.wait(20)

    other = threading.Thread(target=hold)
    other.start()
    assert held.wait(20)
    threading.Timer(0.1, asked.set).start()
    with file_lock(path, patience_seconds=20):
        assert asked.is_set()
    other.join()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
def test_a_file_system_without_locks_is_named_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def flock(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with (
        pytest.raises(StorageError, match=r"lock: expected a file system with locks, got .*mount"),
        file_lock(tmp_path / "lock"),
    ):
        pass
