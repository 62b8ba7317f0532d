"""A `Device` that runs the CUDA source on this machine's CPU: for tests, and to count bytes.

csrc/host_cuda/ is what makes a CPU of it. The library is compiled where it is first needed and kept
in the user's cache; a checkout has the sources, an installed wheel has not.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgmclip.kernels.cuda.abi import KERNELS
from fgmclip.kernels.cuda.device import Argument
from fgmclip.kernels.errors import KernelError
from fgmclip.storage.atomic import ABANDONED_SECONDS, remove_temporaries, replacing
from fgmclip.storage.cache import cache_folder

SOURCES = Path(__file__).resolve().parent.parent / "csrc"

_FLAGS = (
    "-std=c++17",
    "-fPIC",
    "-shared",
    # A product and a sum are rounded one by one, as nvcc compiles with --fmad=false.
    "-ffp-contract=off",
    "-fno-strict-aliasing",
    "-DFGMCLIP_HOST",
)


class HostMemory:
    """Bytes that kernels may read and write.

    Attributes:
        address: First byte.
        size: Bytes.
    """

    def __init__(self, library: ctypes.CDLL, size: int) -> None:
        """Take `size` bytes with no defined content."""
        address = library.fgmclip_host_allocate(size)
        if address is None:
            raise MemoryError(f"no memory of {size} bytes")
        self.address: int = address
        self.size = size
        weakref.finalize(self, library.fgmclip_host_free, address)

    def read(self, dtype: Any, shape: Sequence[int]) -> NDArray[Any]:
        """Return a copy of the first bytes as an array."""
        values: NDArray[Any] = np.empty(shape, dtype)
        if values.nbytes > self.size:
            raise KernelError(f"memory: expected at least {values.nbytes} bytes, got {self.size}")
        ctypes.memmove(values.ctypes.data, self.address, values.nbytes)
        return values


@dataclass(frozen=True, slots=True)
class HostPart:
    """Bytes of a larger memory, from some byte on.

    Attributes:
        whole: The memory.
        offset: The first byte.
    """

    whole: HostMemory
    offset: int

    @property
    def address(self) -> int:
        """First byte."""
        return self.whole.address + self.offset

    @property
    def size(self) -> int:
        """Bytes."""
        return self.whole.size - self.offset


@dataclass(frozen=True, slots=True)
class Traffic:
    """What a launch moved between the kernel and global memory.

    Attributes:
        kernel: Which kernel.
        loaded: Bytes that its threads loaded.
        stored: Bytes that they stored.
    """

    kernel: str
    loaded: int
    stored: int

    @property
    def moved(self) -> int:
        """Both together, bytes."""
        return self.loaded + self.stored


class HostDevice:
    """The kernels on this CPU, one thread after the other.

    Attributes:
        seed: Order of the threads between barriers; 0 for the order of their numbers.
        traffic: What each launch moved.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        source: Path = SOURCES / "cuda" / "kernels.cu",
        kernels: Sequence[str] = KERNELS,
        flags: Sequence[str] = ("-O2",),
    ) -> None:
        """Compile a CUDA source, or load what was compiled of it before.

        Args:
            seed: Order of the threads between barriers; 0 for the order of their numbers.
            source: The CUDA source.
            kernels: Its kernels.
            flags: Of the compiler.

        Raises:
            KernelError: There is no source or no compiler, or it fails.
        """
        self._library = _load(_compile(source, tuple(kernels), tuple(flags)))
        self.seed = seed
        self.traffic: list[Traffic] = []

    def empty(self, size: int) -> HostMemory:
        """Return memory of `size` bytes with no defined content."""
        return HostMemory(self._library, size)

    def upload(self, values: NDArray[Any]) -> HostMemory:
        """Return memory that holds `values`, C-contiguous."""
        values = np.ascontiguousarray(values)
        memory = self.empty(values.nbytes)
        ctypes.memmove(memory.address, values.ctypes.data, values.nbytes)
        return memory

    def launch(
        self,
        kernel: str,
        grid: tuple[int, int, int],
        block: int,
        shared: int,
        arguments: Sequence[Argument],
    ) -> None:
        """Run a kernel; see `fgmclip.kernels.cuda.device.Device`.

        Raises:
            KernelError: Threads part at a barrier, or an access is out of bounds or not aligned.
        """
        values = [
            argument if isinstance(argument, np.generic) else np.uint64(argument.address)
            for argument in arguments
        ]
        buffers = [ctypes.create_string_buffer(value.tobytes()) for value in values]
        pointers = (ctypes.c_void_p * len(buffers))(*map(ctypes.addressof, buffers))
        counts = (ctypes.c_int64 * 2)()
        error = self._library.fgmclip_host_launch(
            kernel.encode(),
            (ctypes.c_uint * 3)(*grid),
            block,
            shared,
            self.seed,
            pointers,
            counts,
        )
        if error is not None:
            raise KernelError(f"{kernel} on the host: {error.decode()}")
        self.traffic.append(Traffic(kernel, counts[0], counts[1]))

    def barriers(self) -> list[str]:
        """Return where the barriers are that launches met: file:line."""
        names: bytes = self._library.fgmclip_host_barriers()
        return names.decode().split()

    def drop_barrier(self, place: str) -> None:
        """Leave out the barrier at `place` from now on; an empty one leaves out none."""
        self._library.fgmclip_host_drop_barrier(place.encode())


