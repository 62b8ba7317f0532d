"""Recordings, written where a test wants them."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest


@pytest.fixture
def write_recording(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a moving picture, 48x64 pixels at 25 frames a second."""

    def write(
        name: str, seconds: float, *, rate: int = 25, size: tuple[int, int] = (48, 64)
    ) -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        height, width = size
        with av.open(str(path), "w") as container:
            stream = container.add_stream(
                "libx264", rate=rate, options={"preset": "ultrafast", "g": "10"}
            )
            assert isinstance(stream, av.VideoStream)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for number in range(round(seconds * rate)):
                picture = np.full((height, width, 3), 90, np.uint8)
                left = (2 * number) % (width - 8)
                picture[10:30, left : left + 8] = 230
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, rate)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return path

    return write
