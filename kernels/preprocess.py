"""`preprocess`: frames to PIXELS and MOTION, in the two stages that an edge host may split.

The u8 stages are part of the definition: whoever sends PIXELS_U8 and LUMA_U8 gets exactly the
answer for the frames that they were made of.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fgmclip.kernels import native, twin
from fgmclip.kernels.checks import (
    check_color,
    check_flow,
    check_frames,
    check_luma,
    check_out,
    check_pixels,
    check_rois,
)
from fgmclip.kernels.color import Color
from fgmclip.kernels.errors import KernelError
from fgmclip.kernels.normalize import normalize
from fgmclip.kernels.parameters import ColorMatrix, ColorRange, PreprocessParameters
from fgmclip.kernels.regions import Region, frame_region, roi_region

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]


def preprocess(
    frames: Bytes,
    parameters: PreprocessParameters,
    *,
    rois: Floats | None = None,
    color_matrix: ColorMatrix | None = None,
    color_range: ColorRange | None = None,
    threads: int | None = None,
) -> tuple[Floats, Floats | None]:
    """Return PIXELS and MOTION of n samples, for each of R tracks.

    Both frames of a pair are cut by the later one's region, so that a moving box does not look
    like a moving world. The first sample's box is therefore not used.

    Args:
        frames: u8 RGB [n+1,H,W,3] or NV12 [n+1,H*3/2,W,1]; the first is the sample before. Rows
            and frames may lie apart in memory.
        parameters: The definition.
        rois: f32 [R,n+1,4], pixels x0, y0, x1, y1; None for the whole frame (R = 1).
        color_matrix: Instead of the definition's.
        color_range: Instead of the definition's; matters for NV12 alone.
        threads: Threads to compute with; None for all that the process may use.

    Returns:
        PIXELS f32 [R n,3,S,S] and MOTION f32 [R n,3,M,M], track by track; MOTION is None for a
        model without motion.

    Raises:
        KernelError: Frames, boxes or colour are not what they should be.
    """
    request = PreprocessRequest.of(frames, parameters, rois, color_matrix, color_range)
    pixels = np.empty(request.pixels_shape, np.float32)
    motion = None if request.motion_shape is None else np.empty(request.motion_shape, np.float32)
    request.fill(pixels, motion, threads)
    return pixels, motion


def preprocess_into(
    frames: Bytes,
    parameters: PreprocessParameters,
    pixels: Floats,
    motion: Floats | None,
    *,
    rois: Floats | None = None,
    color_matrix: ColorMatrix | None = None,
    color_range: ColorRange | None = None,
    threads: int | None = None,
) -> None:
    """Write what `preprocess` returns into arrays of those shapes.

    Raises:
        KernelError: As `preprocess`; or a place to write to has another type or shape.
    """
    request = PreprocessRequest.of(frames, parameters, rois, color_matrix, color_range)
    check_out(pixels, np.float32, request.pixels_shape)
    if request.motion_shape is not None and motion is not None:
        check_out(motion, np.float32, request.motion_shape)
    elif (request.motion_shape is None) != (motion is None):
        wanted = "none" if request.motion_shape is None else list(request.motion_shape)
        raise KernelError(f"motion: expected {wanted}, as the model has it, got the opposite")
    request.fill(pixels, motion, threads)


def preprocess_u8(
    frames: Bytes,
    parameters: PreprocessParameters,
    *,
    rois: Floats | None = None,
    color_matrix: ColorMatrix | None = None,
    color_range: ColorRange | None = None,
    threads: int | None = None,
) -> tuple[Bytes, Bytes | None]:
    """Return PIXELS_U8 [R n,S,S,3] and LUMA_U8 [R n,2,M,M]: all that needs whole frames.

    Arguments and errors are those of `preprocess`; LUMA_U8 is None for a model without motion.
    """
    request = PreprocessRequest.of(frames, parameters, rois, color_matrix, color_range)
    size = parameters.motion_size
    if not native.available():
        return twin.preprocess_u8(frames, request.tracks, size, request.color)
    count = request.pixels_shape[0]
    pixels = np.empty((count, parameters.image_size, parameters.image_size, 3), np.uint8)
    luma = None if size is None else np.empty((count, 2, size, size), np.uint8)
    native.preprocess_into(
        frames,
        request.tracks,
        parameters,
        request.color,
        pixels_u8=pixels,
        luma_u8=luma,
        threads=threads,
    )
    return pixels, luma


def preprocess_edge(
    pixels_u8: Bytes,
    luma_u8: Bytes | None,
    parameters: PreprocessParameters,
    *,
    threads: int | None = None,
) -> tuple[Floats, Floats | None]:
    """Return PIXELS and MOTION from their u8 stages.

    Args:
        pixels_u8: PIXELS_U8 [N,S,S,3], N at least 1.
        luma_u8: LUMA_U8 [N,2,M,M]; None for a model without motion.
        parameters: The definition.
        threads: Threads to compute with; None for all that the process may use.

    Returns:
        PIXELS f32 [N,3,S,S] and MOTION f32 [N,3,M,M] = (luma difference / 255, u / M, v / M).

    Raises:
        KernelError: A tensor has another type or shape than the definition says.
    """
    check_pixels(pixels_u8, parameters.image_size)
    count = len(pixels_u8)
    if count == 0:
        raise KernelError("PIXELS_U8: expected at least 1 sample, got 0; send a new sample")
    size, flow = parameters.motion_size, parameters.flow
    if size is None or flow is None:
        if luma_u8 is not None:
            raise KernelError(
                "LUMA_U8: expected none, as the model has no motion encoder, "
                f"got {list(luma_u8.shape)}; leave it out"
            )
        return _normalized(pixels_u8, parameters, threads), None
    if luma_u8 is None:
        raise KernelError(
            f"LUMA_U8: expected [{count},2,{size},{size}], got none; "
            "send what preprocess_u8 returns"
        )
    check_luma(luma_u8, size, count)
    check_flow(size, flow)
    pixels = _normalized(pixels_u8, parameters, threads)
    if not native.available():
        return pixels, twin.motion(luma_u8, flow)
    motion = np.empty((count, 3, size, size), np.float32)
    native.motion_into(luma_u8, flow, motion, threads=threads)
    return pixels, motion


@dataclass(frozen=True, slots=True)
class PreprocessRequest:
    """A checked call of `preprocess`, whatever computes it.

    Attributes:
        frames: As `preprocess` takes them.
        parameters: The definition.
        tracks: Region of each track and new sample, [R][n].
        color: What the frames' numbers mean.
    """

    frames: Bytes
    parameters: PreprocessParameters
    tracks: list[list[Region]]
    color: Color

    @classmethod
    def of(
        cls,
        frames: Bytes,
        parameters: PreprocessParameters,
        rois: Floats | None,
        color_matrix: ColorMatrix | None,
        color_range: ColorRange | None,
    ) -> PreprocessRequest:
        """Return the request of a call of `preprocess`, after its arguments were checked.

        Raises:
            KernelError: As `preprocess`.
        """
        frame_size = check_frames(frames)
        color = Color(
            color_matrix or parameters.color_matrix, color_range or parameters.color_range
        )
        check_color(color.matrix, color.range)
        if parameters.motion_size is not None and parameters.flow is not None:
            check_flow(parameters.motion_size, parameters.flow)
        tracks = _regions(len(frames), frame_size, rois, parameters)
        return cls(frames, parameters, tracks, color)

    @property
    def pixels_shape(self) -> tuple[int, int, int, int]:
        """Shape of PIXELS."""
        size = self.parameters.image_size
        return len(self.tracks) * len(self.tracks[0]), 3, size, size

    @property
    def motion_shape(self) -> tuple[int, int, int, int] | None:
        """Shape of MOTION; None for a model without motion."""
        size = self.parameters.motion_size
        return None if size is None else (self.pixels_shape[0], 3, size, size)

    def fill(self, pixels: Floats, motion: Floats | None, threads: int | None) -> None:
        """Write PIXELS and MOTION."""
        parameters, size = self.parameters, self.parameters.motion_size
        if not native.available():
            pixels_u8, luma_u8 = twin.preprocess_u8(self.frames, self.tracks, size, self.color)
            pixels[:] = normalize(pixels_u8, parameters.mean, parameters.std)
            if motion is not None and luma_u8 is not None and parameters.flow is not None:
                motion[:] = twin.motion(luma_u8, parameters.flow)
            return
        luma = None if size is None else np.empty((len(pixels), 2, size, size), np.uint8)
        native.preprocess_into(
            self.frames,
            self.tracks,
            parameters,
            self.color,
            pixels=pixels,
            luma_u8=luma,
            motion=motion,
            threads=threads,
        )


def _normalized(pixels_u8: Bytes, parameters: PreprocessParameters, threads: int | None) -> Floats:
    if not native.available():
        return normalize(pixels_u8, parameters.mean, parameters.std)
    return native.normalize(pixels_u8, parameters.mean, parameters.std, threads=threads)


def _regions(
    count: int,
    frame_size: tuple[int, int],
    rois: Floats | None,
    parameters: PreprocessParameters,
) -> list[list[Region]]:
    """Return the region of each track and new sample, [R][n]."""
    height, width = frame_size
    size = parameters.image_size
    if rois is None:
        return [[frame_region(height, width, size, parameters.crop)] * (count - 1)]
    check_rois(rois, count, height, width)
    return [[roi_region(box, size) for box in track[1:]] for track in rois]