def compiler() -> str | None:
    """Return the C++ compiler of this machine: $CXX, or the usual names."""
    names = (os.environ.get("CXX", ""), "g++", "c++", "clang++")
    return next((path for name in names if name and (path := shutil.which(name))), None)


def _compile(source: Path, kernels: tuple[str, ...], flags: tuple[str, ...]) -> Path:
    """Return the library of a CUDA source, compiled before or now."""
    run = SOURCES / "host_cuda" / "run.cpp"
    if not source.is_file() or not run.is_file():
        raise KernelError(
            f"CUDA source: expected {source} and {run}, got none; run from a checkout of fgmclip"
        )
    cxx = compiler()
    if cxx is None:
        raise KernelError(
            "C++ compiler: expected one to run the CUDA source on a CPU, got none; "
            "install g++ or set CXX"
        )
    command = [
        cxx,
        *_FLAGS,
        *flags,
        # By its folder: a path may hold what ends a string.
        *(f"-I{source.parent}", f"-DFGMCLIP_SOURCE=<{source.name}>"),
        "-DFGMCLIP_KERNELS=" + " ".join(f"X({name})" for name in kernels),
        str(run),
    ]
    digest = hashlib.sha256("\0".join(command).encode())
    for folder in (source.parent, SOURCES / "cuda", SOURCES / "host_cuda"):
        for path in sorted(folder.glob("*.*")):
            digest.update(path.read_bytes())
    cache = cache_folder("host_cuda")
    library = cache / f"{digest.hexdigest()[:24]}.so"
    if library.is_file():
        return library
    cache.mkdir(parents=True, exist_ok=True)
    remove_temporaries(cache, abandoned_seconds=ABANDONED_SECONDS)
    # At once whole, also where two processes compile it.
    with replacing(library) as made:
        result = subprocess.run(
            [*command, "-o", str(made)], capture_output=True, encoding="utf-8", errors="replace"
        )
        if result.returncode:
            raise KernelError(
                f"C++ compiler: expected {cxx} to compile {source}, got:\n{result.stderr.strip()}"
            )
    return library


def _load(path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    library.fgmclip_host_allocate.argtypes = [ctypes.c_size_t]
    library.fgmclip_host_allocate.restype = ctypes.c_void_p
    library.fgmclip_host_free.argtypes = [ctypes.c_void_p]
    library.fgmclip_host_free.restype = None
    library.fgmclip_host_launch.argtypes = [
        ctypes.c_char_p,
        ctypes.POINTER(ctypes.c_uint),
        ctypes.c_uint,
        ctypes.c_size_t,
        ctypes.c_uint64,
        ctypes.POINTER(ctypes.c_void_p),
        ctypes.POINTER(ctypes.c_int64),
    ]
    library.fgmclip_host_launch.restype = ctypes.c_char_p
    library.fgmclip_host_drop_barrier.argtypes = [ctypes.c_char_p]
    library.fgmclip_host_drop_barrier.restype = None
    library.fgmclip_host_barriers.restype = ctypes.c_char_p
    return library
