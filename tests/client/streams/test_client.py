"""`StreamClient` and `AsyncStreamClient`: frames with timestamps in, results out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fgmclip.client import (
    AsyncStreamClient,
    ConnectError,
    ManifestError,
    RefusedError,
    StreamClient,
    StreamDecision,
    TagMismatchError,
    WindowReset,
)
from fgmclip.video.frames import Frame

DT = 1 / 8


def decided(results: list[StreamDecision | WindowReset]) -> list[int]:
    return [item.index for item in results if isinstance(item, StreamDecision)]


def run(
    stream: StreamClient, times: list[float], frame_of: Callable[[int], Any]
) -> list[StreamDecision | WindowReset]:
    """Push one frame a time, numbered from 0, and flush."""
    results: list[StreamDecision | WindowReset] = []
    for number, time in enumerate(times):
        results += stream.push(frame_of(number), time)
    return results + stream.flush()


def frames_sent(world: Any, numbered: dict[bytes, int]) -> list[int]:
    """Return the numbers of the frames that the requests brought, in order."""
    return [
        numbered[row.tobytes()]
        for request in world.transport.requests
        for row in request.inputs["FRAMES"][1:]
    ]


@pytest.fixture
def numbered(frame_of: Any) -> dict[bytes, int]:
    return {frame_of(number).tobytes(): number for number in range(200)}


def test_a_variable_frame_rate(world: Any, frame_of: Any, numbered: dict[bytes, int]) -> None:
    # 30 a second, then 10, then 30 again: the nearest frame is taken.
    times = [n / 30 for n in range(12)]
    times += [0.4 + n / 10 for n in range(8)]
    times += [1.2 + n / 30 for n in range(12)]
    results = run(StreamClient(world.client(), edge=False), times, frame_of)
    assert not [item for item in results if isinstance(item, WindowReset)]
    assert decided(results) == list(range(7, 14))
    nearest = [int(np.argmin([abs(time - i * DT) for time in times])) for i in range(14)]
    assert frames_sent(world, numbered) == nearest


def test_a_stall(world: Any, frame_of: Any, numbered: dict[bytes, int]) -> None:
    # Frames at every dt; nothing between 1.25 and 3.0 s.
    times = [n * DT for n in range(11)] + [3.0 + n * DT for n in range(9)]
    results = run(StreamClient(world.client(), edge=False), times, frame_of)
    resets = [item for item in results if isinstance(item, WindowReset)]
    assert resets == [WindowReset("gap", 3.0, 13, 0, ())]
    assert decided(results) == [7, 8, 9, 10, 31, 32]
    assert frames_sent(world, numbered) == list(range(20))


def test_a_clock_that_jumps_ahead_is_a_gap(world: Any, frame_of: Any) -> None:
    times = [n * DT for n in range(9)] + [86_400.0 + n * DT for n in range(8)]
    results = run(StreamClient(world.client()), times, frame_of)
    (reset,) = [item for item in results if isinstance(item, WindowReset)]
    assert (reset.reason, reset.missing) == ("gap", 86_400 * 8 - 9)
    assert decided(results) == [7, 8, 86_400 * 8 + 7]


@pytest.mark.parametrize("time", [1.0, 0.5, -3.0, float("nan"), float("inf")])
def test_a_time_that_does_not_advance_is_refused_and_nothing_is_lost(
    world: Any, frame_of: Any, time: float
) -> None:
    stream = StreamClient(world.client())
    for index in range(9):
        stream.push(frame_of(index), index * DT)
    with pytest.raises(RefusedError, match="frame times must"):
        stream.push(frame_of(50), time)
    (item,) = stream.push(frame_of(9), 9 * DT)
    assert isinstance(item, StreamDecision)
    world.check(item, 0)


@pytest.mark.parametrize(
    ("frame", "boxes", "words"),
    [
        ("a frame", None, r"expected u8 RGB \[H,W,3\]"),
        (np.zeros((16, 20, 3), np.float32), None, "uint8|u8"),
        (np.zeros((16, 20), np.uint8), None, "expected RGB"),
        (np.zeros((16, 20, 3), np.uint8), {"a": (1, 2, 3)}, "expected x0, y0, x1, y1 of 'a'"),
        (np.zeros((16, 20, 3), np.uint8), {"a": (5, 0, 5, 9)}, "x0 < x1"),
        (np.zeros((16, 20, 3), np.uint8), {"a": (0, 0, 5, float("nan"))}, "finite"),
        (np.zeros((16, 20, 3), np.uint8), {"a": (90, 0, 99, 9)}, "overlaps"),
    ],
)
@pytest.mark.parametrize("edge", [False, True])
def test_what_cannot_be_used_is_refused_and_nothing_is_lost(
    world: Any, frame_of: Any, frame: Any, boxes: Any, words: str, edge: bool
) -> None:
    stream = StreamClient(world.client(), edge=edge)
    for index in range(9):
        stream.push(frame_of(index), index * DT)
    with pytest.raises(RefusedError, match=words):
        stream.push(frame, 9 * DT, boxes)
    (item,) = stream.push(frame_of(9), 9 * DT)
    assert isinstance(item, StreamDecision)
    world.check(item, 0)


def test_limits_hold_for_frames_that_travel(world: Any) -> None:
    large = np.zeros((2, 700, 3), np.uint8)
    with pytest.raises(RefusedError, match="expected sides of at least 16 pixels"):
        StreamClient(world.client(), edge=False).push(large, 0.0)
    assert StreamClient(world.client()).push(large, 0.0) == []


def test_a_frame_says_its_colours_itself(world: Any) -> None:
    stream = StreamClient(world.client(), edge=False, color_matrix="bt709", color_range="full")
    nv12 = np.zeros((24, 20, 1), np.uint8)
    for index in range(8):
        stream.push(Frame(99.0, nv12, color_matrix="bt601"), index * DT)
    (request,) = world.transport.requests
    assert request.parameters == {"color_matrix": "bt601", "color_range": "full"}
    with pytest.raises(RefusedError, match="color_matrix: expected bt601 or bt709"):
        StreamClient(world.client(), color_matrix="bt2020")


def test_after_an_outage_the_newest_window_is_decided(world: Any, frame_of: Any) -> None:
    stream = StreamClient(world.client())
    for index in range(9):
        stream.push(frame_of(index), index * DT)
    for index in range(9, 40):
        world.failures = 1
        with pytest.raises(ConnectError):
            stream.push(frame_of(index), index * DT)
    assert stream.due
    (item,) = stream.decide()
    assert isinstance(item, StreamDecision)
    assert (item.index, item.samples, item.skipped_decisions) == (39, 8, 30)
    world.check(item, 0)
    assert stream.decide() == []
    (item,) = stream.push(frame_of(40), 40 * DT)
    assert isinstance(item, StreamDecision)
    assert (item.samples, item.skipped_decisions) == (1, 0)


def test_what_was_answered_before_a_failure_is_returned(world: Any, frame_of: Any) -> None:
    stream = StreamClient(world.client())
    for index in range(9):
        stream.push(frame_of(index), index * DT)
    # A frame that serves two points of the grid, of which the second request fails.
    assert stream.push(frame_of(9), 8.6 * DT) == []
    answers = iter([0, 1])
    plain = world.transport.infer

    def second_fails(*args: Any, **options: Any) -> Any:
        world.failures = next(answers, 0)
        return plain(*args, **options)

    world.transport.infer = second_fails
    assert decided(stream.push(frame_of(10), 10.2 * DT)) == [9]
    assert stream.due
    assert decided(stream.decide()) == [10]


def test_a_failure_leaves_no_sample_of_its_frame_behind(world: Any, frame_of: Any) -> None:
    stream = StreamClient(world.client())
    for index in range(9):
        stream.push(frame_of(index), index * DT)
    assert stream.push(frame_of(9), 8.6 * DT) == []
    world.failures = 1
    with pytest.raises(ConnectError):
        stream.push(frame_of(10), 10.2 * DT)
    (item,) = stream.decide()
    assert isinstance(item, StreamDecision)
    assert (item.index, item.samples, item.skipped_decisions) == (10, 2, 1)


def test_the_manifest_is_read_before_a_frame_is_taken(
    world: Any, frame_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(*args: object, **options: object) -> Any:
        raise ConnectError("down")

    stream = StreamClient(world.client())
    with monkeypatch.context() as patch:
        patch.setattr(world.transport, "model_parameters", down)
        with pytest.raises(ConnectError):
            stream.push(frame_of(0), 0.0)
    assert stream.push(frame_of(0), 0.0) == []


@pytest.mark.parametrize("classes", [slice(None, -1), slice(None, None, -1)])
def test_a_release_with_other_classes_goes_on_with_the_history(
    world: Any, frame_of: Any, classes: slice
) -> None:
    stream = StreamClient(world.client())
    for index in range(9):
        stream.push(frame_of(index), index * DT)
    spec = world.manifest.spec
    world.release(8, spec=spec.replace(classes=spec.classes[classes]))
    # The encoders are those of before.
    world.model.manifest = world.transport.manifest = world.model.manifest.replace(
        embedding_tag=world.manifest.embedding_tag
    )
    world.model.weights = 0
    labels = world.model.manifest.spec.labels
    for index in (9, 10):
        (item,) = stream.push(frame_of(index), index * DT)
        assert isinstance(item, StreamDecision)
        assert (item.index, item.samples, item.skipped_decisions) == (index, 1, 0)
        assert item.model_tag == "m8"
        assert item.decision.label == labels[int(item.decision.probabilities.argmax())]
        world.check(item, 0)


def test_a_release_that_takes_other_samples_starts_a_new_stream(world: Any, frame_of: Any) -> None:
    stream = StreamClient(world.client())
    for index in range(9):
        stream.push(frame_of(index), index * DT)
    spec = world.manifest.spec
    slower = spec.clip.replace(window_seconds=2.0)
    world.release(8, spec=spec.replace(clip=slower, visual=spec.visual.replace(image_size=96)))
    world.model.manifest = world.transport.manifest = world.model.manifest.replace(dt=0.25)
    # Two points of the old grid, of which the second has no place in the new one.
    assert stream.push(frame_of(9), 8.6 * DT) == []
    results = stream.push(frame_of(9), 10.2 * DT)
    assert results == [WindowReset("release", 9 * DT, 0, 1, ())]
    for index in range(10, 10 + 7):
        assert stream.push(frame_of(index), 10 + index * 0.25) == []
    (item,) = stream.push(frame_of(17), 10 + 17 * 0.25)
    assert isinstance(item, StreamDecision)
    assert world.transport.requests[-1].inputs["PIXELS_U8"].shape == (8, 96, 96, 3)


def test_replicas_that_never_agree_are_a_tag_mismatch(world: Any, frame_of: Any) -> None:
    stream = StreamClient(world.client())
    for index in range(9):
        stream.push(frame_of(index), index * DT)
    # The manifest still is the old one's, the answers are the new one's.
    world.model.manifest = world.manifest.replace(embedding_tag="new")
    asked = len(world.transport.requests)
    with pytest.raises(TagMismatchError, match="HISTORY_TAG: expected new"):
        stream.push(frame_of(9), 9 * DT)
    assert len(world.transport.requests) == asked + 3
    world.transport.manifest = world.model.manifest
    assert decided(stream.decide()) == [9]


def test_another_refusal_is_passed_on(world: Any, frame_of: Any) -> None:
    def refuse(*args: object, **options: object) -> Any:
        raise RefusedError("PIXELS_U8: too pale")

    stream = StreamClient(world.client())
    world.transport.infer = refuse
    with pytest.raises(RefusedError, match="too pale") as caught:
        run(stream, [index * DT for index in range(8)], frame_of)
    assert not isinstance(caught.value, TagMismatchError)


def test_a_server_of_others_is_a_manifest_error(world: Any, frame_of: Any) -> None:
    world.transport.model_parameters = lambda *args, **options: {}
    with pytest.raises(ManifestError, match="expected the parameter"):
        StreamClient(world.client()).push(frame_of(0), 0.0)


def test_flush_settles_the_last_sample_and_starts_anew(world: Any, frame_of: Any) -> None:
    stream = StreamClient(world.client())
    # The eighth sample's frame is early, so it might still have become another one's.
    times = [*(index * DT for index in range(7)), 6.9 * DT]
    for index, time in enumerate(times):
        assert stream.push(frame_of(index), time) == []
    world.failures = 1
    with pytest.raises(ConnectError):
        stream.flush()
    assert decided(stream.flush()) == [7]
    assert stream.flush() == []
    # Time may begin anew, and nothing is left of before.
    results = run(stream, [index * DT for index in range(8)], frame_of)
    assert decided(results) == [7]
    assert isinstance(results[0], StreamDecision)
    assert results[0].samples == 8


def test_prepared_samples_may_wait_for_one_decision(world: Any, camera: Any) -> None:
    stream = StreamClient(world.client())
    for index in range(12):
        assert stream.add(camera.sample(index)) == []
    assert decided(stream.decide()) == [11]
    (reset,) = stream.add(camera.sample(20))
    assert reset.reason == "gap"


def test_a_cancelled_push_loses_nothing(world: Any, frame_of: Any) -> None:
    class Stalling:
        """Answers until it is told to stall."""

        def __init__(self) -> None:
            self.stalls = False

        async def infer(self, *args: Any, **options: Any) -> Any:
            if self.stalls:
                await asyncio.sleep(60)
            return world.transport.infer(*args, **options)

        async def model_parameters(self, *args: Any, **options: Any) -> Any:
            return world.transport.model_parameters(*args, **options)

        async def close(self) -> None:
            raise AssertionError("the transport is the caller's")

    async def watch() -> None:
        transport = Stalling()
        async with AsyncStreamClient("nowhere:1", transport=transport) as stream:
            for index in range(9):
                await stream.push(frame_of(index), index * DT)
            transport.stalls = True
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(stream.push(frame_of(9), 9 * DT), 0.05)
            transport.stalls = False
            (item,) = await stream.decide()
            assert isinstance(item, StreamDecision)
            assert (item.index, item.samples) == (9, 1)
            world.check(item, 0)

    asyncio.run(watch())
