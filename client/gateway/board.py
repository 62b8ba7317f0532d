"""`Board`: what every camera does now; camera threads write, page, metrics and console read."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from threading import Lock
from typing import Any, Literal, overload

from fgmclip.client.endpoints.endpoint import EndpointStatus
from fgmclip.client.events.courier import CourierStatus
from fgmclip.client.events.event import Clock, Event
from fgmclip.client.events.outbox_status import OutboxStatus
from fgmclip.client.gateway.actions import Actions, Numbers
from fgmclip.client.gateway.messages import Counts
from fgmclip.client.gateway.secrets import redact
from fgmclip.client.gateway.snapshot import (
    CameraSnapshot,
    CameraState,
    EventCount,
    Snapshot,
)
from fgmclip.client.gateway.tallies import OTHER, Histogram, RecentLatencies, Tally

LATEST_EVENTS = 50

CAUSE_CHARACTERS = 300

_LABELS = 1024
_REASONS = 16

_log = logging.getLogger(__name__)


class CameraBoard:
    """The part of one camera. Its methods are quick and may be called from any thread.

    A camera that was removed from its board still takes what is said of it, in vain.
    """

    def __init__(
        self,
        name: str,
        numbers: Numbers,
        evented: Callable[[Event], None],
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        """Made by `Board.camera`.

        Args:
            name: Of the camera.
            numbers: Of decisions, shared by all cameras.
            evented: Told of every event.
            clock: Monotonic seconds.
            wall: Unix seconds.
        """
        self.name = name
        self._tell = evented
        self._clock = clock
        self._wall = wall
        self._lock = Lock()
        self._state: CameraState = "starting"
        self._cause = ""
        self._since = self._born = clock()
        self._what, self._width, self._height = "", 0, 0
        self._media: Clock = "wall"
        self._before = Counts()
        self._counts = Counts()
        self._encoded = self._decisions = self._skipped = 0
        self._resets, self._errors = Tally(_REASONS), Tally(_REASONS)
        self._events: dict[str, Tally] = {}
        self._latencies = RecentLatencies()
        self._decision_latency, self._event_latency = Histogram(), Histogram()
        self._last_decision: float | None = None
        self._gate: bool | None = None
        self._gate_at = self._gate_open = self._gate_total = 0.0
        self._actions = Actions(numbers)

    def became(self, state: CameraState, cause: str = "") -> None:
        """Say what the camera does from now on.

        Args:
            state: The state; the same one again only changes the cause.
            cause: Why it is not live, in one line.
        """
        cause = redact(cause)[:CAUSE_CHARACTERS]
        with self._lock:
            if state != self._state:
                self._since = self._clock()
            self._state, self._cause = state, cause

    def opened(self, what: str, width: int, height: int, clock: Clock) -> None:
        """Say what was opened.

        Args:
            what: The source for people, without secrets.
            width: Of its frames as shown, pixels.
            height: Of its frames as shown, pixels.
            clock: What the times of its decisions count.
        """
        what = redact(what)[:CAUSE_CHARACTERS]
        with self._lock:
            if clock != self._media:
                self._actions.forget()
            self._what, self._width, self._height, self._media = what, width, height, clock

    def counted(self, counts: Counts) -> None:
        """Take what a worker has counted since it began.

        A count that fell tells that another worker took over: its counts are added to those of
        the workers before it, so that totals never fall.
        """
        with self._lock:
            if any(getattr(counts, f.name) < getattr(self._counts, f.name) for f in fields(Counts)):
                self._before = _sum(self._before, self._counts)
            self._counts = counts

    def decided(
        self,
        time: float,
        label: str,
        probability: float,
        track: str | None,
        latency_seconds: float,
        samples: int,
        top: Sequence[tuple[str, float]] = (),
    ) -> None:
        """Take a decision.

        Args:
            time: Of the last sample in its window, seconds of the camera's clock.
            label: The action, or `unknown`.
            probability: Of the likeliest action.
            track: Name of the track; None for the whole frame.
            latency_seconds: From the capture of the last sample to now.
            samples: Samples that were encoded for it.
            top: The likeliest actions with their probabilities; three are kept.
        """
        with self._lock:
            now = self._clock()
            self._decisions += 1
            self._encoded += samples
            self._last_decision = self._wall()
            self._latencies.add(now, latency_seconds)
            self._decision_latency.add(latency_seconds)
            self._actions.add(now, time, label, probability, track, top)

    def skipped(self, decisions: int) -> None:
        """Count decisions that were due and not made."""
        with self._lock:
            self._skipped += decisions

    def reset(self, reason: str) -> None:
        """Count a window that began anew.

        Args:
            reason: One of few words, such as `gap` or `release`.
        """
        with self._lock:
            self._resets.add(reason)

    def failed_request(self, kind: str) -> None:
        """Count a request that failed.

        Args:
            kind: One of few words, such as `timeout` or `unavailable`.
        """
        with self._lock:
            self._errors.add(kind)

    def gate(self, open: bool) -> None:
        """Say whether the motion gate is open from now on; not said at all without a gate."""
        with self._lock:
            self._pass_gate_time()
            self._gate = open

    def evented(self, event: Event, latency_seconds: float | None = None) -> None:
        """Take an event that was accepted.

        Args:
            event: In its new state.
            latency_seconds: From the capture of the sample that decided it to now; None where
                no sample did, as after a restart.
        """
        with self._lock:
            label = event.label
            if label not in self._events and len(self._events) >= _LABELS:
                label = OTHER
            self._events.setdefault(label, Tally(3)).add(event.state)
            if latency_seconds is not None:
                self._event_latency.add(latency_seconds)
        self._tell(event)

    def snapshot(self, after: int = 0) -> CameraSnapshot:
        """Return what is known now.

        Args:
            after: Decisions up to this number are left out of the history.
        """
        with self._lock:
            now = self._clock()
            self._pass_gate_time()
            counts = _sum(self._before, self._counts)
            p50, p95 = self._latencies.percentiles(now) or (None, None)
            return CameraSnapshot(
                name=self.name,
                state=self._state,
                cause=self._cause,
                state_seconds=now - self._since,
                what=self._what,
                width=self._width,
                height=self._height,
                clock=self._media,
                frames=counts.frames,
                samples=counts.samples,
                dropped=counts.dropped,
                gaps=counts.gaps,
                reconnects=counts.reconnects,
                lost=counts.lost,
                encoded=self._encoded,
                decisions=self._decisions,
                skipped=self._skipped,
                resets=self._resets.snapshot(),
                server_errors=self._errors.snapshot(),
                events=tuple(
                    EventCount(label, state, number)  # type: ignore[arg-type]
                    for label, states in self._events.items()
                    for state, number in states.snapshot().items()
                ),
                decisions_per_second=self._latencies.rate(now, self._born),
                latency_p50=p50,
                latency_p95=p95,
                last_decision=self._last_decision,
                gate_open=self._gate,
                gate_open_seconds=self._gate_open,
                gate_seconds=self._gate_total,
                actions=self._actions.current(now),
                history=self._actions.history(after),
                decision_latency=self._decision_latency.snapshot(),
                event_latency=self._event_latency.snapshot(),
            )

    def _pass_gate_time(self) -> None:
        now = self._clock()
        if self._gate is not None:
            self._gate_total += now - self._gate_at
            self._gate_open += (now - self._gate_at) * self._gate
        self._gate_at = now


def _sum(one: Counts, other: Counts) -> Counts:
    return Counts(*(getattr(one, f.name) + getattr(other, f.name) for f in fields(Counts)))


class Board:
    """All cameras, the newest events, and how servers, sinks and outbox are.

    Safe for any number of threads; however long it lives, it takes the room of its cameras.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Start without cameras.

        Args:
            clock: Monotonic seconds.
            wall: Unix seconds.
        """
        self._clock = clock
        self._wall = wall
        self._born = clock()
        self._lock = Lock()
        self._numbers = Numbers()
        self._cameras: dict[str, CameraBoard] = {}
        self._events: OrderedDict[str, Event] = OrderedDict()
        self._watched: dict[str, Callable[[], Any]] = {}

    def camera(self, name: str) -> CameraBoard:
        """Return the part of a camera, which is added if there is none of this name."""
        with self._lock:
            if name not in self._cameras:
                self._cameras[name] = CameraBoard(
                    name, self._numbers, self._evented, self._clock, self._wall
                )
            return self._cameras[name]

    def remove(self, name: str) -> None:
        """Forget a camera; its events stay among the newest ones."""
        with self._lock:
            self._cameras.pop(name, None)

    @overload
    def watch(
        self, name: Literal["endpoints"], status: Callable[[], Sequence[EndpointStatus]]
    ) -> None: ...

    @overload
    def watch(
        self, name: Literal["sinks"], status: Callable[[], Mapping[str, CourierStatus]]
    ) -> None: ...

    @overload
    def watch(self, name: Literal["outbox"], status: Callable[[], OutboxStatus]) -> None: ...

    @overload
    def watch(self, name: Literal["dead"], status: Callable[[], Sequence[str]]) -> None: ...

    def watch(self, name: str, status: Callable[[], Any]) -> None:
        """Say where to ask for a status; asked at every snapshot, so it must be quick.

        Args:
            name: `endpoints`, `outbox`, `sinks` (by name), or `dead`: names of the cameras whose
                thread ended.
            status: Returns it.
        """
        with self._lock:
            self._watched[name] = status

    def snapshot(self, after: int = 0) -> Snapshot:
        """Return what is known now.

        Args:
            after: Decisions up to this number, which an earlier snapshot said, are left out of
                the cameras' histories.
        """
        # Read before the cameras: a camera takes its number under its own lock.
        number = self._numbers.last
        with self._lock:
            cameras = tuple(self._cameras.values())
            events = tuple(reversed(self._events.values()))
        return Snapshot(
            time=self._wall(),
            uptime_seconds=self._clock() - self._born,
            number=number,
            cameras=tuple(camera.snapshot(after) for camera in cameras),
            events=events,
            endpoints=tuple(self._ask("endpoints", ())),
            sinks=tuple(
                replace(sink, last_error=redact(sink.last_error))
                for sink in self._ask("sinks", {}).values()
            ),
            outbox=self._ask("outbox", None),
        )

    def unready(self) -> tuple[str, ...]:
        """Return why the gateway cannot do its work, one line each; nothing if it can."""
        causes = []
        if not any(endpoint.healthy for endpoint in self._ask("endpoints", ())):
            causes.append("no server is healthy")
        dead = set(self._ask("dead", ()))
        with self._lock:
            cameras = tuple(self._cameras.values())
        for camera in cameras:
            # The thread of a source that came to its end has done its work.
            if camera.name in dead and camera.snapshot().state not in ("ended", "failed"):
                causes.append(f"the thread of camera {camera.name} ended")
        return tuple(causes)

    def _ask(self, name: str, otherwise: Any) -> Any:
        with self._lock:
            status = self._watched.get(name)
        if status is None:
            return otherwise
        try:
            return status()
        except Exception as error:  # what is broken there must not take the page with it
            _log.warning("no status of %s: %s: %s", name, type(error).__name__, error)
            return otherwise

    def _evented(self, event: Event) -> None:
        with self._lock:
            self._events[event.id] = event
            if len(self._events) > LATEST_EVENTS:
                self._events.popitem(last=False)
