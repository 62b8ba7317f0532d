"""Atomic writes: whole or not at all, and nothing left behind."""

from __future__ import annotations

import errno
import gc
import os
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

from fgmclip.storage.atomic import (
    TEMPORARY,
    making_folder,
    naming,
    remove_temporaries,
    replacing,
    write_bytes,
    write_text,
    writing,
)
from fgmclip.storage.errors import StorageError


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "eins\n")
    write_text(path, "zwei ü\r\n")
    assert path.read_bytes() == "zwei ü\r\n".encode()
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(b"before")

    def fail() -> None:
        with replacing(path) as temporary:
            assert temporary.suffix == ".npz"
            temporary.write_bytes(b"half")
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        fail()
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_writer_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / f"{TEMPORARY}1-ab-a.txt").write_text("half", encoding="utf-8")
    (tmp_path / "a.txt").write_text("whole", encoding="utf-8")
    remove_temporaries(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """Let no file grow beyond `size` bytes: as on a full disk, every write beyond it fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def write_by_name(path: Path) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(bytes(5000))


def write_by_stream(path: Path) -> None:
    with writing(path) as stream:
        stream.write(bytes(5000))


def write_by_zip(path: Path) -> None:
    # It writes once more as it is taken down, which would fail again.
    with writing(path) as stream:
        np.savez(stream, a=np.zeros(5000))


def write_by_a_library_with_errors_of_its_own(path: Path) -> None:
    with writing(path) as stream:
        try:
            stream.write(bytes(5000))
        except OSError as error:
            raise RuntimeError("unexpected pos 64 vs 0") from error


def write_by_a_library_without_errors(path: Path) -> None:
    with writing(path) as stream, suppress(OSError):
        stream.write(bytes(5000))


@pytest.mark.parametrize(
    "write",
    [
        write_by_name,
        write_by_stream,
        write_by_zip,
        write_by_a_library_with_errors_of_its_own,
        write_by_a_library_without_errors,
        lambda path: write_bytes(path, bytes(5000)),
    ],
)
def test_a_write_without_room_names_the_file(tmp_path: Path, write: Callable[[Path], None]) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(b"before")
    with room_for(1000), pytest.raises(OSError, match="File too large") as caught:
        write(path)
    gc.collect()
    assert caught.value.filename == str(path)
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_stream_seeks(tmp_path: Path) -> None:
    with writing(tmp_path / "a") as stream:
        stream.write(b"abcd")
        stream.seek(1)
        stream.write(b"X")
        assert stream.tell() == 2
    assert (tmp_path / "a").read_bytes() == b"aXcd"


def test_a_copy_that_failed_names_what_was_to_be_written(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(bytes(5000))
    with (
        room_for(1000),
        pytest.raises(OSError, match="File too large") as caught,
        naming(tmp_path),
    ):
        shutil.copy(source, target)
    assert caught.value.filename == str(target)


def test_a_tree_that_was_not_copied_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "a").write_bytes(bytes(5000))
    with (
        room_for(1000),
        pytest.raises(StorageError, match=r"target/a: expected to copy it whole"),
        naming(tmp_path),
    ):
        shutil.copytree(tmp_path / "source", tmp_path / "target")


def test_what_numpy_could_not_write_names_the_place(tmp_path: Path) -> None:
    with (
        room_for(1000),
        pytest.raises(StorageError, match="expected to write it whole"),
        naming(tmp_path / "a.npy"),
    ):
        np.save(tmp_path / "a.npy", np.zeros(5000))


def test_a_folder_is_made_whole(tmp_path: Path) -> None:
    path = tmp_path / "made"
    with making_folder(path) as new:
        (new / "a").write_text("a", encoding="utf-8")
        assert not path.exists()
    assert [item.name for item in path.iterdir()] == ["a"]
    with making_folder(path) as new:
        (new / "a").write_text("slower", encoding="utf-8")
    assert (path / "a").read_text(encoding="utf-8") == "a"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_without_room_is_not_there(tmp_path: Path) -> None:
    def fail() -> None:
        with making_folder(tmp_path / "made") as new:
            (new / "a").write_text("a", encoding="utf-8")
            (new / "b").write_bytes(bytes(5000))

    with room_for(1000), pytest.raises(OSError, match="File too large") as caught:
        fail()
    assert caught.value.filename == str(tmp_path / "made")
    assert not list(tmp_path.iterdir())


def test_a_file_in_a_folder_is_named_where_it_would_have_been(tmp_path: Path) -> None:
    def fail() -> None:
        with making_folder(tmp_path / "made") as new:
            write_bytes(new / "b", bytes(5000))

    with room_for(1000), pytest.raises(OSError, match="File too large") as caught:
        fail()
    assert caught.value.filename == str(tmp_path / "made" / "b")


def test_a_link_is_replaced_without_looking_where_it_leads(tmp_path: Path) -> None:
    link, aside = tmp_path / "link", tmp_path / "aside"
    aside.mkdir()
    link.symlink_to("old")
    with replacing(link, aside=aside) as temporary:
        assert temporary.parent == aside
        temporary.symlink_to("nowhere")
    assert os.readlink(link) == "nowhere"
    assert not list(aside.iterdir())


def test_the_longest_name_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / f"{'a' * 251}.txt"
    write_text(path, "a")
    assert path.read_text(encoding="utf-8") == "a"


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EIO])
def test_a_file_system_that_flushes_no_folders_is_borne(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    real = os.fsync

    def fsync(file: int) -> None:
        if Path(f"/proc/self/fd/{file}").resolve().is_dir():
            raise OSError(number, os.strerror(number))
        real(file)

    monkeypatch.setattr(os, "fsync", fsync)
    if number == errno.EIO:
        with pytest.raises(OSError, match=str(tmp_path)):
            write_text(tmp_path / "a", "a")
    else:
        write_text(tmp_path / "a", "a")


def test_a_sweep_spares_what_others_write(tmp_path: Path) -> None:
    old, new, other = (tmp_path / f"{TEMPORARY}{name}" for name in ("1-a-x", "2-b-x", "3-c-y"))
    for path in (old, new, other):
        path.mkdir()
        (path / "half").touch()
    os.utime(old, (0, 0))
    remove_temporaries(tmp_path, abandoned_seconds=3600)
    assert sorted(tmp_path.iterdir()) == [new, other]
    remove_temporaries(tmp_path, name="x")
    assert list(tmp_path.iterdir()) == [other]
    remove_temporaries(tmp_path / "absent")
