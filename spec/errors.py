"""The root of every error that fgmclip raises on purpose.

FgmclipError
└── SpecError            a spec, preset or manifest is wrong (also a ValueError)

Each room has its own `errors.py` that continues the tree below `FgmclipError`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import ValidationError

_SHOWN = 10


def listed(names: Sequence[str], *, between: str = ", ") -> str:
    """Return the first names of many, and how many more there are: an error is one line."""
    more = len(names) - _SHOWN
    return between.join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


class FgmclipError(Exception):
    """Base of every error raised on purpose; its message stands alone on one line.

    Attributes:
        exit_code: What the command line returns when this error ends it: 1 some input failed,
            2 usage, 3 regression found, 4 refused by a gate.
    """

    exit_code: ClassVar[int] = 1


class SpecError(FgmclipError, ValueError):
    """A spec says something that cannot be built; the message names the field and the remedy."""

    exit_code = 2

    @classmethod
    def from_validation(cls, error: ValidationError, what: str) -> SpecError:
        """Return one readable line for each wrong field of `what`.

        Args:
            error: What pydantic found.
            what: The thing that was read, for example `ModelSpec` or a file's name.
        """
        lines = []
        errors = error.errors(include_url=False)
        places = [item["loc"] for item in errors]
        for item in errors:
            here = item["loc"]
            if any(place[: len(here)] == here and place != here for place in places):
                # A list that is too short for no other reason than that an item was refused.
                continue
            field = ".".join(str(part) for part in here) or what
            came = repr(item["input"])
            came = came if len(came) <= 80 else came[:77] + "..."
            lines.append(f"{field}: {item['msg'].removeprefix('Value error, ')} (got {came})")
        return cls(f"{what} is not valid: " + listed(lines, between="; "))
