"""What the kernels take of a GPU: ptxas figures, occupancy, and bytes moved against what must be.

None of it needs a GPU. How a request is launched is heard by a device that only listens; what its
kernels move is counted by the host layer, which runs them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgmclip.kernels.color import Color
from fgmclip.kernels.cuda.binary import BinaryRecord, KernelFigures
from fgmclip.kernels.cuda.device import Argument, Device, Memory
from fgmclip.kernels.cuda.frames import area, frames_in, luma_window, pixels_window, union
from fgmclip.kernels.cuda.host import HostDevice
from fgmclip.kernels.cuda.launches import CudaKernels, Float
from fgmclip.kernels.cuda.occupancy import MULTIPROCESSORS, Occupancy, occupancy
from fgmclip.kernels.parameters import FlowParameters, PreprocessParameters
from fgmclip.kernels.regions import Region, Window, frame_region

IMAGE_SIZE = 224
MOTION_SIZE = 112
COLOR = Color("bt709", "limited")


@dataclass(frozen=True, slots=True)
class Workload:
    """A pair of frames to PIXELS and MOTION of `IMAGE_SIZE` and `MOTION_SIZE`, whole frames.

    Attributes:
        name: What it is called.
        height: Of a frame, pixels.
        width: Of a frame, pixels.
        nv12: NV12, else RGB.
    """

    name: str
    height: int
    width: int
    nv12: bool

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of the two frames."""
        if self.nv12:
            return 2, self.height * 3 // 2, self.width, 1
        return 2, self.height, self.width, 3

    @property
    def region(self) -> Region:
        """The middle square."""
        return frame_region(self.height, self.width, IMAGE_SIZE, "center")


WORKLOADS = (
    Workload("1080p RGB", 1080, 1920, nv12=False),
    Workload("1080p NV12", 1080, 1920, nv12=True),
    Workload("480p RGB", 480, 640, nv12=False),
)


@dataclass(frozen=True, slots=True)
class Launch:
    """One launch, as it was asked for.

    Attributes:
        kernel: Which kernel.
        grid: Blocks in x, y, z.
        block: Threads of a block.
        shared: Dynamic shared memory of a block, bytes.
    """

    kernel: str
    grid: tuple[int, int, int]
    block: int
    shared: int


@dataclass(frozen=True, slots=True)
class KernelRow:
    """One kernel on one architecture.

    Attributes:
        figures: What ptxas said.
        threads: Of a block.
        dynamic_shared: Of a block, most of all workloads, bytes.
        occupancy: With these; None where the architecture's limits are not known.
    """

    figures: KernelFigures
    threads: int
    dynamic_shared: int
    occupancy: Occupancy | None


@dataclass(frozen=True, slots=True)
class Moved:
    """What one launch moved between a kernel and global memory.

    Attributes:
        workload: Which request.
        kernel: Which kernel.
        loaded: Bytes that its threads loaded, of frames, weights and scratch.
        stored: Bytes that they stored.
        minimum: Bytes of its inputs, each once, and of its outputs.
    """

    workload: str
    kernel: str
    loaded: int
    stored: int
    minimum: int

    @property
    def ratio(self) -> float:
        """Bytes moved, in bytes that must be."""
        return (self.loaded + self.stored) / self.minimum


class Listener:
    """A `Device` that runs nothing and remembers what it was asked for.

    Attributes:
        launches: In their order.
    """

    def __init__(self) -> None:
        """Begin with no launches."""
        self.launches: list[Launch] = []

    def empty(self, size: int) -> Memory:
        """Return memory that is none."""
        return _Nowhere(size)

    def upload(self, values: NDArray[Any]) -> Memory:
        """Return memory that is none."""
        return _Nowhere(values.nbytes)

    def launch(
        self,
        kernel: str,
        grid: tuple[int, int, int],
        block: int,
        shared: int,
        arguments: Sequence[Argument],
    ) -> None:
        """Remember a launch; see `Device.launch`."""
        self.launches.append(Launch(kernel, grid, block, shared))


@dataclass(frozen=True, slots=True)
class _Nowhere:
    size: int
    address: int = 0


def kernel_rows(record: BinaryRecord, flow: FlowParameters) -> list[KernelRow]:
    """Return figures and occupancy of each kernel and architecture in a fat binary.

    Args:
        record: The fat binary's.
        flow: Parameters of the flow.
    """
    listener = Listener()
    for workload in WORKLOADS:
        request(listener, workload, flow)
        request(listener, workload, flow, dtype=np.float16)
        operations(listener, workload, flow)
    rows = []
    for figures in record.figures:
        launches = [item for item in listener.launches if item.kernel == figures.kernel]
        threads = max((item.block for item in launches), default=figures.max_threads)
        shared = max((item.shared for item in launches), default=0)
        known = figures.architecture in MULTIPROCESSORS and threads > 0
        held = (
            occupancy(
                figures.architecture,
                threads=threads,
                registers=figures.registers,
                shared=figures.shared + shared,
            )
            if known
            else None
        )
        rows.append(KernelRow(figures, threads, shared, held))
    return rows


