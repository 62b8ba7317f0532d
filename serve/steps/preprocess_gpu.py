"""`preprocess` on a GPU: FRAMES where they lie, PIXELS and MOTION where the encoders want them.

Triton hands GPU tensors over by DLPack and copies none of them, if the model's config asks for it:
`instance_group [ { kind: KIND_GPU } ]`, and the parameter `FORCE_CPU_ONLY_INPUT_TENSORS` "no".
Nothing waits for the GPU until the last request of a batch is queued.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fgmclip.kernels.cuda.device import Device, Memory
from fgmclip.kernels.cuda.dlpack import DeviceTensor, Place
from fgmclip.kernels.cuda.frames import Tracks, frames_in, upload_frames
from fgmclip.kernels.cuda.launches import CudaKernels, DeviceFrames
from fgmclip.kernels.preprocess import PreprocessRequest
from fgmclip.serve.steps.preprocess import MATRICES, RANGES, choice, read_parameters
from fgmclip.serve.steps.step import RequestParameters, StepConfig, StepError, each

Tensors = Mapping[str, NDArray[Any] | DeviceTensor]

TYPES: dict[str, type[np.float32] | type[np.float16]] = {
    "TYPE_FP32": np.float32,
    "TYPE_FP16": np.float16,
}
"""Types of PIXELS and MOTION, as the config calls them."""


class Gpu(Device, Protocol):
    """What the step needs beyond launches."""

    @property
    def ordinal(self) -> int:
        """Number of the GPU, as CUDA counts."""

    def download(self, memory: Memory, out: NDArray[Any]) -> NDArray[Any]:
        """Fill `out` from memory after all that was queued, and return it."""

    def synchronize(self) -> None:
        """Wait until all that was queued is done."""

    def close(self) -> None:
        """Let go of everything."""


class GpuPreprocessStep:
    """Does on a GPU what `PreprocessStep` does on a CPU, with the same limits and refusals."""

    def __init__(self, config: StepConfig, gpu: Gpu) -> None:
        """Read the config's parameters.

        Args:
            config: Of the model; the type of its output PIXELS is that of MOTION too.
            gpu: Where to run.

        Raises:
            ValueError: PIXELS are of a type that kernels do not write.
        """
        self._parameters, self._limits = read_parameters(config)
        self._gpu = gpu
        self._kernels = CudaKernels(gpu)
        if config.types["PIXELS"] not in TYPES:
            raise ValueError(
                f"PIXELS: expected {' or '.join(TYPES)}, got {config.types['PIXELS']}; "
                "correct the model's config"
            )
        self._dtype = TYPES[config.types["PIXELS"]]

    def run(self, batch: Sequence[tuple[Tensors, RequestParameters]]) -> list[Any]:
        """Answer each request by itself: frames of two requests have two sizes."""
        answers = each(self, batch)
        # The backend's stub reads the outputs on a stream of its own.
        self._gpu.synchronize()
        return answers

    def close(self) -> None:
        """Let go of the GPU, and first of the weights that lie there."""
        del self._kernels
        self._gpu.close()

    def answer(self, inputs: Tensors, parameters: RequestParameters) -> Tensors:
        """Queue PIXELS [R n,3,S,S] and MOTION [R n,3,M,M], and return them with TRACKS [1]."""
        frames, rois = inputs["FRAMES"], inputs.get("ROI")
        if isinstance(rois, DeviceTensor):
            # A few numbers, which decide what is computed.
            rois = self._gpu.download(rois.memory, np.empty(rois.shape, rois.dtype))
        shown = _stand_in(frames) if isinstance(frames, DeviceTensor) else frames
        self._limits.check(shown, rois)
        request = PreprocessRequest.of(
            shown,
            self._parameters,
            rois,
            choice(parameters, "color_matrix", MATRICES),
            choice(parameters, "color_range", RANGES),
        )
        place, tracks = self._placed(frames, request)
        pixels = self._output(request.pixels_shape)
        motion = None if request.motion_shape is None else self._output(request.motion_shape)
        self._kernels.preprocess(
            place,
            tracks,
            self._parameters,
            request.color,
            pixels=pixels.memory,
            motion=None if motion is None else motion.memory,
            dtype=self._dtype,
        )
        outputs: dict[str, NDArray[Any] | DeviceTensor] = {
            "PIXELS": pixels,
            "TRACKS": np.array([len(tracks)], dtype=np.int32),
        }
        if motion is not None:
            outputs["MOTION"] = motion
        return outputs

    def _placed(
        self, frames: NDArray[np.uint8] | DeviceTensor, request: PreprocessRequest
    ) -> tuple[DeviceFrames, Tracks]:
        """Return the frames on the GPU, and the regions as they lie in what is there of them."""
        if not isinstance(frames, DeviceTensor):
            return upload_frames(self._gpu, frames, request.tracks, self._parameters.motion_size)
        if (frames.place, frames.ordinal) != (Place.CUDA, self._gpu.ordinal):
            raise StepError(
                f"FRAMES: expected memory of GPU {self._gpu.ordinal}, on which this instance runs, "
                f"got {frames.place.name} {frames.ordinal}; send the frames from the host, or run "
                "instances on that GPU alone"
            )
        return frames_in(frames.memory, frames.shape), request.tracks

    def _output(self, shape: tuple[int, ...]) -> DeviceTensor:
        size = int(np.prod(shape)) * np.dtype(self._dtype).itemsize
        return DeviceTensor(
            self._gpu.empty(size), shape, self._dtype, Place.CUDA, self._gpu.ordinal
        )


def _stand_in(tensor: DeviceTensor) -> NDArray[Any]:
    """Return an array of the tensor's type and shape, of no memory of its own, to be checked."""
    return np.broadcast_to(np.zeros((), tensor.dtype), tensor.shape)
