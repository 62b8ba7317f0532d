"""Streams on the real server: at the edge and raw, sync and awaited, each answer is the clip's."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fgmclip.client import (
    ActionClient,
    AsyncStreamClient,
    ClientError,
    Decision,
    StreamClient,
    StreamDecision,
    WindowReset,
)
from fgmclip.export.gate import Thresholds
from fgmclip.export.precision import PrecisionRequest
from fgmclip.export.release import export_release
from fgmclip.export.repository import Repository
from fgmclip.model.build import build_model
from fgmclip.model.network import FgmClip
from fgmclip.serve import EmbeddedServer
from fgmclip.spec import preset
from fgmclip.video.decode import decode
from fgmclip.video.frames import Frame
from fgmclip.video.grid import Sample, sample_grid

pytestmark = pytest.mark.e2e

MovingClip = Callable[..., NDArray[np.uint8]]

DT = 1 / 8
WINDOW = 8
TOLERANCE = 1e-5
"""Of logits, probabilities and embeddings in fp32."""

INT8_TOLERANCE = 0.05
"""Of logits in int8: another batch may sum a norm in another order, and an activation at the edge
of two levels then falls to the other one."""

REAL_CLIPS = 20


def padded(frames: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Return frames with a copy of the first before them, as at the start of a video."""
    return np.stack([frames[0], *frames])


def check(item: StreamDecision, clip: Decision) -> None:
    np.testing.assert_allclose(item.decision.logits, clip.logits, atol=TOLERANCE)
    np.testing.assert_allclose(item.decision.probabilities, clip.probabilities, atol=TOLERANCE)
    np.testing.assert_allclose(item.decision.embedding, clip.embedding, atol=TOLERANCE)


def made_of(results: Sequence[StreamDecision | WindowReset]) -> list[StreamDecision]:
    made = [item for item in results if isinstance(item, StreamDecision)]
    assert len(made) == len(results)
    return made


@pytest.mark.parametrize("edge", [True, False])
@pytest.mark.parametrize("stride", range(1, WINDOW + 1))
def test_every_stride_gives_the_clips_answers(
    client: ActionClient, moving_clip: MovingClip, stride: int, edge: bool
) -> None:
    frames = moving_clip(300 + stride, frames=25)
    stream = StreamClient(client, stride=stride, edge=edge)
    made: list[StreamDecision] = []
    for index, frame in enumerate(frames):
        made += made_of(stream.push(frame, index * DT))
    assert [item.index for item in made] == list(range(WINDOW - 1, 25, stride))
    assert [item.samples for item in made] == [WINDOW, *[stride] * (len(made) - 1)]
    known = padded(list(frames))
    for item in made:
        check(item, client.classify_window(known[item.index - WINDOW + 1 : item.index + 2]))


def test_cameras_of_one_event_loop(
    server: EmbeddedServer, client: ActionClient, moving_clip: MovingClip
) -> None:
    clips = [moving_clip(400 + camera, frames=14) for camera in range(4)]

    async def watch(camera: int) -> list[StreamDecision]:
        made: list[StreamDecision] = []
        async with AsyncStreamClient(server.url, stride=2, edge=camera % 2 == 0) as stream:
            for index, frame in enumerate(clips[camera]):
                made += made_of(await stream.push(frame, index * DT))
        return made

    async def watch_all() -> list[list[StreamDecision]]:
        return await asyncio.gather(*map(watch, range(4)))

    for frames, made in zip(clips, asyncio.run(watch_all()), strict=True):
        assert [item.index for item in made] == [7, 9, 11, 13]
        known = padded(list(frames))
        for item in made:
            clip = client.classify_window(known[item.index - WINDOW + 1 : item.index + 2])
            # Samples of several cameras are one batch, which sums in another order.
            np.testing.assert_allclose(item.decision.logits, clip.logits, atol=1e-4)


