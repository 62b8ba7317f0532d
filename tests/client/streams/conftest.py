"""A camera whose frames and boxes are known, and the clip answers that its stream must give."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fgmclip.client import (
    ActionClient,
    ConnectError,
    Decision,
    MockRequest,
    MockTransport,
    StreamDecision,
)
from fgmclip.client.messages import Tensors
from fgmclip.client.streams.samples import SamplePreparer, StreamSample
from fgmclip.spec import PublicManifest
from fgmclip.video.frames import Frame
from fgmclip.video.grid import Sample

WINDOW = 8


def picture(index: int) -> NDArray[np.uint8]:
    """Return RGB u8 [16,20,3] of one point of the grid."""
    return np.random.default_rng(index).integers(0, 256, (16, 20, 3), dtype=np.uint8)


def box(track: str, index: int) -> tuple[float, float, float, float]:
    """Return where a track is at a point of the grid."""
    left = (ord(track) + index) % 8
    return (left, 1, left + 9, 12)


@dataclass
class World:
    """A server that fails on request, and what it answers to whole clips.

    Attributes:
        manifest: What it serves first.
        make_model: Makes a `FakeModel`.
        failures: How many of the next requests fail.
    """

    manifest: PublicManifest
    make_model: Callable[..., Any]
    failures: int = 0
    transport: MockTransport = field(init=False)
    model: Any = field(init=False)

    def __post_init__(self) -> None:
        self.model = self.make_model(self.manifest)
        self.transport = MockTransport(self.manifest, self._answer)

    def client(self) -> ActionClient:
        return ActionClient("nowhere:1", transport=self.transport)

    def release(self, number: int, **changes: Any) -> None:
        """Serve another release from the next request on."""
        self.model.weights = number
        self.model.manifest = self.transport.manifest = self.manifest.replace(
            release=number, embedding_tag=f"e{number}", model_tag=f"m{number}", **changes
        )

    def clip(self, begin: int, end: int, track: str | None) -> Decision:
        """Return the clip answer for the window that ends with `end`, in a run from `begin`."""
        points = range(end - WINDOW, end + 1)
        frames = np.stack([picture(max(begin, point)) for point in points])
        client = ActionClient("nowhere:1", transport=MockTransport(self.model.manifest, self.model))
        encoded = self.model.encoded
        try:
            if track is None:
                return client.classify_window(frames)
            boxes = np.array([[box(track, point) for point in points]], np.float32)
            (decision,) = client.classify_tracks(frames, boxes)
            return decision
        finally:
            self.model.encoded = encoded

    def check(self, item: StreamDecision, begin: int) -> None:
        """Hold a decision to the clip answer for its window."""
        clip = self.clip(begin, item.index, item.track)
        np.testing.assert_allclose(item.decision.logits, clip.logits, atol=1e-5)
        np.testing.assert_allclose(item.decision.embedding, clip.embedding, atol=1e-5)
        assert item.model_tag == self.model.manifest.model_tag

    def _answer(self, request: MockRequest) -> Tensors:
        if self.failures:
            self.failures -= 1
            raise ConnectError("down")
        answer: Tensors = self.model(request)
        return answer


@dataclass
class Camera:
    """Makes prepared samples of the known pictures."""

    preparer: SamplePreparer

    def sample(self, index: int, tracks: Sequence[str] | None = None) -> StreamSample:
        boxes = None if tracks is None else {track: box(track, index) for track in tracks}
        frame = Frame(index / 8, picture(index))
        return self.preparer.prepare(Sample(index, index / 8, frame), boxes)


@pytest.fixture
def world(manifest: PublicManifest, make_model: Callable[..., Any]) -> World:
    return World(manifest, make_model)


@pytest.fixture
def new_world(manifest: PublicManifest, make_model: Callable[..., Any]) -> Callable[[], World]:
    """Make a world for each example of a property test."""
    return lambda: World(manifest, make_model)


@pytest.fixture
def camera(manifest: PublicManifest) -> Camera:
    return Camera(SamplePreparer(manifest.spec, edge=True, threads=1))


@pytest.fixture
def raw_camera(manifest: PublicManifest) -> Camera:
    return Camera(SamplePreparer(manifest.spec, edge=False, threads=1))


@pytest.fixture
def frame_of() -> Callable[[int], NDArray[np.uint8]]:
    return picture


@pytest.fixture
def box_of() -> Callable[[str, int], tuple[float, float, float, float]]:
    return box
