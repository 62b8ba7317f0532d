"""Tiny videos, written where a test wants them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]


@pytest.fixture
def write_video(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes pictures to a file and returns its path.

    A picture is u8 [H,W,3] RGB, or a level for an even grey of 32 x 48 pixels; `times` are seconds,
    written in units of 1/`ticks`. The default codec, FFV1, is lossless: a level comes back within
    rounding.
    """

    def write(
        name: str,
        pictures: Iterable[Pixels | int],
        times: Sequence[float],
        *,
        codec: str = "ffv1",
        pix_fmt: str = "yuv420p",
        options: dict[str, str] | None = None,
        container_options: dict[str, str] | None = None,
        title: str = "test",
        color: tuple[int, int] | None = None,
        ticks: int = 90_000,
    ) -> Path:
        path = tmp_path / name
        arrays = [
            np.full((32, 48, 3), item, np.uint8) if isinstance(item, int) else item
            for item in pictures
        ]
        with av.open(str(path), "w", options=container_options or {}) as container:
            container.metadata["title"] = title
            stream = container.add_stream(codec, rate=30, options=options or {})
            assert isinstance(stream, av.VideoStream)
            stream.height, stream.width = arrays[0].shape[:2]
            stream.pix_fmt = pix_fmt
            stream.codec_context.time_base = Fraction(1, ticks)
            if color is not None:
                stream.codec_context.colorspace, stream.codec_context.color_range = color
            for array, time in zip(arrays, times, strict=True):
                frame = av.VideoFrame.from_ndarray(array, format="rgb24")
                if color is not None:
                    frame = frame.reformat(
                        format=pix_fmt,
                        src_color_range=2,
                        dst_colorspace=color[0],
                        dst_color_range=color[1],
                    )
                frame.pts = round(time * ticks)
                frame.time_base = Fraction(1, ticks)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return path

    return write
