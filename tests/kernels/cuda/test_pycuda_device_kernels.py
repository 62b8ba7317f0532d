"""The kernels through `PycudaDevice`: a stand-in for pycuda, behind it the host layer.

The stand-in runs what was queued when somebody waits for it. So the numbers come out right only if
arguments lie where the kernels take them from, and no buffer is used again too early.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fgmclip.kernels.cuda.abi import KERNELS
from fgmclip.kernels.cuda.binary import FatBinary
from fgmclip.kernels.cuda.device import Argument, Memory
from fgmclip.kernels.cuda.frames import upload_frames
from fgmclip.kernels.cuda.host import HostDevice
from fgmclip.kernels.cuda.launches import CudaKernels, Float
from fgmclip.kernels.cuda.pycuda_device import PycudaDevice
from fgmclip.kernels.errors import KernelError
from fgmclip.kernels.parameters import PreprocessParameters
from fgmclip.kernels.preprocess import PreprocessRequest, preprocess
from fgmclip.spec import preset

PARAMETERS = replace(PreprocessParameters.from_spec(preset("demo")), image_size=24, motion_size=16)


class Device(PycudaDevice):
    """Remembers of what types each kernel's arguments are, which only a kernel itself knows."""

    types: dict[str, np.dtype[np.void]]

    def launch(
        self,
        kernel: str,
        grid: tuple[int, int, int],
        block: int,
        shared: int,
        arguments: Sequence[Argument],
    ) -> None:
        dtypes = [
            item.dtype if isinstance(item, np.generic) else np.dtype(np.uint64)
            for item in arguments
        ]
        fields = [(str(index), dtype) for index, dtype in enumerate(dtypes)]
        self.types[kernel] = np.dtype(fields, align=True)
        super().launch(kernel, grid, block, shared, arguments)


@pytest.fixture
def device(driver: Any, binary: FatBinary) -> Device:
    """Return a device whose kernels run on the host layer, in its memory."""
    try:
        host = HostDevice()
    except KernelError as error:
        pytest.skip(str(error))
    device = Device(binary=binary)
    device.types = {}

    def body(kernel: str) -> Any:
        def run(packed: bytes, grid: tuple[int, int, int], block: int, shared: int) -> None:
            dtype = device.types[kernel]
            (values,) = np.frombuffer(packed.ljust(dtype.itemsize, b"\0"), dtype)
            host.launch(kernel, grid, block, shared, [values[name] for name in dtype.names or ()])

        return run

    driver.allocate = host.empty
    driver.bodies = {kernel: body(kernel) for kernel in KERNELS}
    return device


def pictures(*shape: int, seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def queued(
    device: PycudaDevice,
    kernels: CudaKernels,
    frames: NDArray[np.uint8],
    rois: NDArray[np.float32] | None = None,
    dtype: Float = np.float32,
) -> tuple[Memory, Memory]:
    """Queue a request and return where PIXELS and MOTION will be."""
    request = PreprocessRequest.of(frames, PARAMETERS, rois, None, None)
    placed, tracks = upload_frames(device, frames, request.tracks, PARAMETERS.motion_size)
    assert request.motion_shape is not None
    size = np.dtype(dtype).itemsize
    pixels = device.empty(int(np.prod(request.pixels_shape)) * size)
    motion = device.empty(int(np.prod(request.motion_shape)) * size)
    kernels.preprocess(
        placed, tracks, PARAMETERS, request.color, pixels=pixels, motion=motion, dtype=dtype
    )
    return pixels, motion


def check(
    device: PycudaDevice,
    results: tuple[Memory, Memory],
    frames: NDArray[np.uint8],
    rois: NDArray[np.float32] | None = None,
    dtype: Float = np.float32,
) -> None:
    pixels, motion = preprocess(frames, PARAMETERS, rois=rois)
    assert motion is not None
    came = [
        device.download(memory, np.empty(wanted.shape, dtype))
        for memory, wanted in zip(results, (pixels, motion), strict=True)
    ]
    np.testing.assert_array_equal(came[0], pixels.astype(dtype))
    tolerance = 1e-3 / 16 + float(np.finfo(dtype).eps)
    np.testing.assert_allclose(came[1], motion, atol=tolerance, rtol=float(np.finfo(dtype).eps))


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_a_request_is_answered_as_on_the_cpu(device: Device, dtype: Float) -> None:
    frames = pictures(3, 40, 70, 3, seed=1)
    check(device, queued(device, CudaKernels(device), frames, dtype=dtype), frames, dtype=dtype)


def test_requests_that_are_queued_together_do_not_disturb_each_other(
    driver: Any, device: Device
) -> None:
    kernels = CudaKernels(device)
    rois = np.array([[[0, 0, 9, 9], [4, 6, 30, 20], [-5, 7, 33, 60]]], np.float32)
    requests = [
        (pictures(3, 40, 70, 3, seed=2), None),
        (pictures(2, 60, 64, 1, seed=3), None),
        (pictures(3, 40, 70, 3, seed=4), rois),
        (pictures(4, 40, 70, 3, seed=5), None),
    ]
    results = [queued(device, kernels, frames, boxes) for frames, boxes in requests]
    assert "cuStreamSynchronize" not in driver.calls
    for result, (frames, boxes) in zip(results, requests, strict=True):
        check(device, result, frames, boxes)


def test_a_steady_stream_of_requests_allocates_nothing(driver: Any, device: Device) -> None:
    kernels = CudaKernels(device)
    counts = []
    for seed in range(6):
        frames = pictures(2, 40, 70, 3, seed=seed)
        check(device, queued(device, kernels, frames), frames)
        counts.append((driver.calls.count("cuMemAlloc"), driver.calls.count("cuMemHostAlloc")))
    assert len(set(counts[1:])) == 1
