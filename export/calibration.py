"""Clips that engines are calibrated on, and others that they are judged by.

Both go through the real preprocessing. No group (actors, source video; for generated videos: seed)
is in both.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fgmclip.export.errors import ExportError
from fgmclip.export.manifest import short_hash
from fgmclip.kernels.parameters import PreprocessParameters
from fgmclip.kernels.preprocess import preprocess
from fgmclip.serve.runtimes.proof import file_sha256
from fgmclip.spec import ModelSpec
from fgmclip.storage.atomic import ABANDONED_SECONDS, remove_temporaries, writing
from fgmclip.storage.cache import cache_folder
from fgmclip.video.decode import DECODING_VERSION
from fgmclip.video.errors import VideoListError
from fgmclip.video.labelled import LabelledVideo, read_labelled
from fgmclip.video.samples import ACTIONS, generate_samples
from fgmclip.video.windows import read_windows

Array = NDArray[np.float32]
Report = Callable[[str], None]

FEW_CLIPS = 8
"""For calibration and gate each, at least 64 frames of the presets."""

MANY_CLIPS = 48
"""With trained weights answers are compared as well, and they need more clips."""

CALIBRATION_SEED = 7_000_000
GATE_SEED = 8_000_000
"""First seeds of generated videos; far from any that a user would train with."""

_CACHE_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Clips:
    """Windows, ready for the encoders.

    Attributes:
        pixels: PIXELS [B,T,3,S,S].
        motion: MOTION [B,T,3,M,M]; None for a spec without motion.
        labels: What each clip shows, as its data set calls it.
    """

    pixels: Array
    motion: Array | None
    labels: tuple[str, ...]


def read_clips(
    spec: ModelSpec, source: Path | None, *, count: int, report: Report
) -> tuple[Clips, Clips]:
    """Return clips for calibration and clips for the gate.

    Args:
        spec: Whose preprocessing and time grid.
        source: What `fgmclip.video.labelled.read_labelled` reads; None for generated videos.
        count: How many clips each is to have, if the source has as many.
        report: Called with the stage.

    Raises:
        ExportError: The source has no videos or only one group.
        VideoError: A video cannot be read.
    """
    if source is None:
        return (
            _generated(spec, count, CALIBRATION_SEED, report),
            _generated(spec, count, GATE_SEED, report),
        )
    try:
        videos = read_labelled(source)
    except VideoListError as error:
        raise ExportError(f"--calibration {error}; leave it out for generated videos") from error
    first, second = split_groups(videos)
    return (
        _cached(spec, _spread(first, count), report),
        _cached(spec, _spread(second, count), report),
    )


def split_groups(
    videos: Sequence[LabelledVideo],
) -> tuple[list[LabelledVideo], list[LabelledVideo]]:
    """Part videos in two halves that share no group; which is which depends on names alone.

    Raises:
        ExportError: There is only one group.
    """
    groups = sorted({video.group for video in videos}, key=lambda name: short_hash([("", name)]))
    if len(groups) < 2:
        raise ExportError(
            f"--calibration: expected videos of 2 groups or more, one to calibrate and one to "
            f"judge, got {len(groups)}"
        )
    first = set(groups[: len(groups) // 2])
    return (
        [video for video in videos if video.group in first],
        [video for video in videos if video.group not in first],
    )


def _spread(videos: Sequence[LabelledVideo], count: int) -> list[LabelledVideo]:
    """Choose up to `count` videos, spread evenly over the list."""
    if len(videos) <= count:
        return list(videos)
    return [videos[index * len(videos) // count] for index in range(count)]


def _generated(spec: ModelSpec, count: int, seed: int, report: Report) -> Clips:
    path = _cache_file(spec, [("generated", json.dumps([count, seed]))])
    clips = _load(path)
    if clips is None:
        # Every action in turn, a new seed for each round of them.
        with tempfile.TemporaryDirectory() as folder:
            samples = [
                LabelledVideo(sample.path, sample.label, str(sample.seed))
                for start in range(0, count, len(ACTIONS))
                for sample in generate_samples(
                    folder,
                    per_class=1,
                    seed=seed + start,
                    actions=ACTIONS[: count - start],
                    progress=lambda done, total, start=start: report(  # type: ignore[misc]
                        f"draw clip {start + done} of {count}"
                    ),
                )
            ]
            clips = _read(spec, samples, report)
        _store(path, clips, report)
    return clips


def _cached(spec: ModelSpec, videos: Sequence[LabelledVideo], report: Report) -> Clips:
    path = _cache_file(spec, [(video.label, file_sha256(video.path)) for video in videos])
    clips = _load(path)
    if clips is None:
        clips = _read(spec, videos, report)
        _store(path, clips, report)
    return clips


def _read(spec: ModelSpec, videos: Sequence[LabelledVideo], report: Report) -> Clips:
    """Decode the middle window of each video and preprocess it."""
    parameters = PreprocessParameters.from_spec(spec)
    pixels: list[Array] = []
    motions: list[Array] = []
    for index, video in enumerate(videos):
        report(f"read clip {index + 1} of {len(videos)}")
        # Decoded twice: the windows of a long video do not fit into memory.
        middle = sum(1 for _ in read_windows(video.path, spec.clip)) // 2
        window = next(islice(read_windows(video.path, spec.clip), middle, None))
        image, motion = preprocess(
            window.frames,
            parameters,
            color_matrix=window.color_matrix,
            color_range=window.color_range,
        )
        pixels.append(image)
        if motion is not None:
            motions.append(motion)
    return Clips(
        np.stack(pixels),
        np.stack(motions) if motions else None,
        tuple(video.label for video in videos),
    )


def _cache_file(spec: ModelSpec, content: list[tuple[str, str]]) -> Path:
    definition = [
        ("format", str(_CACHE_FORMAT)),
        ("decoding", str(DECODING_VERSION)),
        ("pixels", json.dumps(asdict(PreprocessParameters.from_spec(spec)), sort_keys=True)),
        ("clip", spec.clip.to_json()),
    ]
    return cache_folder("clips") / f"{short_hash([*definition, *content])}.npz"


def _load(path: Path) -> Clips | None:
    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as file:
        motion = file.get("motion")
        return Clips(file["pixels"], motion, tuple(str(label) for label in file["labels"]))


def _store(path: Path, clips: Clips, report: Report) -> None:
    """Keep clips for the next export; this one has them, whether there is room or not."""
    arrays = {"pixels": clips.pixels, "labels": np.array(clips.labels)}
    if clips.motion is not None:
        arrays["motion"] = clips.motion
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_temporaries(path.parent, abandoned_seconds=ABANDONED_SECONDS)
        with writing(path) as stream:
            np.savez(stream, **arrays)
    except OSError as error:
        report(f"the clips are not kept: {error.filename or path}: {error.strerror or error}")