@pytest.mark.parametrize("edge", [True, False])
def test_people_who_come_and_go(client: ActionClient, moving_clip: MovingClip, edge: bool) -> None:
    frames = moving_clip(500, frames=32)
    # Nine and more at once, which one request of full windows cannot hold.
    lives = {f"person {number}": (number % 4, 12 + 2 * number) for number in range(9)}
    lives |= {"late": (10, 25), "short": (3, 8), "last": (20, 32)}

    def place(name: str, index: int) -> tuple[float, float, float, float]:
        left = (7 * len(name) + 11 * lives[name][1] + index) % 80
        return (left, 10, left + 40, 80)

    def present(index: int) -> Mapping[str, tuple[float, float, float, float]]:
        names = [name for name, (first, end) in lives.items() if first <= index < end]
        return {name: place(name, index) for name in names}

    stream = StreamClient(client, edge=edge)
    ended: list[str] = []
    made: list[StreamDecision] = []
    for index, frame in enumerate(frames):
        for item in stream.push(frame, index * DT, present(index)):
            if isinstance(item, WindowReset):
                ended += item.ended
            else:
                made.append(item)
    assert sorted(ended) == sorted(name for name, (_, end) in lives.items() if end < 32)
    expected = {
        (name, index)
        for name, (first, end) in lives.items()
        for index in range(first + WINDOW - 1, end)
    }
    assert {(item.track, item.index) for item in made} == expected
    assert len(made) == len(expected)
    known = padded(list(frames))
    for index, group in itertools.groupby(made, key=lambda item: item.index):
        items = list(group)
        points = range(index - WINDOW, index + 1)
        window = known[index - WINDOW + 1 : index + 2]
        for part in (items[:WINDOW], items[WINDOW:]):
            if part:
                rois = [[place(str(item.track), point) for point in points] for item in part]
                clips = client.classify_tracks(window, np.array(rois, np.float32))
                for item, clip in zip(part, clips, strict=True):
                    check(item, clip)


@pytest.fixture
def releases(tmp_path: Path, tritonserver: None) -> Iterator[tuple[Repository, EmbeddedServer]]:
    """A server of a small model, and a second release beside the one that it serves."""
    spec = preset("demo").replace(name="small", clip={"frames": 4, "window_seconds": 0.5})
    path = tmp_path / "repository"
    for seed in (1, 2):
        export_release(build_model(spec, seed=seed), path)
    repository = Repository(path)
    repository.activate(1)
    with EmbeddedServer(path) as server:
        yield repository, server


def test_releases_and_restarts_under_a_stream(
    releases: tuple[Repository, EmbeddedServer], moving_clip: MovingClip
) -> None:
    repository, server = releases
    frames = moving_clip(600, frames=30)
    known = padded(list(frames))
    changes = {8: 2, 13: 1, 14: 2, 20: 1}
    refilled: list[int] = []
    with ActionClient(server.url) as client, ActionClient(server.url) as other:
        streams = [StreamClient(client, edge=edge) for edge in (True, False)]
        for index, frame in enumerate(frames):
            if index in changes:
                repository.activate(changes[index])
                server.reload()
            other.refresh()
            for stream in streams:
                made = made_of(stream.push(frame, index * DT))
                # Not one is missing.
                assert [item.index for item in made] == ([index] if index >= 3 else [])
                for item in made:
                    check(item, other.classify_window(known[index - 3 : index + 2]))
                    assert item.model_tag == other.manifest.model_tag
                    assert item.skipped_decisions == 0
                    if item.samples > 1:
                        refilled.append(index)
        assert refilled == sorted([3, *changes] * 2)


