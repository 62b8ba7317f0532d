"""The shipped binary on a real GPU, through pycuda: the numbers of the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from fgmclip.kernels.cuda.abi import KERNELS
from fgmclip.kernels.cuda.binary import find_binary
from fgmclip.kernels.cuda.build import build_binary
from fgmclip.kernels.cuda.dlpack import DeviceTensor, Place, from_capsule, to_capsule
from fgmclip.kernels.cuda.frames import upload_frames
from fgmclip.kernels.cuda.launches import CudaKernels
from fgmclip.kernels.cuda.pycuda_device import PycudaDevice
from fgmclip.kernels.errors import BuildError, DeviceError
from fgmclip.kernels.optical_flow import optical_flow
from fgmclip.kernels.parameters import FlowParameters, PreprocessParameters
from fgmclip.kernels.preprocess import PreprocessRequest, preprocess, preprocess_u8
from fgmclip.spec import FlowSpec, preset

pytestmark = pytest.mark.gpu

PARAMETERS = replace(
    PreprocessParameters.from_spec(preset("demo")), image_size=224, motion_size=112
)
ROIS = np.array(
    [
        [[0, 0, 90, 90], [40, 60, 300, 200], [50, 70, 330, 220]],
        [[9, 9, 99, 99], [-50, -30, 120, 90], [500, 300, 800, 440]],
    ],
    np.float32,
)


@pytest.fixture(scope="module")
def gpu() -> Iterator[PycudaDevice]:
    try:
        try:
            binary = find_binary(KERNELS)
        except BuildError:
            binary = build_binary()
        device = PycudaDevice(binary=binary)
    except (BuildError, DeviceError) as error:
        pytest.skip(f"no GPU test was run: {error}")
    with device:
        yield device


def pictures(*shape: int, seed: int = 0) -> NDArray[np.uint8]:
    """Return smooth pictures that move, so that there is a flow to find."""
    random = np.random.default_rng(seed)
    count, height, width, channels = shape
    coarse = random.integers(0, 256, (height // 8 + 4, width // 8 + 4, channels), np.uint8)
    fine = np.kron(coarse, np.ones((8, 8, 1), np.uint8))
    return np.stack([fine[2 * i : 2 * i + height, i : i + width] for i in range(count)])


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("rois", [None, ROIS], ids=["whole", "tracks"])
@pytest.mark.parametrize("shape", [(3, 480, 641, 3), (3, 720, 640, 1)], ids=["rgb", "nv12"])
def test_preprocess_is_that_of_the_cpu(
    gpu: PycudaDevice,
    shape: tuple[int, int, int, int],
    rois: NDArray[np.float32] | None,
    dtype: type[np.float32] | type[np.float16],
) -> None:
    frames = pictures(*shape)
    request = PreprocessRequest.of(frames, PARAMETERS, rois, None, None)
    placed, tracks = upload_frames(gpu, frames, request.tracks, PARAMETERS.motion_size)
    pixels, motion = preprocess(frames, PARAMETERS, rois=rois)
    assert motion is not None
    size = np.dtype(dtype).itemsize
    memory = [gpu.empty(array.size * size) for array in (pixels, motion)]
    CudaKernels(gpu).preprocess(
        placed,
        tracks,
        PARAMETERS,
        request.color,
        pixels=memory[0],
        motion=memory[1],
        dtype=dtype,
    )
    came = gpu.download(memory[0], np.empty(pixels.shape, dtype)).astype(np.float32)
    # One of 255 levels at most, and what half precision rounds away.
    level = 1 / 255 / min(PARAMETERS.std)
    epsilon = float(np.finfo(dtype).eps)
    np.testing.assert_allclose(came, pixels, atol=1.01 * level, rtol=epsilon)
    came = gpu.download(memory[1], np.empty(motion.shape, dtype)).astype(np.float32)
    near = np.abs(came - motion) <= 1e-3 / 112 + epsilon * np.abs(motion)
    assert near.mean() >= 0.999


def test_the_flow_is_that_of_the_cpu(gpu: PycudaDevice) -> None:
    flow = FlowParameters.from_spec(FlowSpec())
    _, luma_u8 = preprocess_u8(pictures(5, 480, 640, 3, seed=1), PARAMETERS)
    assert luma_u8 is not None
    out = np.empty((len(luma_u8), 2, *luma_u8.shape[2:]), np.float32)
    memory = gpu.empty(out.nbytes)
    CudaKernels(gpu).optical_flow(gpu.upload(luma_u8), len(luma_u8), 112, flow, memory)
    came = gpu.download(memory, out)
    assert (np.abs(came - optical_flow(luma_u8, flow)) <= 1e-3).mean() >= 0.999


def test_the_same_request_gives_the_same_bits(gpu: PycudaDevice) -> None:
    luma_u8 = pictures(4, 112, 112, 1, seed=2).reshape(2, 2, 112, 112)
    flow = FlowParameters.from_spec(FlowSpec())
    came = []
    for _ in range(3):
        memory = gpu.empty(2 * 3 * 112 * 112 * 4)
        CudaKernels(gpu).motion(gpu.upload(luma_u8), 2, 112, flow, memory)
        came.append(gpu.download(memory, np.empty((2, 3, 112, 112), np.float32)))
    np.testing.assert_array_equal(came[0], came[1])
    np.testing.assert_array_equal(came[0], came[2])


def test_more_memory_than_there_is_is_refused_and_the_gpu_goes_on(gpu: PycudaDevice) -> None:
    with pytest.raises(DeviceError, match="to have"):
        gpu.empty(1 << 50)
    values = np.arange(10, dtype=np.float32)
    np.testing.assert_array_equal(gpu.download(gpu.upload(values), np.empty_like(values)), values)


def test_another_library_reads_our_memory_where_it_lies(gpu: PycudaDevice) -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("this torch has no CUDA")
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    memory = gpu.upload(values)
    gpu.synchronize()
    tensor = torch.from_dlpack(
        to_capsule(DeviceTensor(memory, (3, 4), np.float32, Place.CUDA, gpu.ordinal))
    )
    assert tensor.data_ptr() == memory.address
    np.testing.assert_array_equal(tensor.cpu().numpy(), values)
    theirs = from_capsule(torch.utils.dlpack.to_dlpack(tensor * 2), "FRAMES")
    torch.cuda.synchronize()
    assert (theirs.place, theirs.ordinal) == (Place.CUDA, gpu.ordinal)
    np.testing.assert_array_equal(
        gpu.download(theirs.memory, np.empty((3, 4), np.float32)), 2 * values
    )
