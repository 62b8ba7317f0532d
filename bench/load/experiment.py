"""What `bench/scale.py` measures, and which of it the law sees: decided here, before any run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fgmclip.bench.load.law import ROWS, Shape
from fgmclip.bench.load.traffic import SIZES, Kind
from fgmclip.spec import ClassSpec, ModelSpec, preset

DT = 0.25
"""Time from one sample to the next, seconds, whatever T."""

WINDOWS = (4, 8, 16, 32)
"""T."""

BAR_PERCENT = 15.0
"""What a prediction of a held-out point may be wrong by."""


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of request at one T and resolution.

    Attributes:
        kind: `clip`, `stream` or `edge`.
        window: T.
        size: Of raw frames; at the edge, of those that the camera has.
        replicas: Servers on this machine that take turns.
    """

    kind: Kind
    window: int
    size: str = "240p"
    replicas: int = 1

    @property
    def name(self) -> str:
        """Return what people call it."""
        size = "" if self.kind == "edge" else f" {self.size}"
        copies = "" if self.replicas == 1 else f", {self.replicas} servers"
        return f"{self.kind} T={self.window}{size}{copies}"

    @property
    def shape(self) -> Shape:
        """Return what its cost depends on."""
        height, width = SIZES[self.size]
        pixels = 0.0 if self.kind == "edge" else height * width / 1e6
        return Shape(self.window if self.kind == "clip" else 1, self.window, pixels)

    @property
    def every(self) -> float:
        """Seconds from one decision of a camera to its next: dt, of clips half a window."""
        return self.window * DT / 2 if self.kind == "clip" else DT


FITTED = (
    Case("edge", 4),
    Case("edge", 8),
    Case("edge", 32),
    Case("stream", 8, "240p"),
    Case("stream", 8, "1080p"),
    Case("clip", 4),
    Case("clip", 8),
    Case("edge", 8, replicas=2),
)
"""Closed loops of these make the law."""

HELD_OUT = (
    Case("edge", 16),
    Case("stream", 8, "480p"),
    Case("stream", 8, "720p"),
    Case("clip", 16),
    Case("edge", 16, replicas=2),
)
"""Closed loops of these it predicts."""

CAMERAS = (
    Case("edge", 8),
    Case("stream", 8, "480p"),
    Case("edge", 16),
    Case("edge", 8, replicas=2),
)
"""Of these it predicts how many cameras are carried; it sees no open loop at all."""

TARGETS = (DT / 4, DT)
"""p95 that is asked for, seconds."""

PLANNED = (
    Case("edge", 8),
    Case("stream", 8, "480p"),
    Case("stream", 8, "1080p"),
    Case("clip", 8, "480p"),
)
"""What servers for many cameras are counted for."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured.

    Attributes:
        in_flight: Requests in flight of closed loops; as many as one batch holds.
        rounds: How often everything is measured; the median round of each counts.
        seconds: Of each closed loop, those that count.
        shares: Numbers of cameras, as shares of what the first round's closed loops predict.
        cases: How many of `CAMERAS`.
        camera_seconds: Of each number of cameras, those that count.
    """

    in_flight: tuple[int, ...] = (1, 2, 4, 8)
    rounds: int = 3
    seconds: float = 1.5
    shares: tuple[float, ...] = (0.7, 0.85, 1.0, 1.15, 1.3)
    cases: int = len(CAMERAS)
    camera_seconds: float = 2.5

    def closed(self) -> Iterator[tuple[Case, int]]:
        """Yield all closed loops; replicas have at least one request each."""
        for case in (*FITTED, *HELD_OUT):
            for count in self.in_flight:
                if case.replicas <= count <= ROWS // case.shape.new:
                    yield case, count


QUICK = Effort(
    in_flight=(1, 4),
    rounds=2,
    seconds=1.0,
    shares=(0.75, 0.9, 1.05, 1.2),
    cases=2,
    camera_seconds=2.0,
)


def scale_spec(window: int) -> ModelSpec:
    """Return a model that costs enough to be measured, and is exported in seconds.

    About 0.62 G multiply-adds a frame: a small vision transformer and a narrow residual network at
    112 pixels. Its weights do not matter for what it costs.
    """
    vision = {"image_size": 112, "layers": 6, "width": 384, "patch_size": 16, "head_width": 64}
    text = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 1}
    return preset("demo").replace(
        name="scale",
        visual={
            "architecture": "custom",
            "config": {"embed_dim": 256, "vision_cfg": vision, "text_cfg": text},
            "image_size": 112,
            "width": 256,
        },
        motion={"encoder": "resnet10_narrow", "size": 112, "width": 128},
        clip={"frames": window, "window_seconds": window * DT},
        classes=tuple(ClassSpec(name=f"class_{index}") for index in range(16)),
    )