def moved_bytes(device: HostDevice, flow: FlowParameters) -> Iterator[Moved]:
    """Run every workload on the host layer, one of them operation by operation too.

    Raises:
        KernelError: A kernel did something that a GPU would not let it do.
    """
    for workload in WORKLOADS:
        device.traffic.clear()
        request(device, workload, flow)
        if workload is WORKLOADS[0]:
            operations(device, workload, flow)
        for traffic in device.traffic:
            minimum = compulsory_bytes(workload, traffic.kernel)
            yield Moved(workload.name, traffic.kernel, traffic.loaded, traffic.stored, minimum)


def request(
    device: Device, workload: Workload, flow: FlowParameters, *, dtype: Float = np.float32
) -> None:
    """Launch a workload as the service does."""
    size = np.dtype(dtype).itemsize
    CudaKernels(device).preprocess(
        frames_in(device.upload(np.zeros(workload.shape, np.uint8)), workload.shape),
        [[workload.region]],
        _parameters(flow),
        COLOR,
        pixels=device.empty(3 * IMAGE_SIZE**2 * size),
        motion=device.empty(3 * MOTION_SIZE**2 * size),
        dtype=dtype,
    )


def operations(device: Device, workload: Workload, flow: FlowParameters) -> None:
    """Launch what a request does not: the operations by themselves, and the stages in bytes."""
    kernels = CudaKernels(device)
    pixels_u8 = device.empty(3 * IMAGE_SIZE**2)
    luma_u8 = device.empty(2 * MOTION_SIZE**2)
    kernels.preprocess_u8(
        frames_in(device.upload(np.zeros(workload.shape, np.uint8)), workload.shape),
        [[workload.region]],
        MOTION_SIZE,
        COLOR,
        pixels_u8=pixels_u8,
        luma_u8=luma_u8,
    )
    for dtype in (np.float32, np.float16):
        size = np.dtype(dtype).itemsize
        parameters = _parameters(flow)
        kernels.normalize(
            pixels_u8,
            1,
            IMAGE_SIZE,
            parameters.mean,
            parameters.std,
            device.empty(3 * IMAGE_SIZE**2 * size),
            dtype=dtype,
        )
        kernels.frame_difference(
            luma_u8, 1, MOTION_SIZE, device.empty(MOTION_SIZE**2 * size), dtype=dtype
        )
    kernels.optical_flow(luma_u8, 1, MOTION_SIZE, flow, device.empty(2 * MOTION_SIZE**2 * 4))


def compulsory_bytes(workload: Workload, kernel: str) -> int:
    """Return what a launch for a workload must move: inputs that count, each once, and outputs."""
    operation, _, dtype = kernel.rpartition("_")
    size = {"u8": 1, "f16": 2, "f32": 4}[dtype]
    pixels, plane = 3 * IMAGE_SIZE**2, MOTION_SIZE**2
    if operation == "preprocess":
        return _frame_bytes(workload) + pixels * size + 2 * plane
    return {
        "normalize": pixels * (1 + size),
        "frame_difference": plane * (2 + size),
        "optical_flow": plane * (2 + 2 * size),
        "motion": plane * (2 + 3 * size),
    }[operation]


def _frame_bytes(workload: Workload) -> int:
    """Return what counts of two frames: of the later one for PIXELS too, for luma of both."""
    frame_size = workload.height, workload.width
    luma = luma_window(workload.region, frame_size, MOTION_SIZE)
    pixels = pixels_window(workload.region, frame_size)
    shown = area(luma) + area(union([luma, pixels]))
    # Luma lies in a plane of its own in NV12; a chroma sample is two bytes for four pixels.
    return shown + 2 * area(_halved(pixels)) if workload.nv12 else 3 * shown


def _halved(window: Window) -> Window:
    return Window(
        window.left // 2, window.top // 2, (window.right + 1) // 2, (window.bottom + 1) // 2
    )


def _parameters(flow: FlowParameters) -> PreprocessParameters:
    return PreprocessParameters(
        image_size=IMAGE_SIZE,
        # Of CLIP; no figure depends on them.
        mean=(0.48145466, 0.4578275, 0.40821073),
        std=(0.26862954, 0.26130258, 0.27577711),
        crop="center",
        color_matrix=COLOR.matrix,
        color_range=COLOR.range,
        motion_size=MOTION_SIZE,
        flow=flow,
    )
