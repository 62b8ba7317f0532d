"""`EventTracker`: decisions of one camera become events, by hysteresis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from fgmclip.client.answers import UNKNOWN
from fgmclip.client.events.event import Clock, Event, State, event_id
from fgmclip.client.gateway.settings import ClassRule, EventSettings


@dataclass(slots=True)
class _Span:
    """An action that is going on; an event of it exists once it has lasted long enough."""

    start: float
    kept: float
    peak: float
    peak_time: float
    below: float | None = None
    event: Event | None = None

    def sees(self, time: float, probability: float, keep: float) -> None:
        if probability < keep:
            self.below = time if self.below is None else self.below
            return
        self.below, self.kept = None, time
        if probability > self.peak:
            self.peak, self.peak_time = probability, time


@dataclass(slots=True)
class _Track:
    """What is going on in one track, by label."""

    model_tag: str
    time: float
    spans: dict[str, _Span] = field(default_factory=dict)

    def close(self, state: State) -> list[Event]:
        """Forget what is going on; return the events among it."""
        spans, self.spans = self.spans, {}
        return [_closed(span, state) for span in spans.values() if span.event is not None]


class EventTracker:
    """The events of one camera; for one thread.

    An action begins with a decision at or above its rule's `start` and goes on while decisions are
    at or above `keep`; it is reported as open once a decision at or above `keep` comes
    `min_seconds` after the first. It ends with a decision that follows the first one below `keep`
    by `release_seconds`, all between them being below as well. Every event that is returned as open
    is returned once more, as ended or interrupted.

    An event is of one release: where the model's tag changes, what is open ends, and a decision of
    the new release may begin it again.
    """

    def __init__(self, camera: str, settings: EventSettings, clock: Clock) -> None:
        """Start with nothing going on.

        Args:
            camera: Name of the camera.
            settings: Which decisions become events.
            clock: What the times of its decisions count.
        """
        self._camera = camera
        self._settings = settings
        self._clock = clock
        self._tracks: dict[str | None, _Track] = {}
        self._time = float("-inf")

    def decide(
        self, time: float, probabilities: Mapping[str, float], track: str | None, model_tag: str
    ) -> list[Event]:
        """Take a decision; return the events that it opened or closed.

        Args:
            time: Of the last frame of its window, seconds. A time before that of an earlier
                decision is a clock that jumped: all that is open is interrupted. A second decision
                on a track for the same time is not looked at.
            probabilities: Of every class, by label.
            track: Name of the track; None for the whole frame.
            model_tag: Names the release that decided.
        """
        events = self.interrupt() if time < self._time else self.pause(time)
        self._time = time
        state = self._tracks.get(track)
        if state is None:
            state = self._tracks[track] = _Track(model_tag, time)
        elif state.time == time:
            return events
        if state.model_tag != model_tag:
            events += state.close("ended")
            state.model_tag = model_tag
        state.time = time
        if self._settings.unknown and probabilities:
            probabilities = {UNKNOWN: 1 - max(probabilities.values()), **probabilities}
        for label, probability in probabilities.items():
            rule = self._settings.classes.get(label, self._settings.default)
            if rule is not None:
                events += self._advance(track, state, label, probability, rule)
        return events

    def pause(self, time: float) -> list[Event]:
        """Tell that it is `time` by the decisions' clock; return the events interrupted by that.

        An event is interrupted where its track has had no decision for `max_gap_seconds`. To be
        called now and then while a camera yields no decisions; `decide` does it by itself.
        """
        longest = self._settings.max_gap_seconds
        silent = [name for name, track in self._tracks.items() if time - track.time > longest]
        return [event for name in silent for event in self._tracks.pop(name).close("interrupted")]

    def lose(self, track: str | None) -> list[Event]:
        """Forget a track that has ended; return its events, ended."""
        gone = self._tracks.pop(track, None)
        return [] if gone is None else gone.close("ended")

    def finish(self, time: float) -> list[Event]:
        """Take the end of the source; return the events that were open.

        They are ended, those interrupted whose last decision is too long before `time`.
        """
        events = self.pause(time)
        return events + self._close("ended")

    def interrupt(self) -> list[Event]:
        """Take the loss of the camera; return the events that were open, interrupted."""
        return self._close("interrupted")

    def _close(self, state: State) -> list[Event]:
        tracks, self._tracks = self._tracks, {}
        self._time = float("-inf")
        return [event for track in tracks.values() for event in track.close(state)]

    def _advance(
        self,
        name: str | None,
        track: _Track,
        label: str,
        probability: float,
        rule: ClassRule,
    ) -> list[Event]:
        """Take the probability of one class; return its event if that opened or ended it."""
        time, span = track.time, track.spans.get(label)
        if span is None:
            if not probability >= rule.start:
                return []
            span = track.spans[label] = _Span(time, time, probability, time)
        span.sees(time, probability, rule.keep)
        if span.below is not None:
            if time - span.below < rule.release_seconds:
                return []
            del track.spans[label]
            return [] if span.event is None else [_closed(span, "ended")]
        if span.event is not None or time - span.start < rule.min_seconds:
            return []
        seen = (self._camera, name, label, span.start, self._clock, track.model_tag)
        span.event = Event(
            id=event_id(*seen),
            camera=self._camera,
            track=name,
            label=label,
            start=span.start,
            end=None,
            peak=span.peak,
            peak_time=span.peak_time,
            state="open",
            clock=self._clock,
            model_tag=track.model_tag,
        )
        return [span.event]


def _closed(span: _Span, state: State) -> Event:
    assert span.event is not None
    return replace(span.event, end=span.kept, peak=span.peak, peak_time=span.peak_time, state=state)
