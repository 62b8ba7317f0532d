"""`Timeouts`: how long a client waits, as one object."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from fgmclip.client.errors import SettingsError

LONGEST_SECONDS = 86_400.0
"""A longer wait is refused: more than a day is a number of milliseconds given by mistake."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long a client waits; keywords only, so that two numbers cannot change places.

    Attributes:
        connect_seconds: Until the server first answers at all.
        request_seconds: From sending a request to its whole answer.

    Raises:
        SettingsError: A time is not a number above 0, or longer than a day.
    """

    connect_seconds: float = 5.0
    request_seconds: float = 60.0

    def __post_init__(self) -> None:
        """Refuse what is not a time."""
        for field in fields(self):
            value: object = getattr(self, field.name)
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not (number and math.isfinite(value) and 0 < value <= LONGEST_SECONDS):  # type: ignore[arg-type, operator]
                raise SettingsError(
                    f"{field.name}: expected seconds above 0 and up to {LONGEST_SECONDS:g}, "
                    f"got {value!r}; there is no value for waiting forever"
                )
