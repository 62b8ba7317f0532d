"""Whatever happens to a stream, its answers are those of whole clips."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fgmclip.client import (
    AsyncStreamClient,
    ConnectError,
    StreamClient,
    StreamDecision,
    WindowReset,
)

WINDOW = 8
TRACKS = "abcde"

quick = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

steps = st.lists(
    st.sampled_from(["sample"] * 12 + ["gap", "release", "fail"]), min_size=10, max_size=45
)


def walk(script: Sequence[str]) -> list[tuple[int, int, str]]:
    """Return index, first index of the run, and what happens, for each sample of a script."""
    index, begin = -1, 0
    points: list[tuple[int, int, str]] = []
    for word in script:
        index += 1
        if word == "gap" and points:
            index += 2
            begin = index
        points.append((index, begin, word))
    return points


@quick
@given(script=steps, stride=st.integers(1, 10), edge=st.booleans())
def test_no_decision_is_lost_at_gaps_and_releases(
    new_world: Callable[[], Any], frame_of: Any, script: list[str], stride: int, edge: bool
) -> None:
    world = new_world()
    stream = StreamClient(world.client(), stride=stride, edge=edge)
    due: list[int] = []
    came: list[int] = []
    encoded = releases = gaps = 0
    for index, begin, word in walk(script):
        if word == "release":
            releases += 1
            world.release(100 + releases)
        for item in stream.push(frame_of(index), index / 8):
            if isinstance(item, WindowReset):
                assert (item.reason, item.missing, item.skipped_decisions) == ("gap", 2, 0)
                gaps += 1
            else:
                world.check(item, begin)
                encoded += item.samples
                came.append(item.index)
        position = index - begin + 1
        if position >= WINDOW and (position - WINDOW) % stride == 0:
            due.append(index)
    assert came == due
    assert gaps == len({begin for _, begin, _ in walk(script)}) - 1
    if not releases:
        assert world.model.encoded == encoded <= len(script)


@quick
@given(script=steps, stride=st.integers(1, 4), edge=st.booleans())
def test_after_failures_every_decision_is_made_or_reported(
    new_world: Callable[[], Any], frame_of: Any, script: list[str], stride: int, edge: bool
) -> None:
    world = new_world()
    stream = StreamClient(world.client(), stride=stride, edge=edge)
    due = made = skipped = begin = 0
    for index, begin, word in [*walk(script), (10**6, 10**6, "sample")]:
        world.failures = 1 if word == "fail" else 0
        if word == "release":
            world.release(index + 100)
        try:
            results = stream.push(frame_of(index), index / 8)
        except ConnectError:
            assert word == "fail"
            results = []
        for item in results:
            skipped += item.skipped_decisions
            if isinstance(item, StreamDecision):
                world.check(item, begin)
                made += 1
        position = index - begin + 1
        due += position >= WINDOW and (position - WINDOW) % stride == 0
    assert made + skipped == due


@quick
@given(data=st.data(), stride=st.integers(1, 3), edge=st.booleans())
def test_tracks_that_come_and_go_are_answered_as_clips_of_their_own(
    new_world: Callable[[], Any], frame_of: Any, box_of: Any, data: Any, stride: int, edge: bool
) -> None:
    world = new_world()
    stream = StreamClient(world.client(), stride=stride, edge=edge)
    spans = st.tuples(st.sampled_from(TRACKS), st.integers(0, 25), st.integers(3, 30))
    lives = data.draw(st.lists(spans, min_size=1, max_size=6))
    releases = data.draw(st.sets(st.integers(5, 35), max_size=2))
    present = [
        sorted({name for name, first, length in lives if first <= index < first + length})
        for index in range(40)
    ]
    since: dict[str, int] = {}
    for index, names in enumerate(present):
        if index in releases:
            world.release(100 + index)
        since = {name: since.get(name, index) for name in names}
        ended = set(present[index - 1]) - set(names) if index else set()
        boxes = {name: box_of(name, index) for name in names}
        results = stream.push(frame_of(index), index / 8, boxes)
        reported = [item for item in results if isinstance(item, WindowReset)]
        assert {name for item in reported for name in item.ended} == ended
        made = [item for item in results if isinstance(item, StreamDecision)]
        slot = index + 1 >= WINDOW and (index + 1 - WINDOW) % stride == 0
        old = {name for name in names if index - since[name] + 1 >= WINDOW} if slot else set()
        assert sorted(str(item.track) for item in made) == sorted(old)
        for item in made:
            world.check(item, 0)


class Awaited:
    """A `MockTransport` for asyncio."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport

    async def infer(self, *args: Any, **options: Any) -> Any:
        await asyncio.sleep(0)
        return self._transport.infer(*args, **options)

    async def model_parameters(self, *args: Any, **options: Any) -> Mapping[str, str]:
        await asyncio.sleep(0)
        parameters: Mapping[str, str] = self._transport.model_parameters(*args, **options)
        return parameters

    async def close(self) -> None:
        self._transport.close()


@quick
@given(script=steps, stride=st.integers(1, 4))
def test_asyncio_gives_the_same_results(
    new_world: Callable[[], Any], frame_of: Any, script: list[str], stride: int
) -> None:
    def told(item: StreamDecision | WindowReset) -> tuple[object, ...]:
        if isinstance(item, WindowReset):
            return (item,)
        top = item.decision.top
        return (top, item.time, item.index, item.samples, item.model_tag, item.skipped_decisions)

    first, second = new_world(), new_world()
    plain = StreamClient(first.client(), stride=stride)

    async def compare() -> None:
        awaited = AsyncStreamClient("nowhere:1", transport=Awaited(second.transport), stride=stride)
        assert (await awaited.read_manifest()).release == 7
        for index, _, word in walk(script):
            for world in (first, second):
                world.failures = 1 if word == "fail" else 0
                if word == "release":
                    world.release(index + 100)
            try:
                expected = plain.push(frame_of(index), index / 8)
            except ConnectError:
                with pytest.raises(ConnectError):
                    await awaited.push(frame_of(index), index / 8)
                continue
            came = await awaited.push(frame_of(index), index / 8)
            assert list(map(told, came)) == list(map(told, expected))
            assert plain.due == awaited.due
        assert list(map(told, await awaited.flush())) == list(map(told, plain.flush()))
        await awaited.close()

    asyncio.run(compare())
