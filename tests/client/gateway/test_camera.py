"""`CameraLoop`: what a worker says becomes decisions, also while servers are out and at the end."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from fgmclip.client import ClientError, ConnectError, MockRequest, MockTransport
from fgmclip.client.events.event import Event
from fgmclip.client.events.outbox import SMALLEST_BYTES, Outbox
from fgmclip.client.gateway import camera
from fgmclip.client.gateway.board import Board
from fgmclip.client.gateway.camera import CameraLoop
from fgmclip.client.gateway.messages import Counts, Ended, Message, Opened, Samples
from fgmclip.client.gateway.services import Services
from fgmclip.client.gateway.settings import CameraSettings, EventSettings, ServerSettings
from fgmclip.client.gateway.sources import parse_source
from fgmclip.client.streams.samples import StreamSample
from fgmclip.spec import ModelSpec, PublicManifest

T = 8
RULE = {"start": 0.6, "keep": 0.4, "min_seconds": 0.0, "release_seconds": 0.0}

Script = Iterator[Message]


class FakeWorker:
    """Says what a test wrote down."""

    script: Script

    def __init__(self, settings: CameraSettings, spec: ModelSpec) -> None:
        self.source = parse_source(settings)

    def start(self) -> None: ...

    def show(self, at: float, shown: object) -> None: ...

    def stop(self) -> None: ...

    def next(self, wait_seconds: float) -> Message:
        return next(FakeWorker.script)


class Rig:
    """A camera's loop between a worker and a server that do what the test wants to see."""

    def __init__(self, manifest: PublicManifest, model: Any, folder: Path, **fields: Any) -> None:
        self.manifest = manifest
        self.transport = MockTransport(manifest, self.answer)
        self.model = model
        model.probabilities = np.full(len(manifest.spec.labels), 0.01, np.float32)
        model.probabilities[0] = 0.9
        self.fault: ClientError | None = None
        self.reported: list[Event] = []
        self.outbox = Outbox(folder / "outbox.sqlite", SMALLEST_BYTES, ["sink"])
        services = Services(
            pool=cast("Any", SimpleNamespace(transport=lambda name: self.transport)),
            servers=ServerSettings(urls=("nowhere:1",)),
            events=EventSettings.of(default=RULE, max_gap_seconds=2),
            outbox=self.outbox,
            thumbnails=None,
            met=lambda _: None,
            report=self.reported.append,
        )
        self.board = Board().camera("door")
        settings = CameraSettings.of(name="door", source="rtsp://10.0.0.5/a", **fields)
        self.loop = CameraLoop(settings, services, self.board)
        self.index = 0

    def answer(self, request: MockRequest) -> dict[str, NDArray[Any]]:
        if self.fault is not None:
            raise self.fault
        outputs: dict[str, NDArray[Any]] = self.model(request)
        return outputs

    @property
    def decisions(self) -> int:
        return self.board.snapshot().decisions

    def samples(self, count: int, captured: float = 0.0) -> Script:
        """Yield samples, one a message."""
        spec = self.manifest.spec
        assert spec.motion is not None
        size, luma = spec.visual.image_size, spec.motion.size
        for _ in range(count):
            tensors = {
                "PIXELS_U8": np.full((1, size, size, 3), 90, np.uint8),
                "LUMA_U8": np.full((1, 2, luma, luma), 50, np.uint8),
            }
            at = 1000 + self.index * self.manifest.dt
            sample = StreamSample(self.index, at, None, tensors, {})
            self.index += 1
            yield Samples((sample,), captured, Counts())


MakeRig = Callable[..., Rig]


@pytest.fixture
def make_rig(
    manifest: PublicManifest, model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[MakeRig]:
    monkeypatch.setattr(camera, "CameraWorker", FakeWorker)
    made: list[Rig] = []

    def make(**fields: Any) -> Rig:
        made.append(Rig(manifest, model, tmp_path, **fields))
        return made[-1]

    yield make
    for rig in made:
        rig.outbox.close()


def run(rig: Rig, script: Script) -> None:
    FakeWorker.script = itertools.chain([Opened("door", 64, 48, "wall")], script)
    rig.loop.run()


def test_an_open_event_is_interrupted_while_servers_are_out(make_rig: MakeRig) -> None:
    rig = make_rig()
    meanwhile: list[str] = []

    def script() -> Script:
        yield from rig.samples(T)
        rig.fault = ConnectError("gone")
        # Samples come all the time, for longer than an event may be without a decision.
        yield from rig.samples(20)
        meanwhile.extend(event.state for event in rig.reported)
        rig.fault = None
        yield from rig.samples(1)
        yield Ended(None, Counts())

    run(rig, script())
    assert meanwhile == ["open", "interrupted"]
    assert [event.state for event in rig.reported] == ["open", "interrupted", "open", "ended"]
    assert rig.loop.cause is None


@pytest.mark.parametrize("policy", ["drop-oldest", "block"])
def test_all_that_was_captured_is_decided_before_the_end(make_rig: MakeRig, policy: str) -> None:
    rig = make_rig(policy=policy)

    def script() -> Script:
        yield from rig.samples(T)
        rig.loop.stop()
        yield Opened("door", 64, 48, "wall")
        yield from rig.samples(6)
        # The source does not end.
        yield from rig.samples(10**6, captured=time.time() + 3600)

    run(rig, script())
    assert 7 <= rig.decisions <= 8
    assert [event.state for event in rig.reported] == ["open", "interrupted"]
    assert rig.board.snapshot().state == "ended"


def test_a_source_that_ends_when_told_to_has_ended(make_rig: MakeRig) -> None:
    rig = make_rig(policy="block")

    def script() -> Script:
        yield from rig.samples(T)
        rig.loop.stop()
        yield from rig.samples(2)
        while True:
            yield Ended(None, Counts())

    run(rig, script())
    assert rig.decisions == 3
    assert [event.state for event in rig.reported] == ["open", "ended"]


def test_servers_that_are_out_are_not_asked_for_each_sample_at_the_end(make_rig: MakeRig) -> None:
    rig = make_rig(policy="drop-oldest")

    def script() -> Script:
        yield from rig.samples(T)
        rig.fault = ConnectError("gone")
        rig.transport.requests.clear()
        rig.loop.stop()
        yield from rig.samples(10**6)

    run(rig, script())
    assert len(rig.transport.requests) <= 3
    assert [event.state for event in rig.reported] == ["open", "interrupted"]
