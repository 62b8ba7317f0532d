"""Figures as text: one function for each kind, whoever shows it; what is missing is empty."""

from __future__ import annotations

from collections.abc import Callable, Sequence

Format = Callable[[float], str]

TO = " to "
"""Between the ends of an interval."""


def millions(count: int | None) -> str:
    """Return parameters as millions, with the paper's two decimals."""
    return "" if count is None else f"{count / 1e6:.2f}"


def billions(count: int | None) -> str:
    """Return multiply-adds as billions, with the paper's two decimals."""
    return "" if count is None else f"{count / 1e9:.2f}"


def as_printed(value: float | None) -> str:
    """Return a figure of the paper with the two decimals that it prints."""
    return "" if value is None else f"{value:.2f}"


def milliseconds(value: float) -> str:
    """Return a time; from 10 ms on, a second decimal would be noise."""
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}"


def seconds(value: float | None) -> str:
    """Return a time of training."""
    return "" if value is None else f"{value:.1f}"


def times(value: float) -> str:
    """Return a ratio, which may be far from one."""
    if value < 0.0995:
        return f"{value:.4f}"
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}"


def percent(part: float) -> str:
    """Return a part of one, as percent."""
    return f"{100 * part:.0f}"


def clip(shape: tuple[int, int, int]) -> str:
    """Return T, height and width of a clip."""
    return " x ".join(str(size) for size in shape)


def aligned(texts: Sequence[str], digit: str = " ", point: str = " ") -> list[str]:
    """Return a column's figures padded so that their decimal points stand below each other.

    Args:
        texts: Figures, intervals of them, or empty.
        digit: As wide as a digit.
        point: As wide as a decimal point.
    """
    split = [text.split(TO) if text else [] for text in texts]
    columns = max((len(parts) for parts in split), default=0)
    for column in range(columns):
        parted = [parts[column].partition(".") for parts in split if column < len(parts)]
        whole = max(len(before) for before, _, _ in parted)
        decimals = max(len(after) for _, _, after in parted)
        for parts in split:
            if column < len(parts):
                before, dot, after = parts[column].partition(".")
                left = digit * (whole - len(before)) + before
                right = digit * (decimals - len(after))
                missing = point if decimals and not dot else ""
                parts[column] = left + dot + after + missing + right
    return [TO.join(parts) for parts in split]
