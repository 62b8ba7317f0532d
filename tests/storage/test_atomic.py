"""Atomic writes: whole or not at all, and nothing left behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from fgmclip.storage.atomic import TEMPORARY, remove_temporaries, replacing, write_text


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