def test_a_server_that_was_away(
    repository: Path, tritonserver: None, moving_clip: MovingClip
) -> None:
    frames = moving_clip(700, frames=16)
    with EmbeddedServer(repository) as server:
        port = int(server.url.rpartition(":")[2])
        client = ActionClient(server.url)
        stream = StreamClient(client)
        for index in range(10):
            stream.push(frames[index], index * DT)
    for index in range(10, 13):
        with pytest.raises(ClientError):
            stream.push(frames[index], index * DT)
    with EmbeddedServer(repository, grpc_port=port):
        made: list[StreamDecision] = []
        deadline = time.monotonic() + 30
        # gRPC takes up to two seconds until it looks for a server again.
        while not made and time.monotonic() < deadline:
            try:
                made = made_of(stream.decide())
            except ClientError:
                time.sleep(0.1)
        for index in range(13, 16):
            made += made_of(stream.push(frames[index], index * DT))
        told = [(item.index, item.samples, item.skipped_decisions) for item in made]
        assert told == [(12, 3, 2), (13, 1, 0), (14, 1, 0), (15, 1, 0)]
        for item in made:
            check(item, client.classify_window(frames[item.index - WINDOW : item.index + 1]))
    client.close()


def shown(path: Path) -> list[Frame]:
    """Return the frames of a video's samples."""
    items = sample_grid(decode(path), DT)
    return [item.frame for item in items if isinstance(item, Sample)]


@pytest.fixture(scope="session")
def real_clips(test_data: Path) -> list[Path]:
    """Twenty clips of all actions, or skip."""
    paths = sorted((test_data / "clips" / "ut_interaction").glob("*/*.avi"))
    if len(paths) < REAL_CLIPS:
        pytest.skip(f"expected {REAL_CLIPS} clips of ut_interaction in {test_data}")
    return paths[:: len(paths) // REAL_CLIPS][:REAL_CLIPS]


def largest_difference(
    client: ActionClient, paths: Sequence[Path], streams: Sequence[tuple[int, bool]]
) -> tuple[int, float]:
    """Return the number of decisions and the largest difference of a logit from the clips'.

    Args:
        client: Asks the server.
        paths: Videos.
        streams: Stride and edge of each stream over each video.
    """
    differences: list[float] = []
    for path in paths:
        frames = shown(path)
        known = padded([frame.pixels for frame in frames])
        clips = {
            end: client.classify_window(
                known[end - WINDOW + 1 : end + 2], color_matrix=frames[0].color_matrix
            )
            for end in range(WINDOW - 1, len(frames))
        }
        # Answers that are all alike would prove nothing.
        assert np.ptp([clip.logits for clip in clips.values()], axis=0).max() > 0.1
        for stride, edge in streams:
            stream = StreamClient(client, stride=stride, edge=edge)
            made: list[StreamDecision] = []
            for frame in decode(path):
                made += made_of(stream.push(frame, frame.time))
            made += made_of(stream.flush())
            assert [item.index for item in made] == list(clips)[::stride]
            differences += [
                float(np.abs(item.decision.logits - clips[item.index].logits).max())
                for item in made
            ]
    print(f"\n{len(paths)} clips, {len(differences)} decisions: {max(differences):.1e} at most")
    return len(differences), max(differences)


@pytest.mark.data
def test_real_clips_at_every_stride(client: ActionClient, real_clips: list[Path]) -> None:
    streams = list(itertools.product(range(1, WINDOW + 1), (True, False)))
    count, difference = largest_difference(client, real_clips, streams)
    assert count > 2000
    assert difference < TOLERANCE


@pytest.mark.data
def test_real_clips_in_int8(
    model: FgmClip, tritonserver: None, tmp_path: Path, real_clips: list[Path]
) -> None:
    # Speed is no matter here: a busy machine would refuse what an idle one takes.
    request = PrecisionRequest("int8", thresholds=Thresholds(speedup=0))
    export_release(model, tmp_path / "repository", precision=request)
    with EmbeddedServer(tmp_path / "repository") as server, ActionClient(server.url) as client:
        assert client.manifest.precision == "int8"
        streams = [(1, True), (3, False), (8, True)]
        _, difference = largest_difference(client, real_clips, streams)
    assert difference < INT8_TOLERANCE
