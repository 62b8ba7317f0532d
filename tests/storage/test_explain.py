"""An `OSError` in one line: what, where, and what helps."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import tempfile
from pathlib import Path

import pytest

from fgmclip.storage.cache import cache_folder
from fgmclip.storage.errors import StorageError
from fgmclip.storage.explain import explain


def system(number: int, *names: str | bytes | int | Path) -> OSError:
    arguments: tuple[object, ...] = (number, os.strerror(number), *names[:1])
    if len(names) > 1:
        arguments += (None, names[1])
    return OSError(*arguments)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (system(errno.ENOENT, "/a"), "/a: No such file or directory; check the path"),
        (system(errno.EACCES, Path("/a")), f"/a: Permission denied; give user {os.getuid()} the"),
        (system(errno.EPERM, "/a"), "the right to it"),
        (system(errno.EROFS, "/a"), "may be written"),
        (system(errno.ENOSPC, "/a"), "make room"),
        (system(errno.EDQUOT, "/a"), "quota"),
        (system(errno.EISDIR, "/a"), "name a file"),
        (system(errno.ENOTDIR, "/a"), "is a file"),
        (system(errno.EEXIST, "/a"), "move it away"),
        (system(errno.ENAMETOOLONG, "/a"), "shorter name"),
        (system(errno.ELOOP, "/a"), "circle"),
        (system(errno.EMFILE, "/a"), "ulimit -n"),
        (system(errno.EIO, "/a"), "dmesg"),
        (system(errno.ESTALE, "/a"), "mount"),
        (system(errno.ENOSPC), "No space left on device; make room"),
        (system(errno.EADDRINUSE), "another port"),
        (system(errno.EXDEV, "/a", "/b"), "/a -> /b: "),
        (system(errno.EBADF, 7), "file descriptor 7: "),
        (system(errno.ENOENT, b"/a\xfc"), "/a\\udcfc: "),
        (system(errno.ENOENT, "/a\nb"), "/a\\nb: "),
        (OSError("something"), "something; "),
        (OSError(), "OSError; "),
        (TimeoutError("timed out"), "timed out; check the address"),
        (socket.gaierror(-2, "Name or service not known"), "check the address"),
        (shutil.Error([("/a", "/b", "[Errno 5] bad"), ("/c", "/d", "no")]), "/a: [Errno 5] bad; "),
        (StorageError("/a: as it is"), "/a: as it is"),
    ],
    ids=str,
)
def test_a_line_names_the_path_the_trouble_and_the_remedy(error: OSError, words: str) -> None:
    line = explain(error)
    assert words in line
    assert len(line.splitlines()) == 1


def test_every_error_of_a_file_system_has_a_remedy_of_its_own() -> None:
    own = [explain(system(number, "/a")) for number in (errno.EINVAL, errno.ENOLCK, errno.EBUSY)]
    assert not any("system's log" in line for line in own)
    assert "system's log" in explain(system(errno.EILSEQ, "/a"))


def test_a_cache_is_moved_by_its_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("OWN", str(tmp_path / "own"))
    cache_folder("x")
    cache_folder("y", override="OWN")
    inside = explain(system(errno.EACCES, tmp_path / "cache" / "fgmclip" / "x" / "a"))
    assert "set XDG_CACHE_HOME to a folder" in inside
    on_the_way = explain(system(errno.EACCES, tmp_path / "cache" / "fgmclip"))
    assert "set XDG_CACHE_HOME to a folder" in on_the_way
    assert "set OWN to a folder" in explain(system(errno.EROFS, tmp_path / "own" / "a"))
    # A user's own file beside the caches is no cache.
    assert "XDG_CACHE_HOME" not in explain(system(errno.EACCES, tmp_path / "cache" / "mine"))


def test_a_missing_temporary_folder_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/nowhere"])
    monkeypatch.setattr(tempfile, "tempdir", None)
    with pytest.raises(FileNotFoundError) as caught:
        tempfile.gettempdir()
    assert "set TMPDIR to a folder" in explain(caught.value)


def test_a_removed_working_directory_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(FileNotFoundError) as raised:
        os.getcwd()
    assert explain(raised.value).startswith("working directory: No such file or directory; ")
