"""What the board shows at one moment: plain values that JSON and Prometheus can carry."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from fgmclip.client.endpoints.endpoint import EndpointStatus
from fgmclip.client.events.courier import CourierStatus
from fgmclip.client.events.event import Clock, Event, State
from fgmclip.client.events.outbox_status import OutboxStatus

CameraState = Literal["starting", "live", "idle", "stalled", "reconnecting", "ended", "failed"]
"""`idle`: live with its motion gate closed; `stalled`: open, but no server decides;
`ended` and `failed` are final."""

CAMERA_STATES: tuple[CameraState, ...] = (
    "starting",
    "live",
    "idle",
    "stalled",
    "reconnecting",
    "ended",
    "failed",
)


@dataclass(frozen=True, slots=True)
class HistogramSnapshot:
    """Durations, counted.

    Attributes:
        bounds: Upper bounds of the buckets, seconds, rising.
        counts: In each bucket, and beyond the last bound: one more than `bounds`.
        sum_seconds: Of all durations.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum_seconds: float


@dataclass(frozen=True, slots=True)
class DecisionPoint:
    """A point of the line of probability over time.

    Attributes:
        number: Rises over all decisions of the board.
        time: Of the last sample in the window, seconds of the camera's clock.
        label: The action.
        probability: Of the likeliest action.
        track: Name of the track; None for the whole frame.
    """

    number: int
    time: float
    label: str
    probability: float
    track: str | None


@dataclass(frozen=True, slots=True)
class TrackAction:
    """The current action of a track, or of the whole frame.

    Attributes:
        track: Name of the track; None for the whole frame.
        label: The action.
        probability: Of the likeliest action.
        top: The likeliest actions with their probabilities, likeliest first.
        age_seconds: Since it was decided.
    """

    track: str | None
    label: str
    probability: float
    top: tuple[tuple[str, float], ...]
    age_seconds: float


@dataclass(frozen=True, slots=True)
class EventCount:
    """How often an event of a class came into a state."""

    label: str
    state: State
    count: int


@dataclass(frozen=True, slots=True)
class CameraSnapshot:
    """One camera.

    Attributes:
        name: Of the camera.
        state: What it does.
        cause: Why, where it is not live; else empty.
        state_seconds: How long it has been in this state.
        what: The source for people; empty until it was opened.
        width: Of its frames, pixels; 0 until it was opened.
        height: Of its frames, pixels; 0 until it was opened.
        clock: What the times of its decisions count.
        frames: Frames decoded.
        samples: Samples made of them.
        dropped: Samples thrown away because they were not asked for in time.
        gaps: Points of the grid without a frame.
        reconnects: Times that the source was opened again.
        lost: Frames that were damaged or missing.
        encoded: Samples sent to be encoded.
        decisions: Decisions made.
        skipped: Decisions that were due and not made.
        resets: How often the window began anew, by reason.
        server_errors: Failed requests by kind.
        events: Events by class and state.
        decisions_per_second: Over the last 10 s.
        latency_p50: Median from capture to decision over the last minutes, seconds; None if no
            decision was made in them.
        latency_p95: The 95th percentile of the same.
        last_decision: Unix seconds of the newest decision; None before the first.
        gate_open: Whether the motion gate is open; None without a gate.
        gate_open_seconds: How long it was open.
        gate_seconds: How long there has been a gate.
        actions: Current actions, likeliest first.
        history: The newest decisions, oldest first.
        decision_latency: From capture to decision.
        event_latency: From capture to event.
    """

    name: str
    state: CameraState
    cause: str
    state_seconds: float
    what: str
    width: int
    height: int
    clock: Clock
    frames: int
    samples: int
    dropped: int
    gaps: int
    reconnects: int
    lost: int
    encoded: int
    decisions: int
    skipped: int
    resets: dict[str, int]
    server_errors: dict[str, int]
    events: tuple[EventCount, ...]
    decisions_per_second: float
    latency_p50: float | None
    latency_p95: float | None
    last_decision: float | None
    gate_open: bool | None
    gate_open_seconds: float
    gate_seconds: float
    actions: tuple[TrackAction, ...]
    history: tuple[DecisionPoint, ...]
    decision_latency: HistogramSnapshot
    event_latency: HistogramSnapshot


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that the board shows.

    Attributes:
        time: Unix seconds.
        uptime_seconds: Since the board was made.
        number: Decisions up to this number are in it or were before it.
        cameras: In the order in which they were added.
        events: The newest events in their newest state, the newest first.
        endpoints: The servers.
        sinks: Where events go.
        outbox: Where events wait; None while nothing is known about it.
    """

    time: float
    uptime_seconds: float
    number: int
    cameras: tuple[CameraSnapshot, ...]
    events: tuple[Event, ...]
    endpoints: tuple[EndpointStatus, ...]
    sinks: tuple[CourierStatus, ...]
    outbox: OutboxStatus | None

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values, but for the histograms, which are Prometheus' own."""
        fields = asdict(self)
        for camera in fields["cameras"]:
            del camera["decision_latency"], camera["event_latency"]
        return fields
