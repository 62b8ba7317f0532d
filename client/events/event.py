"""`Event`: an action that was seen, from when to when, by which model."""

from __future__ import annotations

import uuid
from dataclasses import asdict, dataclass
from typing import Any, Literal

Clock = Literal["wall", "media"]
"""What an event's times count: Unix seconds, or seconds since the first frame of a recording whose
start nobody stated."""

State = Literal["open", "ended", "interrupted"]

_NAMESPACE = uuid.UUID("6f1f6d52-3a35-4d0b-9a2c-0d6f7c3f9f0e")


@dataclass(frozen=True, slots=True)
class Event:
    """One action of one camera or track; a new value for each change.

    Attributes:
        id: The same for every message about this event, also when a recording is watched again.
        camera: Name of the camera.
        track: Name of the track; None for the whole frame.
        label: The action.
        start: Time of the first decision at or above the start threshold, seconds of `clock`.
        end: Time of the last decision at or above the keep threshold; None while open.
        peak: Highest probability so far.
        peak_time: When that was.
        state: `open`; `ended` by a decision, or by the end of its track, its source or its release;
            `interrupted` where the gateway or the camera was lost, or decisions stayed away, while
            it was open.
        clock: `wall` or `media`.
        model_tag: Names the release whose decisions it was made of.
        thumbnail: File of its picture; None where thumbnails are off.
    """

    id: str
    camera: str
    track: str | None
    label: str
    start: float
    end: float | None
    peak: float
    peak_time: float
    state: State
    clock: Clock
    model_tag: str
    thumbnail: str | None = None

    @property
    def message_id(self) -> str:
        """Names one state of one event: a receiver drops what it has seen."""
        return f"{self.id}:{self.state}"

    def to_json(self) -> dict[str, Any]:
        """Return the fields and `message_id` as JSON values."""
        return {"message_id": self.message_id, **asdict(self)}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Event:
        """Read what `to_json` wrote."""
        return cls(**{key: value for key, value in fields.items() if key != "message_id"})


def event_id(
    camera: str, track: str | None, label: str, start: float, clock: Clock, model_tag: str
) -> str:
    """Return an id that depends on what was seen alone, so that seeing it again repeats it."""
    seen = "\n".join((camera, track or "", label, f"{start:.3f}", clock, model_tag))
    return uuid.uuid5(_NAMESPACE, seen).hex
