"""`PycudaDevice`: the kernels on a real GPU, through pycuda and the prebuilt fat binary.

The primary context, which Triton's Python backend uses too, so that its tensors and ours are one
address space; a stream of our own. Everything goes to that stream in order, so a buffer that was
let go may be given out again at once: what used it before runs before.
"""

from __future__ import annotations

import importlib
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from fgmclip.kernels.cuda.abi import KERNELS
from fgmclip.kernels.cuda.binary import FatBinary, find_binary
from fgmclip.kernels.cuda.device import Argument, Memory
from fgmclip.kernels.cuda.pool import Pool, Pooled
from fgmclip.kernels.errors import DeviceError, KernelError

DEFAULT_SHARED = 48 * 1024
"""Dynamic shared memory that a kernel may have without being asked, bytes."""

STAGING = 4 << 20
"""Least pinned memory that one piece of an upload is copied through, bytes."""


class _Stream(Protocol):
    def synchronize(self) -> None: ...


class _Event(Protocol):
    def record(self, stream: _Stream) -> _Event: ...
    def query(self) -> bool: ...


class _Function(Protocol):
    def set_attribute(self, attribute: Any, value: int) -> None: ...
    def __call__(
        self,
        *arguments: Any,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        shared: int,
        stream: _Stream,
    ) -> None: ...


class _Module(Protocol):
    def get_function(self, name: str) -> _Function: ...


class _Context(Protocol):
    def push(self) -> None: ...
    def pop(self) -> None: ...
    def detach(self) -> None: ...


class _Gpu(Protocol):
    def name(self) -> str: ...
    def compute_capability(self) -> tuple[int, int]: ...
    def get_attribute(self, attribute: Any) -> int: ...
    def retain_primary_context(self) -> _Context: ...


class _Allocation(Protocol):
    def __int__(self) -> int: ...


class Driver(Protocol):
    """What is used of the module `pycuda.driver`."""

    Error: type[Exception]
    MemoryError: type[Exception]
    device_attribute: Any
    event_flags: Any
    function_attribute: Any

    def init(self) -> None: ...  # noqa: D102
    def get_driver_version(self) -> int: ...  # noqa: D102
    def Device(self, ordinal: int) -> _Gpu: ...  # noqa: D102, N802
    def Stream(self) -> _Stream: ...  # noqa: D102, N802
    def Event(self, flags: Any) -> _Event: ...  # noqa: D102, N802
    def mem_alloc(self, size: int) -> _Allocation: ...  # noqa: D102
    def pagelocked_empty(self, shape: int, dtype: Any) -> NDArray[np.uint8]: ...  # noqa: D102
    def memcpy_htod_async(self, dest: int, src: Any, stream: _Stream) -> None: ...  # noqa: D102
    def memcpy_dtoh_async(self, dest: Any, src: int, stream: _Stream) -> None: ...  # noqa: D102
    def module_from_buffer(self, buffer: bytes) -> _Module: ...  # noqa: D102


