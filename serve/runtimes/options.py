"""Options of a runtime, which come as text from a step's `parameters`."""

from __future__ import annotations


def positive(option: str, text: str) -> int:
    """Return an option's whole number above 0.

    Raises:
        ValueError: It is none.
    """
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(
            f"option {option}: expected a whole number above 0, got {text!r}; export the release "
            "again"
        )
    return int(text)
