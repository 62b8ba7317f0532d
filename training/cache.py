"""Every video decoded once: its samples as PIXELS_U8 and MOTION on disk, ready to be cut anywhere.

A *row* is one sample: its image, and the motion from the sample before it (from itself at the
start of a run, as the time grid has it). A window is `clip.frames` rows in sequence, so one
cache holds the windows that a client would send and every other window as well.

A cache folder has one folder a video, named by a hash of all that decides its content: the file's
bytes, the time grid, the pixels and the motion. Another spec therefore never meets stale rows, and
classes, weights or fusion may change without computing anything again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.progress import track

from fgmclip.kernels.errors import KernelError
from fgmclip.kernels.parameters import PreprocessParameters
from fgmclip.spec import ClipSpec, ModelSpec
from fgmclip.storage.atomic import (
    ABANDONED_SECONDS,
    making_folder,
    remove_temporaries,
    write_text,
    writing,
)
from fgmclip.training.errors import DatasetError
from fgmclip.training.rows import compute_rows
from fgmclip.video.decode import DECODING_VERSION
from fgmclip.video.errors import VideoError
from fgmclip.video.labelled import listed

CACHE_FORMAT = 2
"""Version of the layout below; part of every key."""

U8 = npt.NDArray[np.uint8]
F16 = npt.NDArray[np.float16]


@dataclass(frozen=True, slots=True)
class CachedVideo:
    """One video's rows on disk; arrays are mapped, not read.

    Attributes:
        folder: Where the rows lie.
        starts: Rows at which a window may begin.
        served: Rows at which the windows of `fgmclip.video.windows.read_windows` begin, which are
            those that a client sends.
        first_grid: Number of rows of the first time grid; those of later phases follow.
        frames_lost: Frames of the video that are damaged or missing.
    """

    folder: Path
    starts: tuple[int, ...]
    served: tuple[int, ...]
    first_grid: int
    frames_lost: int

    def pixels(self) -> U8:  # [rows,S,S,3]
        """Return PIXELS_U8 of all rows."""
        return mapped(self.folder / "pixels.npy")

    def motion(self) -> F16 | None:  # [rows,3,M,M]
        """Return MOTION of all rows in half precision; None for a spec without motion."""
        path = self.folder / "motion.npy"
        return mapped(path) if path.is_file() else None


@dataclass(frozen=True, slots=True)
class CacheRecipe:
    """What decides the rows of a video, apart from its bytes.

    Attributes:
        parameters: Crop, sizes, colour and flow.
        clip: The time grid.
        phases: Grids, each begun a fraction 1/phases of dt later than the one before. More than
            one give training windows that begin between the samples.
    """

    parameters: PreprocessParameters
    clip: ClipSpec
    phases: int = 1

    @classmethod
    def from_spec(cls, spec: ModelSpec, *, phases: int = 1) -> CacheRecipe:
        """Take what matters over from a spec."""
        return cls(PreprocessParameters.from_spec(spec), spec.clip, phases)

    def key(self, video: Path) -> str:
        """Return the name of the folder of a video's rows."""
        values = asdict(self.parameters)
        # Normalisation comes after the cache.
        del values["mean"], values["std"]
        recipe: dict[str, Any] = {
            "format": CACHE_FORMAT,
            "decoding": DECODING_VERSION,
            "preprocess": values,
            "clip": self.clip.model_dump(),
            "phases": self.phases,
        }
        digest = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode())
        with video.open("rb") as stream:
            for block in iter(lambda: stream.read(1 << 20), b""):
                digest.update(block)
        return digest.hexdigest()[:32]


def cache_videos(
    videos: Sequence[Path],
    recipe: CacheRecipe,
    folder: Path,
    *,
    workers: int = 2,
    progress: bool = True,
) -> list[CachedVideo]:
    """Return the rows of each video, computing those that are not there yet.

    A stopped call loses at most the videos in work; the next call goes on after them.

    Args:
        videos: Files.
        recipe: What to compute.
        folder: The cache; made when absent. Several processes may use it at once.
        workers: Processes; 0 or 1 computes in this one.
        progress: Show a progress bar.

    Raises:
        DatasetError: Videos cannot be decoded, of which all were tried; the message names up to
            `MOST_NAMED` and the causes.
        OSError: The cache cannot be written; nothing of the videos in work stays.
    """
    folder.mkdir(parents=True, exist_ok=True)
    remove_temporaries(folder, abandoned_seconds=ABANDONED_SECONDS)
    try:
        keys = [recipe.key(video) for video in videos]
    except OSError as error:
        raise DatasetError(f"{error.filename}: cannot be read ({error.strerror})") from error
    missing = {
        key: video for key, video in zip(keys, videos, strict=True) if not (folder / key).is_dir()
    }
    jobs = [(video, recipe, folder / key) for key, video in missing.items()]
    with ExitStack() as stack:
        results: Iterable[str | None] = map(_compute, jobs)
        if min(workers, len(jobs)) > 1:
            # A fork would copy whatever locks the caller's threads hold.
            pool = ProcessPoolExecutor(min(workers, len(jobs)), mp_context=get_context("spawn"))
            stack.callback(pool.shutdown, cancel_futures=True)
            results = pool.map(_compute, jobs)
        shown = progress and bool(jobs)
        refusals = [
            refusal
            for refusal in track(results, "Decoding", total=len(jobs), disable=not shown)
            if refusal is not None
        ]
    if refusals:
        raise DatasetError(
            f"{len(refusals)} of {len(jobs)} new videos cannot be used: {listed(refusals)}; take "
            "them away or out of the list, what was decoded is kept"
            if len(refusals) > 1
            else refusals[0]
        )
    return [_open(folder / key) for key in keys]


def mapped(path: Path) -> npt.NDArray[Any]:
    """Map an array's file; only what is touched is read."""
    array: npt.NDArray[Any] = np.load(path, mmap_mode="r")
    return array


def _open(folder: Path) -> CachedVideo:
    index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    return CachedVideo(
        folder,
        tuple(index["starts"]),
        tuple(index["served"]),
        index["first_grid"],
        index["frames_lost"],
    )


def _compute(job: tuple[Path, CacheRecipe, Path]) -> str | None:
    """Write one video's rows; return why not, because errors do not all travel by pickle."""
    video, recipe, folder = job
    try:
        rows = compute_rows(video, recipe.parameters, recipe.clip, recipe.phases)
    except (VideoError, KernelError) as error:
        return str(error) if str(video) in str(error) else f"{video}: {error}"
    index = {
        "video": str(video),
        "starts": rows.starts,
        "served": rows.served,
        "first_grid": rows.first_grid,
        "frames_lost": rows.frames_lost,
    }
    # Another process may be faster with the same rows.
    with making_folder(folder) as made:
        for name, array in (("pixels", rows.pixels), ("motion", rows.motion)):
            if array is not None:
                with writing(made / f"{name}.npy") as stream:
                    np.save(stream, array)
        write_text(made / "index.json", json.dumps(index))
    return None
