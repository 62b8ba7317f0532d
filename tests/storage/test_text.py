"""Text files as editors and spreadsheets write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from fgmclip.storage.errors import TextError
from fgmclip.storage.text import read_text


@pytest.mark.parametrize("content", ["ü\n", "\ufeffü\n", "ü\r\n", "\ufeffü\r\n", "ü\r"], ids=ascii)
def test_marks_and_line_ends_are_taken_off(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(content.encode())
    assert read_text(path) == "ü\n"


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("a\n".encode("utf-16"), "got UTF-16; save it as UTF-8"),
        ("a\n".encode("utf-32"), "got UTF-32; save it as UTF-8"),
        (b"ok\nh\xfcpfen\n", "got byte 0xfc in line 2; save it as UTF-8"),
    ],
)
def test_other_encodings_are_named(tmp_path: Path, content: bytes, what: str) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    with pytest.raises(TextError, match=what):
        read_text(path)