class PycudaDevice:
    """A `Device` that is a GPU. One thread at a time may call it; memory may be freed anywhere."""

    def __init__(self, ordinal: int = 0, *, binary: FatBinary | None = None) -> None:
        """Retain the GPU's primary context and load the kernels.

        Args:
            ordinal: Number of the GPU, as CUDA counts.
            binary: The fat binary; found if None.

        Raises:
            DeviceError: There is no such GPU, or it cannot run the binary.
            BuildError: There is no fat binary.
        """
        self._driver = _load_driver()
        self.ordinal = ordinal
        chosen = binary or find_binary(KERNELS)
        try:
            self._driver.init()
            gpu = self._driver.Device(ordinal)
            self.name, self.capability = gpu.name(), gpu.compute_capability()
            self._context: _Context | None = gpu.retain_primary_context()
        except self._driver.Error as error:
            raise DeviceError(
                f"GPU {ordinal}: expected one that CUDA can use, got: {error}; choose one that "
                "nvidia-smi lists, or serve on a CPU"
            ) from error
        code = chosen.record.code_for(self.capability)
        if code is None:
            codes = ", ".join((*chosen.record.architectures, *chosen.record.virtual))
            raise DeviceError(
                f"GPU {ordinal}: expected one that runs any of {codes}, got {self._described()}; "
                "build with an nvcc that knows it ('fgmclip kernels build'), or serve on a CPU"
            )
        self._functions: dict[str, _Function] = {}
        self._granted: dict[str, int] = {}
        self._copying: deque[tuple[_Event, Pooled[NDArray[np.uint8]]]] = deque()
        with self._current("load the kernels"):
            self._shared_limit = gpu.get_attribute(
                self._driver.device_attribute.MAX_SHARED_MEMORY_PER_BLOCK_OPTIN
            )
            # An ordinary one, which waits for the default stream too: there the stub of Triton's
            # Python backend may still copy an output whose buffer we are about to use again.
            self._stream = self._driver.Stream()
            self._module = self._load(chosen, code)
        self._memory = Pool(self._allocate, int)
        self._staging = Pool(
            lambda size: self._driver.pagelocked_empty(size, np.uint8),
            lambda array: int(array.ctypes.data),
        )

    def empty(self, size: int) -> Memory:
        """Return memory of `size` bytes with no defined content.

        Raises:
            DeviceError: The GPU has no more memory.
        """
        with self._current(f"have {size} bytes"):
            return self._memory.take(size)

    def upload(self, values: NDArray[Any]) -> Memory:
        """Return memory that holds `values`, C-contiguous; launches that follow see them.

        Copied through pinned memory, piece by piece along the first axis, so that the host fills
        one piece while the GPU fetches another. Does not wait for the GPU.
        """
        array = np.atleast_1d(values)
        memory = self.empty(array.nbytes)
        if not array.nbytes:
            return memory
        step = max(1, STAGING // (array.nbytes // len(array)))
        at = memory.address
        with self._current(f"take {array.nbytes} bytes"):
            for first in range(0, len(array), step):
                piece = array[first : first + step]
                staging = self._staging_for(piece.nbytes)
                pinned = staging.value[: piece.nbytes]
                pinned.view(piece.dtype).reshape(piece.shape)[...] = piece
                self._driver.memcpy_htod_async(at, pinned, self._stream)
                event = self._driver.Event(self._driver.event_flags.DISABLE_TIMING)
                self._copying.append((event.record(self._stream), staging))
                at += piece.nbytes
        return memory

    def launch(
        self,
        kernel: str,
        grid: tuple[int, int, int],
        block: int,
        shared: int,
        arguments: Sequence[Argument],
    ) -> None:
        """Queue a kernel behind what was queued before; see `Device.launch`.

        Raises:
            DeviceError: The GPU refused the launch.
            KernelError: It asks for more shared memory than the GPU has, or an argument is none.
        """
        if 0 in grid:
            return
        packed = pack_arguments(arguments)
        with self._current(f"run {kernel}"):
            function = self._function(kernel, shared)
            function(packed, grid=grid, block=(block, 1, 1), shared=shared, stream=self._stream)

    def download(self, memory: Memory, out: NDArray[Any]) -> NDArray[Any]:
        """Fill `out`, C-contiguous, from memory after all that was queued, and return it."""
        with self._current(f"give {out.nbytes} bytes"):
            if out.nbytes:
                self._driver.memcpy_dtoh_async(out, memory.address, self._stream)
            self._stream.synchronize()
        return out

    def synchronize(self) -> None:
        """Wait until all that was queued is done.

        Triton's Python backend reads output tensors on a stream of its own: call this before it.

        Raises:
            DeviceError: Something that was queued failed.
        """
        with self._current("finish what was queued"):
            self._stream.synchronize()
            self._copying.clear()

    def close(self) -> None:
        """Let go of kernels, buffers and the context, and of all memory that was given out.

        To be called in the thread that made the device: pycuda frees in no other.
        """
        if self._context is None:
            return
        with self._current("close"):
            self._stream.synchronize()
            self._copying.clear()
            self._functions.clear()
            del self._memory, self._staging, self._module, self._stream
        # By name: the destructor of pycuda's context does not know a primary one (2026.1).
        self._context.detach()
        self._context = None

    def __enter__(self) -> PycudaDevice:
        """Return the device."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close it."""
        self.close()

    @contextmanager
    def _current(self, purpose: str) -> Iterator[None]:
        """Make the context this thread's for a moment; a CUDA error says what it was for.

        Pushed and popped around each use: what Triton made current stays so for Triton, and
        pycuda aborts the process if a context is still pushed when it ends.
        """
        if self._context is None:
            raise DeviceError(f"GPU {self.ordinal}: expected it to {purpose}, but it was closed")
        self._context.push()
        try:
            yield
        except self._driver.Error as error:
            raise DeviceError(
                f"GPU {self.ordinal}: expected {self._described()} to {purpose}, got: {error}"
            ) from error
        finally:
            self._context.pop()

    def _allocate(self, size: int) -> _Allocation:
        try:
            return self._driver.mem_alloc(size)
        except self._driver.MemoryError:
            # What lies idle may be of the wrong sizes.
            self._memory.clear()
            return self._driver.mem_alloc(size)

    def _staging_for(self, size: int) -> Pooled[NDArray[np.uint8]]:
        """Return pinned memory that no copy reads any more."""
        while self._copying and self._copying[0][0].query():
            self._copying.popleft()
        return self._staging.take(max(size, STAGING))

    def _function(self, kernel: str, shared: int) -> _Function:
        if kernel not in self._functions:
            self._functions[kernel] = self._module.get_function(kernel)
        function = self._functions[kernel]
        if shared > self._granted.get(kernel, DEFAULT_SHARED):
            if shared > self._shared_limit:
                raise KernelError(
                    f"{kernel}: expected at most {self._shared_limit} bytes of shared memory on "
                    f"{self._described()}, got {shared}; ask for smaller tiles"
                )
            attribute = self._driver.function_attribute.MAX_DYNAMIC_SHARED_SIZE_BYTES
            function.set_attribute(attribute, shared)
            self._granted[kernel] = shared
        return function

    def _load(self, binary: FatBinary, code: str) -> _Module:
        try:
            return self._driver.module_from_buffer(binary.read())
        except self._driver.Error as error:
            version = self._driver.get_driver_version()
            raise DeviceError(
                f"{binary.path}: expected the driver to load {code} of nvcc "
                f"{binary.record.compiler} for {self._described()}, got: {error} (the driver is "
                f"of CUDA {version // 1000}.{version % 1000 // 10}); update the driver, or run "
                "'fgmclip kernels build' with an nvcc that is no newer than it"
            ) from error

    def _described(self) -> str:
        major, minor = self.capability
        return f"{self.name} (compute capability {major}.{minor})"


def pack_arguments(arguments: Sequence[Argument]) -> np.void:
    """Return a kernel's arguments as the one block of bytes that `cuLaunchKernel` takes.

    pycuda packs arguments by itself, but gives structures the alignment of a byte. A scalar of
    bytes that has the whole layout passes through it unchanged.

    Raises:
        KernelError: A structure is not laid out as C would lay it out.
    """
    scalars = [
        item if isinstance(item, np.generic) else np.uintp(item.address) for item in arguments
    ]
    layout, size = _parameter_layout(tuple(item.dtype for item in scalars))
    block = np.zeros((), layout)
    for name, item in zip(layout.names or (), scalars, strict=True):
        block[name] = item
    return np.void(block.tobytes()[:size])


@lru_cache(maxsize=64)
def _parameter_layout(dtypes: tuple[np.dtype[Any], ...]) -> tuple[np.dtype[np.void], int]:
    """Return where each parameter lies, and the bytes up to the end of the last one."""
    for dtype in dtypes:
        if dtype.names and not dtype.isalignedstruct:
            raise KernelError(
                f"kernel argument: expected a structure with align=True, got {dtype}; "
                "make its dtype as C lays it out"
            )
    layout = np.dtype([(f"p{index}", dtype) for index, dtype in enumerate(dtypes)], align=True)
    fields = [field[:2] for field in (layout.fields or {}).values()]
    return layout, max((offset + dtype.itemsize for dtype, offset in fields), default=0)


def _load_driver() -> Driver:
    try:
        return cast(Driver, importlib.import_module("pycuda.driver"))
    except ImportError as error:
        raise DeviceError(
            f"pycuda: expected it and NVIDIA's driver, got: {error}; install fgmclip[gpu] on a "
            "machine with a GPU, or serve on a CPU"
        ) from error
