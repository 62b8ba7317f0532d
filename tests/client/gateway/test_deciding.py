"""`Deciding`: samples through window, gate and tracker into the outbox, without a server."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fgmclip.client import (
    ActionClient,
    ClientError,
    ConnectError,
    MockRequest,
    MockTransport,
    ServerError,
)
from fgmclip.client.endpoints.pool import EndpointPool
from fgmclip.client.events.event import Event
from fgmclip.client.events.outbox import SMALLEST_BYTES, Outbox
from fgmclip.client.gateway.annotate import Shown
from fgmclip.client.gateway.board import Board
from fgmclip.client.gateway.deciding import Deciding
from fgmclip.client.gateway.messages import Counts, Samples
from fgmclip.client.gateway.services import Services
from fgmclip.client.gateway.settings import (
    CameraSettings,
    EventSettings,
    GateSettings,
    ServerSettings,
    ThumbnailSettings,
)
from fgmclip.client.sinks.thumbnails import Thumbnails
from fgmclip.client.streams.samples import StreamSample
from fgmclip.spec import PublicManifest

T = 8
RULE = {"start": 0.6, "keep": 0.4, "min_seconds": 0.0, "release_seconds": 0.0}


class Rig:
    """A camera's decisions, with a transport that answers what the test wants to see."""

    def __init__(self, manifest: PublicManifest, model: Any, folder: Path, **fields: Any) -> None:
        self.manifest = manifest
        self.spec = manifest.spec
        self.transport = MockTransport(manifest, self.answer)
        self.model = model
        self.fault: ClientError | None = None
        self.reported: list[Event] = []
        self.shown: list[tuple[float, Shown]] = []
        self.outbox = Outbox(folder / "outbox.sqlite", SMALLEST_BYTES, ["sink"])
        self.pool = EndpointPool(["nowhere:1"])
        thumbnails = ThumbnailSettings(directory=folder / "thumbs", retention_hours=1)
        services = Services(
            pool=self.pool,
            servers=ServerSettings(urls=("nowhere:1",)),
            events=EventSettings.of(default=RULE),
            outbox=self.outbox,
            thumbnails=Thumbnails(thumbnails),
            met=lambda _: None,
            report=self.reported.append,
        )
        self.board = Board().camera("door")
        self.deciding = Deciding(
            CameraSettings.of(name="door", source="door.mp4", **fields),
            services,
            ActionClient("nowhere:1", transport=self.transport),
            self.board,
            lambda at, shown: self.shown.append((at, shown)),
            live=True,
        )
        self.deciding.opened("wall")
        self.index = 0

    def answer(self, request: MockRequest) -> dict[str, NDArray[Any]]:
        if self.fault is not None:
            raise self.fault
        outputs: dict[str, NDArray[Any]] = self.model(request)
        return outputs

    def likely(self, label: str, probability: float) -> None:
        """Let the server be sure of a label from now on."""
        row = np.full(len(self.spec.labels), (1 - probability) / (len(self.spec.labels) - 1))
        row[self.spec.labels.index(label)] = probability
        self.model.probabilities = row.astype(np.float32)

    def give(self, count: int, *, moving: bool = True) -> None:
        size, motion = self.spec.visual.image_size, self.spec.motion
        assert motion is not None
        for _ in range(count):
            luma = np.full((1, 2, motion.size, motion.size), 50, np.uint8)
            luma[:, 1] = 200 if moving else 50
            tensors = {"PIXELS_U8": np.full((1, size, size, 3), 90, np.uint8), "LUMA_U8": luma}
            at = 1000 + self.index * self.manifest.dt
            sample = StreamSample(self.index, at, None, tensors, {})
            self.index += 1
            self.deciding.advance(Samples((sample,), time.time(), Counts()))

    def close(self) -> None:
        self.outbox.close()
        self.pool.close()


@pytest.fixture
def rig(manifest: PublicManifest, model: Any, tmp_path: Path) -> Iterator[Rig]:
    made = Rig(manifest, model, tmp_path)
    yield made
    made.close()


