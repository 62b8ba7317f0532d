"""Generated sample videos: moving figures that anyone may use, the same for the same seed.

Twelve actions; the first eight are four pairs that differ only in the direction of motion. Written
as ordinary mp4 files, they train and test the `demo` preset.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from fgmclip.spec.errors import FgmclipError
from fgmclip.spec.presets import DEMO_ACTIONS
from fgmclip.storage.atomic import replacing, write_text
from fgmclip.video.drawing import Canvas, SensorNoise
from fgmclip.video.motions import MOTIONS, Motion
from fgmclip.video.scenes import Scene

ACTIONS = tuple(DEMO_ACTIONS)
"""Names of the actions, in the order of the `demo` preset's classes."""

INDEX_FILE = "index.csv"
"""The list of videos: columns path (from the folder on), label, seed."""

QUANTIZER = 25
"""H.264 quantiser of every picture, 0 (best) to 51."""

# Every picture is coded alone and alike: otherwise first pictures would look different from later
# ones, and a still picture of a movement's start could be told from one of its end.
_H264 = {"preset": "ultrafast", "qp": str(QUANTIZER), "g": "1", "bf": "0", "aq-mode": "0"}
_MPEG4 = {"g": "1", "bf": "0", "qmin": "3", "qmax": "3"}

# From PyAV 17 on swscale would start a thread for each core of the host, for each video.
_ONE_THREAD = {"threads": 1} if int(av.__version__.split(".")[0]) >= 17 else {}


class SampleError(FgmclipError, ValueError):
    """Samples were asked for that cannot be made."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class SampleClip:
    """One generated video.

    Attributes:
        path: The mp4 file.
        label: Its action, one of `ACTIONS`.
        seed: What decided everything else.
    """

    path: Path
    label: str
    seed: int


def render(action: str, seed: int) -> tuple[NDArray[np.uint8], int]:
    """Draw one video.

    Args:
        action: One of `ACTIONS`.
        seed: Decides figure, scene and noise; each action draws others from the same seed.

    Returns:
        RGB pictures u8 [N,H,W,3] and their number a second.

    Raises:
        SampleError: There is no such action, or the seed is negative.
    """
    _check(action, seed)
    sequence = np.random.SeedSequence([ACTIONS.index(action), seed])
    scene_rng, noise_rng = (np.random.default_rng(child) for child in sequence.spawn(2))
    motion = MOTIONS[action]
    scene = Scene.draw(motion.program, scene_rng)
    noise = SensorNoise.draw(noise_rng, scene.size)
    frames = np.empty((len(scene), *scene.size, 3), np.uint8)
    for frame, canvas in zip(frames, paint_in_order(scene, motion), strict=True):
        noise.add(noise_rng, canvas)
        canvas += np.float32(0.5)
        np.clip(canvas, 0, 255, out=canvas)
        frame[...] = canvas.transpose(1, 2, 0)
    return frames, scene.rate


def paint_in_order(scene: Scene, motion: Motion) -> Iterator[Canvas]:
    """Yield a scene's pictures [3,H,W] without noise, in the order in which a motion shows them."""
    order = range(len(scene))
    for index in reversed(order) if motion.backward else order:
        yield scene.paint(index)


def generate_samples(
    directory: str | os.PathLike[str],
    *,
    per_class: int,
    seed: int,
    actions: Sequence[str] = ACTIONS,
    progress: Callable[[int, int], None] | None = None,
) -> list[SampleClip]:
    """Write videos as `directory/ACTION/ACTION_SEED.mp4`, and `index.csv` that lists them.

    The same arguments give the same files. All videos last 1.4 s and fill two of the demo's
    windows. Sets whose ranges of seeds do not overlap share no video.

    Args:
        directory: Folder to write into, made if missing; files of the same names are replaced.
        per_class: Videos of each action.
        seed: Seed of each action's first video; the others follow it.
        actions: Which of `ACTIONS`.
        progress: Called with the number of videos done and of all.

    Returns:
        The videos, action by action.

    Raises:
        SampleError: An action is unknown, `per_class` is below 1, `seed` is negative, or the folder
            cannot be written.
    """
    if per_class < 1:
        raise SampleError(f"per_class must be at least 1 video of each action, got {per_class}")
    for action in actions:
        _check(action, seed)
    folder = Path(directory)
    clips = [
        SampleClip(folder / action / f"{action}_{number}.mp4", action, number)
        for action in actions
        for number in range(seed, seed + per_class)
    ]
    try:
        for done, clip in enumerate(clips):
            if progress is not None:
                progress(done, len(clips))
            clip.path.parent.mkdir(parents=True, exist_ok=True)
            _write(clip.path, *render(clip.label, clip.seed))
        _write_index(folder, clips)
    except OSError as error:
        raise SampleError(
            f"{folder}: samples cannot be written there ({error.strerror or error}); "
            "choose a folder with room that may be written"
        ) from error
    if progress is not None:
        progress(len(clips), len(clips))
    return clips


def _check(action: str, seed: int) -> None:
    if action not in ACTIONS:
        raise SampleError(f"no action is called {action!r}; there are {', '.join(ACTIONS)}")
    if seed < 0:
        raise SampleError(f"a seed must be 0 or more, got {seed}")


def _write(path: Path, frames: NDArray[np.uint8], rate: int) -> None:
    """Encode RGB pictures [N,H,W,3] as mp4, H.264 where PyAV has an encoder for it."""
    codec, options = ("libx264", _H264) if "libx264" in av.codecs_available else ("mpeg4", _MPEG4)
    with (
        replacing(path) as temporary,
        av.open(str(temporary), "w", options={"fflags": "+bitexact"}) as container,
    ):
        stream = container.add_stream(codec, rate=rate, options=options)
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        reformatter = av.video.reformatter.VideoReformatter()
        for index, pixels in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            picture = reformatter.reformat(picture, format="yuv420p", **_ONE_THREAD)
            picture.pts, picture.time_base = index, Fraction(1, rate)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))


def _write_index(folder: Path, clips: Sequence[SampleClip]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "label", "seed"])
    for clip in clips:
        writer.writerow([clip.path.relative_to(folder).as_posix(), clip.label, clip.seed])
    write_text(folder / INDEX_FILE, text.getvalue())
