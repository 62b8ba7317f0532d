"""Read text as people send it: UTF-8 whatever the locale, with or without a byte order mark."""

from __future__ import annotations

import codecs
import os
from pathlib import Path
from typing import TextIO

from fgmclip.storage.errors import TextError

_OTHER_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


def read_text(path: Path) -> str:
    """Return the text of a file, without its byte order mark and with plain line ends.

    Raises:
        TextError: It is not UTF-8.
        OSError: It cannot be read.
    """
    return decode_text(path.read_bytes(), str(path))


def decode_text(content: bytes, name: str) -> str:
    """Return the text that bytes hold, as `read_text` does.

    Args:
        content: The bytes.
        name: What they are, for the error.

    Raises:
        TextError: They are not UTF-8.
    """
    _check_mark(content, name)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise TextError(
            f"{name}: expected UTF-8 text, got byte 0x{content[error.start]:02x} in line {line}; "
            "save it as UTF-8"
        ) from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def name_text(path: Path) -> str:
    """Return the last part of a path as people wrote it: UTF-8, whatever the locale says of names.

    What is not UTF-8 stays as halves of surrogate pairs, as Python has them.
    """
    return os.fsencode(path.name).decode("utf-8", "surrogateescape")


def named_path(text: str) -> Path:
    """Return the path that a text file names, in UTF-8 whatever the locale says of names."""
    return Path(os.fsdecode(text.encode("utf-8", "surrogateescape")))


def one_line(text: str) -> str:
    """Return `text` with everything escaped that is not printable, such as line breaks."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def without_controls(text: str) -> str:
    """Return `text` with everything escaped that is not printable, but for line breaks.

    A name may hold escape sequences, which a terminal would obey.
    """
    return "\n".join(map(one_line, text.split("\n")))


def open_text(path: Path) -> TextIO:
    """Open a text file to be read line by line, however long it is, as `read_text` reads it.

    A byte that is not UTF-8 is a `UnicodeDecodeError` where it is come to.

    Raises:
        TextError: Its byte order mark is that of another encoding.
        OSError: It cannot be read.
    """
    with path.open("rb") as raw:
        _check_mark(raw.read(4), str(path))
    return path.open(encoding="utf-8-sig")


def _check_mark(content: bytes, name: str) -> None:
    for mark, encoding in _OTHER_MARKS.items():
        if content.startswith(mark):
            raise TextError(f"{name}: expected UTF-8 text, got {encoding}; save it as UTF-8")