def test_an_action_becomes_an_event_with_a_picture_and_ends(rig: Rig) -> None:
    rig.likely("jump", 0.9)
    rig.give(T + 2)
    rig.likely("jump", 0.2)
    rig.give(1)
    assert [event.state for event in rig.reported] == ["open", "ended"]
    opened, ended = rig.reported
    assert opened.label == "jump"
    assert opened.start == pytest.approx(1000 + (T - 1) * rig.manifest.dt)
    assert ended.end == pytest.approx(1000 + (T + 1) * rig.manifest.dt)
    assert opened.thumbnail is not None
    assert Path(opened.thumbnail).read_bytes().startswith(b"\xff\xd8")
    assert ended.thumbnail == opened.thumbnail
    assert [item.event for item in rig.outbox.pending("sink", 9)] == rig.reported
    assert rig.board.snapshot().decisions == 4
    at, shown = rig.shown[0]
    assert at == opened.start
    assert shown[None][0] == "jump"
    assert shown[None][1] == pytest.approx(0.9)


def test_what_is_not_in_the_outbox_is_not_told(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rig.outbox, "accept", lambda event: False)
    rig.likely("jump", 0.9)
    rig.give(T)
    assert rig.reported == []


def test_a_failed_request_loses_no_sample(rig: Rig) -> None:
    rig.likely("jump", 0.9)
    rig.give(T)
    rig.fault = ConnectError("gone")
    for _ in range(3):
        with pytest.raises(ConnectError):
            rig.give(1)
    rig.fault = None
    rig.deciding.decide()
    snapshot = rig.board.snapshot()
    assert (snapshot.decisions, snapshot.encoded, snapshot.skipped) == (2, T + 3, 2)


def test_the_last_decision_stands_while_the_gate_is_closed(
    manifest: PublicManifest, model: Any, tmp_path: Path
) -> None:
    rig = Rig(manifest, model, tmp_path, gate=GateSettings(linger_seconds=0, heartbeat_seconds=60))
    try:
        rig.likely("jump", 0.9)
        rig.give(T)
        asked = len(rig.transport.requests)
        rig.give(200, moving=False)
        closed = rig.board.snapshot()
        assert closed.state == "idle"
        # As long as the window that moved is not past, nothing may be skipped.
        assert len(rig.transport.requests) <= asked + T
        rig.likely("jump", 0.1)
        rig.give(1)
        snapshot = rig.board.snapshot()
        assert snapshot.skipped == 0
        assert [event.state for event in rig.reported] == ["open", "ended"]
        assert rig.reported[1].end is not None
        assert rig.reported[1].end - rig.reported[1].start > 20
    finally:
        rig.close()


def test_a_closed_gate_hides_no_server_that_fails(
    manifest: PublicManifest, model: Any, tmp_path: Path
) -> None:
    rig = Rig(manifest, model, tmp_path, gate=GateSettings(linger_seconds=0, heartbeat_seconds=1))
    try:
        rig.likely("jump", 0.9)
        rig.give(4 * T, moving=False)
        rig.fault = ServerError("broken")
        failures = 0
        for _ in range(100):
            try:
                rig.give(1, moving=False)
            except ServerError:
                failures += 1
                rig.deciding.wait()
        # All since the first heartbeat; the last decision did not stand for longer than it may.
        assert failures > 100 - T
        assert [event.state for event in rig.reported] == ["open", "interrupted"]
        rig.fault = None
        states = set()
        for _ in range(T):
            rig.give(1, moving=False)
            states.add(rig.board.snapshot().state)
        assert states == {"live", "idle"}
        assert [event.state for event in rig.reported] == ["open", "interrupted", "open"]
    finally:
        rig.close()


def test_the_end_of_a_source_ends_and_a_loss_interrupts(rig: Rig) -> None:
    rig.likely("jump", 0.9)
    rig.give(T)
    rig.deciding.end(interrupted=True)
    assert rig.reported[-1].state == "interrupted"
    rig.give(T)
    rig.deciding.end(interrupted=False)
    assert [event.state for event in rig.reported] == ["open", "interrupted", "open", "ended"]


def test_a_gap_starts_a_new_window(rig: Rig) -> None:
    rig.likely("jump", 0.9)
    rig.give(T)
    rig.index += 3
    rig.give(T - 1)
    assert rig.board.snapshot().decisions == 1
    assert rig.board.snapshot().resets == {"gap": 1}
    rig.give(1)
    assert rig.board.snapshot().decisions == 2
