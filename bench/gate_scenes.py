"""What the motion gate is judged on: real clips as filmed, and between still stretches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np

from fgmclip.client.streams.samples import SamplePreparer, StreamSample
from fgmclip.spec import FgmclipError, ModelSpec
from fgmclip.video.decode import decode
from fgmclip.video.frames import Frame
from fgmclip.video.grid import Gap, Sample, sample_grid

FOLDERS = (
    "clips/ut_interaction",
    "clips/ut_interaction_none",
    "clips/fight_surv",
    "surveillance",
)
"""Views of fixed cameras, and of hand-held ones in fight_surv; names stand in the data's index."""

STILL_SECONDS = 5.0
"""How long nothing moves before a clip and after it, where stillness is added."""

NOISE = 2.0
"""Standard deviation of the sensor noise in stillness, levels of 255: each pixel and channel of
each sample has its own."""

LONGEST_SECONDS = 30.0
"""A clip that is longer is used as it was filmed only."""

Kind = Literal["as filmed", "with stillness"]
KINDS: tuple[Kind, ...] = ("as filmed", "with stillness")


class SceneError(FgmclipError):
    """There are no clips to judge by."""


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """Samples of one camera without a gap.

    Attributes:
        name: File that it was made of.
        kind: Whether stillness was added.
        samples: Prepared at the edge, at least T.
    """

    name: str
    kind: Kind
    samples: tuple[StreamSample, ...]


def clips_in(data: Path, every: int) -> list[Path]:
    """Return the clips of a folder of test data.

    Args:
        data: Folder that holds `FOLDERS`.
        every: Take only each such clip.

    Raises:
        SceneError: There are none.
    """
    files = [
        path
        for folder in FOLDERS
        for path in sorted((data / folder).rglob("*"))
        if path.suffix in (".avi", ".mp4")
    ][::every]
    if not files:
        raise SceneError(
            f"{data}: expected clips in {', '.join(FOLDERS)}, got none; name the folder with --data"
        )
    return files


def scenes_of(path: Path, spec: ModelSpec) -> Iterator[Scene]:
    """Yield the scenes of a clip: up to its first gap, if that holds a window at all.

    Raises:
        VideoError: The file cannot be used as a video.
    """
    dt = spec.clip.dt
    most = round(LONGEST_SECONDS / dt)
    short: list[Frame] = []

    def frames() -> Iterator[Frame]:
        """Yield the clip's frames; keep them while they may be used once more."""
        for item in sample_grid(decode(path), dt):
            if isinstance(item, Gap):
                return
            if len(short) <= most:
                short.append(item.frame)
            yield item.frame

    samples = _prepared(frames(), spec)
    if len(samples) < spec.clip.frames:
        return
    yield Scene(path.name, "as filmed", samples)
    if len(short) <= most:
        random = np.random.default_rng(len(short))
        count = round(STILL_SECONDS / dt)
        before, after = (_still(frame, count, random) for frame in (short[0], short[-1]))
        yield Scene(path.name, "with stillness", _prepared(chain(before, short, after), spec))


def _prepared(frames: Iterable[Frame], spec: ModelSpec) -> tuple[StreamSample, ...]:
    preparer = SamplePreparer(spec)
    return tuple(
        preparer.prepare(Sample(index, index * spec.clip.dt, frame))
        for index, frame in enumerate(frames)
    )


def _still(frame: Frame, count: int, random: np.random.Generator) -> Iterator[Frame]:
    for _ in range(count):
        noise = random.standard_normal(frame.pixels.shape, dtype=np.float32)
        pixels = np.clip(np.rint(frame.pixels + NOISE * noise), 0, 255).astype(np.uint8)
        yield Frame(frame.time, pixels, frame.color_matrix, frame.color_range)
