"""Compute capabilities as a user writes them."""

from __future__ import annotations

import typer


def parse_sms(text: str | None) -> tuple[int, ...]:
    """Return compute capabilities as numbers, 89 for 8.9; none for the library's own choice.

    Args:
        text: For example `86,89`; None if nothing was said.

    Raises:
        typer.BadParameter: It is no list of numbers.
    """
    words = [] if text is None else text.split(",")
    if not all(word.strip().isdigit() for word in words):
        raise typer.BadParameter(
            f"expected numbers like 86,89 for 8.6 and 8.9, got {text}", param_hint="--sm"
        )
    return tuple(dict.fromkeys(int(word) for word in words))
