"""The operations in C++: same names, arguments and results as their twins, each with an `_into`.

Where the compiled module is absent (another Python than it was built for), `load_error` says why.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import asdict, astuple
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fgmclip.kernels.checks import check_flow, check_luma, check_out, check_packed, check_pixels
from fgmclip.kernels.color import Color, constants
from fgmclip.kernels.errors import KernelError
from fgmclip.kernels.parameters import FlowParameters, PreprocessParameters
from fgmclip.kernels.regions import Region

try:
    from fgmclip.kernels import _native
except ImportError as error:
    load_error: str | None = str(error)
else:
    load_error = None

if TYPE_CHECKING:
    from fgmclip.kernels._native import Kernels

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]

_local = threading.local()


def module_file() -> Path | None:
    """Return the compiled module's file, which an editable install keeps away from the sources."""
    return None if load_error is not None else Path(_native.__file__)


def available() -> bool:
    """Say whether the compiled module is here."""
    return load_error is None


def default_threads() -> int:
    """Return how many threads a call takes when it is not told: all that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


def instruction_set() -> str:
    """Return what runs on this machine: `avx512`, `avx2` or `portable`."""
    return kernels(1).instruction_set


def kernels(threads: int | None) -> Kernels:
    """Return this thread's kernels: buffers and workers that stay from call to call.

    Args:
        threads: Threads of a call; None for `default_threads`.

    Raises:
        KernelError: The number is no number of threads, or the compiled module is absent.
    """
    if load_error is not None:
        raise KernelError(
            f"compiled kernels: expected them for this Python, got none ({load_error}); "
            "install fgmclip with a C++ compiler, or use fgmclip.kernels.preprocess, which goes on "
            "without"
        )
    count = default_threads() if threads is None else threads
    if count < 1:
        raise KernelError(f"threads: expected at least 1, got {count}; leave it out for all")
    kept: dict[int, Kernels] = _local.__dict__.setdefault("kernels", {})
    if count not in kept:
        kept[count] = _native.Kernels(count)
    return kept[count]


# A forked process has the buffers, but not the workers.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: _local.__dict__.clear())


def resize(frame: Bytes, region: Region, color: Color, *, threads: int | None = None) -> Bytes:
    """Return PIXELS_U8 [S,S,3] of one frame; see `fgmclip.kernels.resize.resize`."""
    out = np.empty((region.size, region.size, 3), np.uint8)
    resize_into(frame, region, color, out, threads=threads)
    return out


def resize_into(
    frame: Bytes, region: Region, color: Color, out: Bytes, *, threads: int | None = None
) -> None:
    """Write PIXELS_U8 [S,S,3] of one frame.

    Raises:
        KernelError: The frame's pixels are not packed, or `out` has another type or shape.
    """
    check_packed("FRAMES", frame[None], rows=True)
    check_out(out, np.uint8, (region.size, region.size, 3))
    kernels(threads).resize(frame[None], _regions([region], None), constants(color), out)


def luma(
    frame: Bytes, region: Region, size: int, color: Color, *, threads: int | None = None
) -> Bytes:
    """Return LUMA_U8 [M,M] of one frame; see `fgmclip.kernels.luma.luma`."""
    out = np.empty((size, size), np.uint8)
    luma_into(frame, region, color, out, threads=threads)
    return out


def luma_into(
    frame: Bytes, region: Region, color: Color, out: Bytes, *, threads: int | None = None
) -> None:
    """Write LUMA_U8 of one frame into `out` [M,M].

    Raises:
        KernelError: The frame's pixels are not packed, or `out` has another type or shape.
    """
    check_packed("FRAMES", frame[None], rows=True)
    check_out(out, np.uint8, (len(out), len(out)))
    kernels(threads).luma(frame[None], _regions([region], len(out)), constants(color), out)


def normalize(
    pixels_u8: Bytes,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    *,
    threads: int | None = None,
) -> Floats:
    """Return PIXELS f32 [N,3,S,S]; see `fgmclip.kernels.normalize.normalize`."""
    check_pixels(pixels_u8)
    count, size = pixels_u8.shape[:2]
    out = np.empty((count, 3, size, size), np.float32)
    normalize_into(pixels_u8, mean, std, out, threads=threads)
    return out


def normalize_into(
    pixels_u8: Bytes,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    out: Floats,
    *,
    threads: int | None = None,
) -> None:
    """Write PIXELS f32 [N,3,S,S] of PIXELS_U8 [N,S,S,3].

    Raises:
        KernelError: A tensor has another type, shape or layout.
    """
    check_pixels(pixels_u8)
    check_packed("PIXELS_U8", pixels_u8)
    count, size = pixels_u8.shape[:2]
    check_out(out, np.float32, (count, 3, size, size))
    kernels(threads).normalize(pixels_u8, _channels(mean), _channels(std), out)


def frame_difference(luma_u8: Bytes, *, threads: int | None = None) -> Floats:
    """Return f32 [N,M,M]; see `fgmclip.kernels.frame_difference.frame_difference`."""
    check_luma(luma_u8)
    out = np.empty((len(luma_u8), *luma_u8.shape[2:]), np.float32)
    frame_difference_into(luma_u8, out, threads=threads)
    return out


def frame_difference_into(luma_u8: Bytes, out: Floats, *, threads: int | None = None) -> None:
    """Write (later - earlier) / 255 of LUMA_U8 [N,2,M,M] into f32 [N,M,M].

    Raises:
        KernelError: A tensor has another type, shape or layout.
    """
    check_luma(luma_u8)
    check_packed("LUMA_U8", luma_u8)
    check_out(out, np.float32, (len(luma_u8), *luma_u8.shape[2:]))
    kernels(threads).frame_difference(luma_u8, out)


def optical_flow(
    luma_u8: Bytes, parameters: FlowParameters, *, threads: int | None = None
) -> Floats:
    """Return f32 [N,2,M,M]; see `fgmclip.kernels.optical_flow.optical_flow`.

    The same bits for any number of threads.
    """
    check_luma(luma_u8)
    out = np.empty((len(luma_u8), 2, *luma_u8.shape[2:]), np.float32)
    optical_flow_into(luma_u8, parameters, out, threads=threads)
    return out


def optical_flow_into(
    luma_u8: Bytes, parameters: FlowParameters, out: Floats, *, threads: int | None = None
) -> None:
    """Write the flow of LUMA_U8 [N,2,M,M] into f32 [N,2,M,M], pixels of the M-grid.

    Raises:
        KernelError: A tensor has another type, shape or layout, or the parameters are another
            version's.
    """
    check_luma(luma_u8)
    check_flow(luma_u8.shape[2], parameters)
    check_packed("LUMA_U8", luma_u8)
    check_out(out, np.float32, (len(luma_u8), 2, *luma_u8.shape[2:]))
    kernels(threads).optical_flow(luma_u8, _flow(parameters), out)


def motion_into(
    luma_u8: Bytes, flow: FlowParameters, out: Floats, *, threads: int | None = None
) -> None:
    """Write MOTION of checked LUMA_U8 [N,2,M,M] into f32 [N,3,M,M]."""
    check_flow(luma_u8.shape[2], flow)
    check_packed("LUMA_U8", luma_u8)
    kernels(threads).motion(luma_u8, _flow(flow), out)


def preprocess_into(
    frames: Bytes,
    tracks: Sequence[Sequence[Region]],
    parameters: PreprocessParameters,
    color: Color,
    *,
    pixels: Floats | None = None,
    pixels_u8: Bytes | None = None,
    luma_u8: Bytes | None = None,
    motion: Floats | None = None,
    threads: int | None = None,
) -> None:
    """Write what is asked for of checked frames; MOTION needs LUMA_U8 as well.

    Args:
        frames: u8 RGB [n+1,H,W,3] or NV12 [n+1,H*3/2,W,1].
        tracks: Region of each track and new sample, [R][n].
        parameters: The definition.
        color: What the frames' numbers mean.
        pixels: f32 [R n,3,S,S] for PIXELS, or None; exactly one of this and `pixels_u8`.
        pixels_u8: u8 [R n,S,S,3] for PIXELS_U8, or None.
        luma_u8: u8 [R n,2,M,M] for LUMA_U8, or None.
        motion: f32 [R n,3,M,M] for MOTION, or None.
        threads: Threads of the call.

    Raises:
        KernelError: The frames' pixels are not packed.
    """
    check_packed("FRAMES", frames, rows=True)
    side = None if luma_u8 is None else luma_u8.shape[2]
    flow = parameters.flow
    if motion is not None and flow is not None and side is not None:
        check_flow(side, flow)
    kernels(threads).preprocess(
        frames,
        _regions([region for regions in tracks for region in regions], side),
        constants(color),
        _channels(parameters.mean),
        _channels(parameters.std),
        None if flow is None else _flow(flow),
        values=pixels,
        levels=pixels_u8,
        luma=luma_u8,
        motion=motion,
    )


def _regions(regions: Sequence[Region], motion_size: int | None) -> NDArray[np.int32]:
    return np.array([(*astuple(region), motion_size or 0) for region in regions], np.int32)


def _channels(values: tuple[float, float, float]) -> Floats:
    return np.asarray(values, np.float32)


@lru_cache(maxsize=64)
def _flow(parameters: FlowParameters) -> _native.FlowParameters:
    fields = asdict(parameters)
    del fields["version"]
    return _native.FlowParameters(**fields)
