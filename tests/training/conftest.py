"""A data set of moving squares: as small as a video that can be learned from can be."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from fgmclip.spec import (
    AlignSpec,
    ClassSpec,
    ClipSpec,
    FlowSpec,
    FusionSpec,
    ModelSpec,
    MotionSpec,
    VisualSpec,
)
from fgmclip.training.dataset import Dataset, read_dataset
from fgmclip.training.run import Workshop

SIDE = 48
RATE = 8


def write_video(path: Path, *, step: int, seed: int, frames: int = 10) -> None:
    """Write a textured square that moves `step` pixels to the right a frame."""
    random = np.random.default_rng(seed)
    square = random.integers(120, 255, (16, 16, 3), dtype=np.uint8)
    row = int(random.integers(4, SIDE - 20))
    column = SIDE // 2 - 8 - step * frames // 2
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE)
        stream.width = stream.height = SIDE
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "12"}
        stream.codec_context.time_base = Fraction(1, RATE)
        for index in range(frames):
            image = np.full((SIDE, SIDE, 3), 40, np.uint8)
            left = int(np.clip(column + step * index, 0, SIDE - 16))
            image[row : row + 16, left : left + 16] = square
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Keep small tensors from being divided among threads that other tests need as well."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def squares_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a CSV of twelve videos, six of each direction, in six groups."""
    folder = tmp_path_factory.mktemp("squares")
    lines = ["path,label,group"]
    for index in range(12):
        label = "left" if index % 2 else "right"
        name = f"{index:02d}.mp4"
        write_video(folder / name, step=-3 if index % 2 else 3, seed=index)
        lines.append(f"{name},{label},g{index // 2}")
    path = folder / "index.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def squares(squares_csv: Path) -> Dataset:
    """Return the data set of `squares_csv`."""
    return read_dataset(squares_csv)


@pytest.fixture(scope="session")
def tiny_spec() -> ModelSpec:
    """Return a spec that trains in seconds."""
    return ModelSpec(
        name="tiny",
        visual=VisualSpec(
            architecture="custom",
            config={
                "embed_dim": 16,
                "vision_cfg": {
                    "image_size": 32,
                    "layers": 1,
                    "width": 16,
                    "head_width": 8,
                    "patch_size": 16,
                },
                "text_cfg": {
                    "context_length": 16,
                    "vocab_size": 49408,
                    "width": 8,
                    "heads": 1,
                    "layers": 1,
                },
            },
            image_size=32,
            width=16,
        ),
        motion=MotionSpec(
            encoder="resnet10_narrow",
            size=32,
            width=32,
            flow=FlowSpec(iterations=4, refinement_iterations=1),
        ),
        clip=ClipSpec(frames=4, window_seconds=0.5),
        align=AlignSpec(method="attention", heads=2, projection_width=8),
        fusion=FusionSpec(method="mvsm", width=16),
        classes=(ClassSpec(name="left"), ClassSpec(name="right")),
    )


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """Return a quiet workshop with one cache for all tests, in this process."""
    return Workshop(tmp_path_factory.mktemp("rows"), workers=1, progress=False)
