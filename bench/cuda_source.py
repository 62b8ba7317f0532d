"""The CUDA source without a GPU: its answers, the bytes it moves, and what ptxas says of it.

Kernels run on the host layer (`fgmclip.kernels.cuda.host`), which counts every load and store of
global memory. ptxas' figures come from the record of the fat binary, where one was built.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from fgmclip.bench.agreement import Operations
from fgmclip.bench.bars import Bar
from fgmclip.bench.opencv_peer import nv12_frames
from fgmclip.bench.preprocess_race import moving_stream
from fgmclip.kernels.color import Color, frame_size
from fgmclip.kernels.cuda.abi import KERNELS
from fgmclip.kernels.cuda.binary import KernelFigures, find_binary
from fgmclip.kernels.cuda.build import Progress, build_binary
from fgmclip.kernels.cuda.host import HostDevice
from fgmclip.kernels.cuda.launches import CudaKernels, DeviceFrames, Float
from fgmclip.kernels.errors import BuildError
from fgmclip.kernels.parameters import FlowParameters, PreprocessParameters
from fgmclip.kernels.regions import Region, frame_region
from fgmclip.kernels.taps import area_taps, bicubic_taps

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]

SIZES = ((480, 640), (1080, 1920))
DTYPES: tuple[Float, ...] = (np.float32, np.float16)
TRAFFIC_BAR = 1.2
SPILL_BAR = 0.0


def cuda_operations(device: HostDevice) -> Operations:
    """Return the operations as the CUDA source computes them on the host layer."""
    kernels = CudaKernels(device)

    def resize(frame: Bytes, region: Region, color: Color) -> Bytes:
        shape = (region.size, region.size, 3)
        out = device.empty(int(np.prod(shape)))
        kernels.resize(_upload(device, frame[None]), region, color, out)
        return out.read(np.uint8, shape)

    def luma(frame: Bytes, region: Region, size: int, color: Color) -> Bytes:
        out = device.empty(size * size)
        kernels.luma(_upload(device, frame[None]), region, size, color, out)
        return out.read(np.uint8, (size, size))

    def normalize(
        pixels_u8: Bytes, mean: tuple[float, float, float], std: tuple[float, float, float]
    ) -> Floats:
        count, size = pixels_u8.shape[:2]
        out = device.empty(4 * pixels_u8.size)
        kernels.normalize(device.upload(pixels_u8), count, size, mean, std, out)
        return out.read(np.float32, (count, 3, size, size))

    def frame_difference(luma_u8: Bytes) -> Floats:
        count, _, size, _ = luma_u8.shape
        out = device.empty(4 * count * size * size)
        kernels.frame_difference(device.upload(luma_u8), count, size, out)
        return out.read(np.float32, (count, size, size))

    def optical_flow(luma_u8: Bytes, parameters: FlowParameters) -> Floats:
        count, _, size, _ = luma_u8.shape
        out = device.empty(4 * luma_u8.size)
        kernels.optical_flow(device.upload(luma_u8), count, size, parameters, out)
        return out.read(np.float32, (count, 2, size, size))

    return Operations("CUDA source", resize, luma, normalize, frame_difference, optical_flow)


@dataclass(frozen=True, slots=True)
class TrafficRow:
    """What `preprocess` of one pair moves for resize, luma and normalize together.

    Attributes:
        size: Height and width of the frames, pixels.
        layout: RGB or NV12.
        dtype: Of PIXELS.
        loaded: Bytes that the kernel's threads loaded.
        stored: Bytes that they stored.
        minimum: Bytes that have to be moved: each byte of the frames that counts once, each result
            once.
    """

    size: tuple[int, int]
    layout: str
    dtype: str
    loaded: int
    stored: int
    minimum: int

    @property
    def ratio(self) -> float:
        """Bytes moved over those that have to be."""
        return (self.loaded + self.stored) / self.minimum

    def to_json(self) -> dict[str, object]:
        """Return all fields and the ratio."""
        return {name: getattr(self, name) for name in self.__slots__} | {"ratio": self.ratio}


def measure_traffic(
    device: HostDevice,
    parameters: PreprocessParameters,
    sizes: Sequence[tuple[int, int]] = SIZES,
) -> list[TrafficRow]:
    """Return a row for each size, layout and type of PIXELS.

    Args:
        device: Where the kernels run.
        parameters: Of a model with motion.
        sizes: Height and width of the frames, pixels, even.
    """
    kernels = CudaKernels(device)
    image, motion_size = parameters.image_size, parameters.motion_size or 0
    color = Color(parameters.color_matrix, parameters.color_range)
    rows = []
    for size in sizes:
        rgb = moving_stream(2, *size)
        region = frame_region(*size, image, parameters.crop)
        for layout, frames in (("RGB", rgb), ("NV12", nv12_frames(rgb))):
            for dtype in DTYPES:
                width = np.dtype(dtype).itemsize
                before = len(device.traffic)
                kernels.preprocess(
                    _upload(device, frames),
                    [[region]],
                    parameters,
                    color,
                    pixels=device.empty(width * 3 * image * image),
                    motion=device.empty(width * 3 * motion_size * motion_size),
                    dtype=dtype,
                )
                # The flow's launch is another matter: it works in its own scratch.
                moved = [
                    item for item in device.traffic[before:] if item.kernel.startswith("preprocess")
                ]
                rows.append(
                    TrafficRow(
                        size,
                        layout,
                        np.dtype(dtype).name,
                        sum(item.loaded for item in moved),
                        sum(item.stored for item in moved),
                        _needed(size, region, motion_size, layout)
                        + width * 3 * image**2
                        + 2 * motion_size**2,
                    )
                )
    return rows


def traffic_bar(rows: Sequence[TrafficRow]) -> Bar:
    """Return the bar on the worst row."""
    worst = max(rows, key=lambda row: row.ratio)
    height, width = worst.size
    return Bar(
        "CUDA source: bytes moved over the least possible, worst",
        TRAFFIC_BAR,
        worst.ratio,
        detail=f"{len(rows)} rows; worst {width}x{height} {worst.layout} to {worst.dtype}",
    )


def traffic_table(rows: Sequence[TrafficRow]) -> Table:
    """Return all rows."""
    table = Table(
        title="CUDA source: bytes moved by resize, luma and normalize of one pair",
        title_justify="left",
    )
    for column in ("frame size", "layout", "PIXELS"):
        table.add_column(column, no_wrap=True)
    for column in ("loaded", "stored", "least possible", "moved over least"):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(
            f"{row.size[1]}x{row.size[0]}",
            row.layout,
            row.dtype,
            *(f"{value:,}" for value in (row.loaded, row.stored, row.minimum)),
            f"{row.ratio:.3f}",
        )
    return table


def read_ptxas(build: Progress | None) -> tuple[KernelFigures, ...]:
    """Return ptxas' figures of the fat binary that would be loaded.

    Args:
        build: Where there is no binary of this source yet, it is built, and this told how far it
            is; None to build none.

    Raises:
        BuildError: There is none, or none can be built here.
    """
    try:
        return find_binary(KERNELS).record.figures
    except BuildError:
        if build is None:
            raise
    return build_binary(progress=build).record.figures


def spill_bar(figures: Sequence[KernelFigures]) -> Bar:
    """Return the bar on what any kernel spills on any architecture."""
    kernels = {item.kernel for item in figures}
    architectures = {item.architecture for item in figures}
    return Bar(
        "CUDA source: bytes that a thread spills, any kernel, any GPU",
        SPILL_BAR,
        max(item.spill_stores + item.spill_loads for item in figures),
        detail=f"{len(kernels)} kernels on {len(architectures)} architectures, "
        f"up to {max(item.registers for item in figures)} registers",
    )


def ptxas_table(figures: Sequence[KernelFigures]) -> Table:
    """Return registers of each kernel on each architecture, with what is spilled."""
    architectures = list(dict.fromkeys(item.architecture for item in figures))
    table = Table(title="ptxas: registers of a thread (+ bytes spilled)", title_justify="left")
    table.add_column("kernel", no_wrap=True)
    for name in architectures:
        table.add_column(name, justify="right")
    found = {(item.kernel, item.architecture): item for item in figures}
    for kernel in dict.fromkeys(item.kernel for item in figures):
        items = (found.get((kernel, name)) for name in architectures)
        table.add_row(kernel, *(_registers(item) for item in items))
    return table


def _registers(item: KernelFigures | None) -> str:
    if item is None:
        return ""
    spilled = item.spill_stores + item.spill_loads
    return f"{item.registers} + {spilled}" if spilled else str(item.registers)


def _upload(device: HostDevice, frames: Bytes) -> DeviceFrames:
    """Return frames u8 RGB [n,H,W,3] or NV12 [n,H*3/2,W,1] in the device's memory."""
    count, rows, width, channels = frames.shape
    height, _ = frame_size(frames[0])
    stride = width * channels
    memory = device.upload(frames)
    return DeviceFrames(memory, count, height, width, channels == 1, rows * stride, stride)


