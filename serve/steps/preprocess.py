"""`preprocess`: FRAMES to PIXELS and MOTION, after the limits were checked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgmclip.kernels import native
from fgmclip.kernels.parameters import PreprocessParameters
from fgmclip.kernels.preprocess import preprocess
from fgmclip.serve.steps.step import (
    RequestParameters,
    Step,
    StepConfig,
    StepError,
    Tensors,
    TritonStep,
    each,
)

MATRICES = ("bt601", "bt709")
RANGES = ("limited", "full")


@dataclass(frozen=True, slots=True)
class FrameLimits:
    """`fgmclip.spec.Limits`, as far as frames are concerned, and the window length T."""

    max_tracks: int
    max_rows: int
    min_side: int
    max_side: int
    max_pixels: int
    window: int

    def check(self, frames: NDArray[np.uint8], rois: NDArray[np.float32] | None) -> None:
        """Refuse a request that asks for too much, before anything is computed.

        Args:
            frames: u8 RGB [n+1,H,W,3] or NV12 [n+1,H*3/2,W,1].
            rois: f32 [R,n+1,4] pixels, or None for the whole frame.

        Raises:
            StepError: A limit is exceeded; the message names it.
        """
        if frames.ndim != 4 or frames.shape[3] not in (1, 3):
            raise StepError(
                "FRAMES: expected RGB [n+1,H,W,3] or NV12 [n+1,H*3/2,W,1], "
                f"got {list(frames.shape)}"
            )
        samples = frames.shape[0] - 1
        if not 1 <= samples <= self.window:
            raise StepError(
                f"FRAMES: expected 2 to {self.window + 1} frames (the sample before, then 1 to "
                f"{self.window} new ones), got {frames.shape[0]}"
            )
        height, width = frames.shape[1:3]
        if frames.shape[3] == 1:
            height = height * 2 // 3
        if min(height, width) < self.min_side:
            raise StepError(
                f"FRAMES: expected sides of at least {self.min_side} pixels, "
                f"got {width}x{height}; send a larger frame"
            )
        if max(height, width) > self.max_side or height * width > self.max_pixels:
            raise StepError(
                f"FRAMES: expected sides up to {self.max_side} and {self.max_pixels} pixels in "
                f"all, got {width}x{height}; scale the frame down before sending"
            )
        if rois is None:
            return
        if rois.ndim != 3 or rois.shape[1:] != (samples + 1, 4):
            raise StepError(
                f"ROI: expected [R,{samples + 1},4], one box a track and frame, "
                f"got {list(rois.shape)}"
            )
        tracks = rois.shape[0]
        if not 1 <= tracks <= self.max_tracks:
            raise StepError(f"ROI: expected 1 to {self.max_tracks} tracks, got {tracks}")
        if tracks * samples > self.max_rows:
            raise StepError(
                f"ROI: expected at most {self.max_rows} tracks times samples, got {tracks} x "
                f"{samples}; send fewer tracks in a request"
            )


class PreprocessStep:
    """Runs `fgmclip.kernels.preprocess` and says how many tracks there are."""

    def __init__(self, config: StepConfig) -> None:
        """Read the parameters `preprocess` and `limits` of the config."""
        self._parameters, self._limits = read_parameters(config)

    def run(self, batch: Sequence[tuple[Tensors, RequestParameters]]) -> list[Any]:
        """Answer each request by itself: frames of two requests have two sizes."""
        return each(self, batch)

    def answer(self, inputs: Tensors, parameters: RequestParameters) -> Mapping[str, NDArray[Any]]:
        """Return PIXELS [R n,3,S,S], MOTION [R n,3,M,M] and TRACKS [1], which holds R."""
        frames, rois = inputs["FRAMES"], inputs.get("ROI")
        self._limits.check(frames, rois)
        pixels, motion = preprocess(
            frames,
            self._parameters,
            rois=rois,
            color_matrix=choice(parameters, "color_matrix", MATRICES),
            color_range=choice(parameters, "color_range", RANGES),
        )
        tracks = 1 if rois is None else rois.shape[0]
        outputs: dict[str, NDArray[Any]] = {
            "PIXELS": pixels,
            "TRACKS": np.array([tracks], dtype=np.int32),
        }
        if motion is not None:
            outputs["MOTION"] = motion
        return outputs


def read_parameters(config: StepConfig) -> tuple[PreprocessParameters, FrameLimits]:
    """Return the parameters `preprocess` and `limits` of a config."""
    return (
        PreprocessParameters.from_dict(json.loads(config.parameters["preprocess"])),
        FrameLimits(**json.loads(config.parameters["limits"])),
    )


def choice(parameters: RequestParameters, key: str, allowed: tuple[str, ...]) -> Any:
    """Return a parameter of a request, or None if it is not there.

    Raises:
        StepError: It is none of the allowed ones.
    """
    value = parameters.get(key)
    if value is not None and value not in allowed:
        raise StepError(f"parameter {key}: expected {' or '.join(allowed)}, got {value!r}")
    return value


class TritonPythonModel(TritonStep):
    """What Triton loads."""

    def build(self, config: StepConfig) -> Step:
        """Return the preprocess step, for the GPU of this instance or for a CPU."""
        if config.gpu is not None:
            from fgmclip.kernels.cuda.pycuda_device import PycudaDevice
            from fgmclip.serve.steps.preprocess_gpu import GpuPreprocessStep

            return GpuPreprocessStep(config, PycudaDevice(config.gpu))
        if native.load_error is not None:
            self.backend.Logger.log_warn(
                f"preprocess: expected the compiled kernels, got {native.load_error}; NumPy gives "
                "the same answers, many times slower; export with the server's version of Python"
            )
        return PreprocessStep(config)
