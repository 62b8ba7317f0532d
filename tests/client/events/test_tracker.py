"""`EventTracker`: hysteresis, and that every event that opens closes once."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fgmclip.client.events.event import Event, event_id
from fgmclip.client.events.tracker import EventTracker
from fgmclip.client.gateway.settings import ClassRule, EventSettings

RULE = ClassRule(start=0.6, keep=0.4, min_seconds=0.5, release_seconds=0.5)


def tracker(**fields: object) -> EventTracker:
    return EventTracker("door", EventSettings.model_validate({"default": RULE, **fields}), "wall")


def watch(
    events: EventTracker, course: Mapping[float, float], *, label: str = "hug", tag: str = "m"
) -> list[Event]:
    return [
        event
        for time, probability in course.items()
        for event in events.decide(time, {label: probability}, None, tag)
    ]


def test_an_event_opens_once_it_has_lasted_and_closes_after_its_release() -> None:
    course = {0.0: 0.5, 1.0: 0.7, 1.25: 0.45, 1.5: 0.9, 2.0: 0.4, 2.25: 0.1, 2.5: 0.3, 2.75: 0.2}
    opened, ended = watch(tracker(), course)
    assert opened == Event(
        id=event_id("door", None, "hug", 1.0, "wall", "m"),
        camera="door",
        track=None,
        label="hug",
        start=1.0,
        end=None,
        peak=0.9,
        peak_time=1.5,
        state="open",
        clock="wall",
        model_tag="m",
    )
    assert (ended.id, ended.state, ended.start, ended.end) == (opened.id, "ended", 1.0, 2.0)
    assert (ended.peak, ended.peak_time) == (0.9, 1.5)


def test_nothing_opens_below_start_and_what_is_too_short_is_never_reported() -> None:
    assert watch(tracker(), {time / 4: 0.59 for time in range(40)}) == []
    assert watch(tracker(), {0.0: 0.9, 0.25: 0.9, 0.5: 0.1, 1.0: 0.1, 1.25: 0.9}) == []


def test_a_dip_that_is_shorter_than_the_release_ends_nothing() -> None:
    course = {0.0: 0.9, 0.5: 0.9, 0.75: 0.0, 1.0: 0.0, 1.2: 0.9, 1.5: 0.0, 1.75: 0.0}
    assert [event.state for event in watch(tracker(), course)] == ["open"]


def test_an_instant_rule_opens_at_the_first_decision_and_ends_at_the_first_below() -> None:
    instant = ClassRule(min_seconds=0, release_seconds=0)
    opened, ended = watch(tracker(default=instant), {3.0: 0.6, 4.0: 0.39})
    assert (opened.start, ended.end) == (3.0, 3.0)


def test_a_class_has_its_own_rule_or_none() -> None:
    sure = ClassRule(start=0.9, keep=0.9, min_seconds=0)
    events = tracker(classes={"hug": sure, "wave": None}, default=ClassRule(min_seconds=0))
    seen = events.decide(0.0, {"hug": 0.8, "wave": 0.95, "kick": 0.7}, None, "m")
    assert [event.label for event in seen] == ["kick"]


@pytest.mark.parametrize("unknown", [False, True])
def test_unknown_is_reported_on_request_alone(unknown: bool) -> None:
    events = tracker(unknown=unknown, default=ClassRule(min_seconds=0))
    seen = events.decide(0.0, {"hug": 0.2, "wave": 0.1}, None, "m")
    assert [(event.label, event.peak) for event in seen] == [("unknown", 0.8)] * unknown


def test_tracks_have_events_of_their_own_and_a_lost_one_leaves_nothing() -> None:
    events = tracker(default=ClassRule(min_seconds=0))
    (one,) = events.decide(0.0, {"hug": 0.9}, "1", "m")
    (two,) = events.decide(0.0, {"hug": 0.8}, "2", "m")
    assert one.id != two.id
    (gone,) = events.lose("1")
    assert (gone.id, gone.state, gone.end) == (one.id, "ended", 0.0)
    assert events.lose("1") == []
    assert [event.track for event in events.finish(0.1)] == ["2"]
    assert events.finish(0.2) == []


@pytest.mark.parametrize(
    "after",
    [
        lambda events: events.pause(12.0),
        lambda events: events.finish(12.0),
        lambda events: events.decide(12.0, {"hug": 0.9}, None, "m"),
        lambda events: events.decide(12.0, {"hug": 0.9}, "another", "m"),
        lambda events: events.interrupt(),
        lambda events: events.decide(0.5, {"hug": 0.9}, None, "m"),
    ],
)
def test_a_gap_interrupts_whether_or_not_decisions_go_on(
    after: Callable[[EventTracker], list[Event]],
) -> None:
    events = tracker()
    (opened,) = watch(events, {0.0: 0.7, 1.0: 0.8})
    (interrupted,) = after(events)
    assert (interrupted.id, interrupted.state, interrupted.end) == (opened.id, "interrupted", 1.0)


def test_a_gap_up_to_the_bound_interrupts_nothing() -> None:
    events = tracker()
    watch(events, {0.0: 0.7, 1.0: 0.8})
    assert events.pause(11.0) == []


def test_an_event_is_of_one_release() -> None:
    events = tracker()
    (old,) = watch(events, {0.0: 0.7, 1.0: 0.8}, tag="old")
    ended, new = watch(events, {1.5: 0.8, 2.0: 0.8}, tag="new")
    assert (ended.id, ended.state, ended.end, ended.model_tag) == (old.id, "ended", 1.0, "old")
    assert (new.state, new.start, new.model_tag) == ("open", 1.5, "new")


def test_seeing_it_again_gives_the_same_messages() -> None:
    course = {0.0: 0.9, 1.0: 0.9, 2.0: 0.0, 3.0: 0.0}
    assert watch(tracker(), course) == watch(tracker(), course)


RULES = st.builds(
    lambda keep, above, least, release: ClassRule(
        keep=keep, start=min(1.0, keep + above), min_seconds=least, release_seconds=release
    ),
    st.sampled_from([0.3, 0.5]),
    st.sampled_from([0.0, 0.2]),
    st.sampled_from([0.0, 0.5, 2.0]),
    st.sampled_from([0.0, 0.5, 2.0]),
)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["decide"] * 12 + ["pause", "lose", "interrupt"]),
        st.sampled_from([0.125, 0.5, 1.0, 6.0, -3.0]),
        st.sampled_from([None, "1", "2"]),
        st.dictionaries(
            st.sampled_from(["hug", "wave"]), st.sampled_from([0.0, 0.2, 0.4, 0.6, 0.9, 1.0])
        ),
        st.sampled_from(["m"] * 8 + ["n"]),
    ),
    max_size=60,
)


Steps = list[tuple[str, float, str | None, dict[str, float], str]]


@settings(max_examples=200, deadline=None)
@given(rule=RULES, steps=STEPS, unknown=st.booleans())
def test_whatever_comes_every_event_opens_once_and_closes_once(
    rule: ClassRule, steps: Steps, unknown: bool
) -> None:
    events = tracker(default=rule, unknown=unknown, max_gap_seconds=5)
    time = 0.0
    seen: list[Event] = []
    open_now: dict[tuple[str | None, str], Event] = {}

    def take(changed: list[Event]) -> None:
        for event in changed:
            place = (event.track, event.label)
            if event.state == "open":
                assert place not in open_now
                assert event.end is None
                assert event.peak >= rule.start
                assert event.start <= event.peak_time <= time
                assert time - event.start >= rule.min_seconds
                open_now[place] = event
            else:
                opened = open_now.pop(place)
                assert (event.id, event.start, event.model_tag) == (
                    opened.id,
                    opened.start,
                    opened.model_tag,
                )
                assert event.end is not None
                assert event.start <= event.peak_time <= event.end
                assert event.peak >= opened.peak
            seen.append(event)

    for what, step, track, probabilities, tag in steps:
        if what == "decide":
            time += step
            take(events.decide(time, probabilities, track, tag))
        elif what == "pause":
            time += abs(step)
            take(events.pause(time))
        elif what == "lose":
            take(events.lose(track))
        else:
            take(events.interrupt())
    take(events.finish(time))
    assert not open_now
    assert events.finish(time + 100) == events.interrupt() == []