def _needed(size: tuple[int, int], region: Region, motion_size: int, layout: str) -> int:
    """Return how many bytes of a pair's frames any weight reaches.

    Of the later frame that is what PIXELS and luma read together, in all channels; of the earlier
    what luma reads, which of NV12 is its plane of luma alone.
    """
    spans = partial(_spans, region=region, motion_size=motion_size)
    later = region.window(*spans(pixels=True), size)
    earlier = region.window(*spans(pixels=False), size)
    later_pixels, earlier_pixels = (
        (window.right - window.left) * (window.bottom - window.top) for window in (later, earlier)
    )
    if layout == "RGB":
        return 3 * (later_pixels + earlier_pixels)
    # Half as many chroma samples of two bytes in each direction, whole 2x2 blocks.
    across = -(-later.right // 2) - later.left // 2
    down = -(-later.bottom // 2) - later.top // 2
    return later_pixels + 2 * across * down + earlier_pixels


def _spans(
    *, region: Region, motion_size: int, pixels: bool
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the columns and rows of the region that luma reads, and PIXELS where asked for."""
    axes = (
        (region.width, region.resized_width, region.offset_x),
        (region.height, region.resized_height, region.offset_y),
    )
    spans = []
    for axis in axes:
        used = [area_taps(*axis, region.size, motion_size).span]
        if pixels:
            used.append(bicubic_taps(*axis, region.size).span)
        spans.append((min(span[0] for span in used), max(span[1] for span in used)))
    across, down = spans
    return across, down
