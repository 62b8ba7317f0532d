"""Labels of classes: one spelling of each, which every file, terminal and protocol can carry."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

_LINES = {"\u2028", "\u2029"}
"""Besides control characters, what many programs take for the end of a line."""


def clean_label(text: str) -> str:
    """Return a label's one spelling: Unicode's NFC, without white space around it.

    A file system or an editor may write `ü` as two characters, `u` and two dots: another label to
    a program, the same one to everybody who reads it.
    """
    return unicodedata.normalize("NFC", text).strip()


def refused_character(label: str) -> str | None:
    """Return the first character that no label may hold, as `U+2028 (LINE SEPARATOR)`.

    Control characters and line ends break lists of labels into other lines than there are labels;
    half a surrogate pair cannot be written as UTF-8.
    """
    for character in label:
        if unicodedata.category(character) in ("Cc", "Cs") or character in _LINES:
            name = unicodedata.name(character, "")
            if not name:
                surrogate = unicodedata.category(character) == "Cs"
                name = "half a surrogate pair" if surrogate else "a control character"
            return f"U+{ord(character):04X} ({name})"
    return None


def near_twins(labels: Iterable[str]) -> tuple[str, str] | None:
    """Return the first two labels that people would take for one, or None.

    They differ in nothing but case, white space, or characters without a width.
    """
    seen: dict[str, str] = {}
    for label in labels:
        twin = seen.setdefault(_key(label), label)
        if twin != label:
            return twin, label
    return None


def _key(label: str) -> str:
    visible = "".join(item for item in label if unicodedata.category(item) != "Cf")
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", visible).casefold())
    return " ".join(folded.split())
