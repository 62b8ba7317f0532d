"""A stand-in for `pycuda.driver`: a GPU that works late, in this process's memory.

What is queued on a stream runs when somebody waits for it, or when a test lets it: code that reuses
memory too early gives wrong values here. Every call needs a current context, as in pycuda; argument
types are those that pycuda's `Function.__call__` packs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fgmclip.kernels.cuda.abi import KERNELS
from fgmclip.kernels.cuda.binary import BinaryRecord, FatBinary, KernelFigures

Body = Callable[[bytes, tuple[int, int, int], int, int], None]
"""What a kernel does: packed arguments, grid, threads of a block, bytes of shared memory."""


class Bytes:
    """Some memory of this process."""

    def __init__(self, size: int) -> None:
        self.array = np.empty(size, np.uint8)
        self.address: int = self.array.ctypes.data


class FakeDriver(ModuleType):
    """The module `pycuda.driver`, and the GPUs behind it."""

    def __init__(self) -> None:
        super().__init__("pycuda.driver")
        fake = self
        self.gpus = [(9, 0)]
        self.driver_version = 13000
        self.memory_limit = 1 << 40
        self.load_error: str | None = None
        self.bodies: dict[str, Body] = {}
        self.allocate: Callable[[int], Any] = Bytes
        self.calls: list[str] = []
        self.launches: list[SimpleNamespace] = []
        self.contexts: list[Context] = []
        self.retained = 0
        self.streams: list[Stream] = []
        self.allocated: dict[int, int] = {}
        self.fails_next: Exception | None = None

        class Error(Exception):
            pass

        class LogicError(Error):
            pass

        class RuntimeError(Error):
            pass

        class MemoryError(Error):
            pass

        class LaunchError(Error):
            pass

        def current(call: str) -> None:
            fake.calls.append(call)
            if not fake.contexts:
                raise LogicError(f"{call} failed: no currently active context?")

        class Context:
            def push(self) -> None:
                fake.contexts.append(self)

            @staticmethod
            def pop() -> None:
                fake.contexts.pop()

            def detach(self) -> None:
                assert fake.contexts == []
                fake.retained -= 1

        class Device:
            def __init__(self, ordinal: int) -> None:
                if not 0 <= ordinal < len(fake.gpus):
                    raise LogicError("cuDeviceGet failed: invalid device ordinal")
                self.capability = fake.gpus[ordinal]

            def name(self) -> str:
                return "Fake GPU"

            def compute_capability(self) -> tuple[int, int]:
                return self.capability

            def get_attribute(self, attribute: str) -> int:
                return {"optin": 227 * 1024}[attribute]

            def retain_primary_context(self) -> Context:
                fake.retained += 1
                return Context()

        class Stream:
            def __init__(self) -> None:
                current("cuStreamCreate")
                self.queue: list[Callable[[], None]] = []
                fake.streams.append(self)

            def advance(self, count: int) -> None:
                for _ in range(count):
                    self.queue.pop(0)()

            def synchronize(self) -> None:
                current("cuStreamSynchronize")
                self.advance(len(self.queue))
                if fake.fails_next is not None:
                    error, fake.fails_next = fake.fails_next, None
                    raise error

        class Event:
            def __init__(self, flags: str) -> None:
                assert flags == "no timing"
                self.done = False

            def record(self, stream: Stream) -> Event:
                current("cuEventRecord")
                stream.queue.append(lambda: setattr(self, "done", True))
                return self

            def query(self) -> bool:
                current("cuEventQuery")
                return self.done

        class DeviceAllocation:
            def __init__(self, size: int) -> None:
                self.memory = fake.allocate(size)
                self.address: int = self.memory.address
                memory_at(self.address, size)[:] = 0xCD
                fake.allocated[self.address] = size

            def __int__(self) -> int:
                return self.address

            def __del__(self) -> None:
                del fake.allocated[self.address]

        class Function:
            def __init__(self, name: str) -> None:
                self.kernel = name
                self.shared = 48 * 1024

            def set_attribute(self, attribute: str, value: int) -> None:
                current("cuFuncSetAttribute")
                assert attribute == "max dynamic"
                self.shared = value

            def __call__(
                self,
                *arguments: Any,
                grid: tuple[int, int, int],
                block: tuple[int, int, int],
                shared: int,
                stream: Stream,
            ) -> None:
                current("cuLaunchKernel")
                if shared > self.shared or 0 in grid:
                    raise LogicError("cuLaunchKernel failed: invalid argument")
                packed = b""
                for argument in arguments:
                    # pycuda knows more kinds; these two are what numpy scalars are to it.
                    assert isinstance(argument, np.void | np.number)
                    packed += argument.tobytes()
                launch = SimpleNamespace(
                    kernel=self.kernel, packed=packed, grid=grid, block=block, shared=shared
                )
                fake.launches.append(launch)
                body = fake.bodies.get(self.kernel)
                if body is not None:
                    stream.queue.append(lambda: body(packed, grid, block[0], shared))

        class Module:
            def get_function(self, name: str) -> Function:
                current("cuModuleGetFunction")
                if name not in KERNELS:
                    raise LogicError("cuModuleGetFunction failed: named symbol not found")
                return Function(name)

        def mem_alloc(size: int) -> DeviceAllocation:
            current("cuMemAlloc")
            if size == 0:
                raise LogicError("cuMemAlloc failed: invalid argument")
            if sum(fake.allocated.values()) + size > fake.memory_limit:
                raise MemoryError("cuMemAlloc failed: out of memory")
            return DeviceAllocation(size)

        def module_from_buffer(buffer: bytes) -> Module:
            current("cuModuleLoadDataEx")
            if fake.load_error is not None:
                raise RuntimeError(fake.load_error)
            assert buffer == b"a fat binary"
            return Module()

        def init() -> None:
            if not fake.gpus:
                raise RuntimeError("cuInit failed: no CUDA-capable device is detected")

        def pagelocked_empty(shape: int, dtype: Any) -> NDArray[np.uint8]:
            current("cuMemHostAlloc")
            return np.empty(shape, dtype)

        def memcpy_htod_async(dest: int, src: Any, stream: Stream) -> None:
            current("cuMemcpyHtoDAsync")
            source = np.frombuffer(src, np.uint8)
            stream.queue.append(lambda: np.copyto(memory_at(dest, source.size), source))

        def memcpy_dtoh_async(dest: NDArray[Any], src: int, stream: Stream) -> None:
            current("cuMemcpyDtoHAsync")
            assert dest.flags.c_contiguous
            target = dest.reshape(-1).view(np.uint8)
            stream.queue.append(lambda: np.copyto(target, memory_at(src, target.size)))

        def get_driver_version() -> int:
            return fake.driver_version

        self.Error, self.LogicError, self.RuntimeError = Error, LogicError, RuntimeError
        self.MemoryError, self.LaunchError = MemoryError, LaunchError
        self.Device, self.Stream, self.Event = Device, Stream, Event
        self.device_attribute = SimpleNamespace(MAX_SHARED_MEMORY_PER_BLOCK_OPTIN="optin")
        self.function_attribute = SimpleNamespace(MAX_DYNAMIC_SHARED_SIZE_BYTES="max dynamic")
        self.event_flags = SimpleNamespace(DISABLE_TIMING="no timing")
        for function in (
            *(mem_alloc, module_from_buffer, init, pagelocked_empty),
            *(memcpy_htod_async, memcpy_dtoh_async, get_driver_version),
        ):
            setattr(self, function.__name__, function)


def memory_at(address: int, size: int) -> NDArray[np.uint8]:
    """Return bytes of this process, which are the fake GPU's too."""
    interface = {"data": (address, False), "shape": (size,), "typestr": "|u1", "version": 3}
    return np.asarray(SimpleNamespace(__array_interface__=interface))


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Put the stand-in where `import pycuda.driver` finds it."""
    fake = FakeDriver()
    monkeypatch.setitem(sys.modules, "pycuda", ModuleType("pycuda"))
    monkeypatch.setitem(sys.modules, "pycuda.driver", fake)
    yield fake
    # pycuda aborts the process if a context is still pushed when it ends.
    assert fake.contexts == []


@pytest.fixture
def binary(tmp_path: Path) -> FatBinary:
    """Return a fat binary that the stand-in loads."""
    path = tmp_path / "kernels.fatbin"
    path.write_bytes(b"a fat binary")
    figures = tuple(KernelFigures(name, "sm_75", 32, 0, 0, 0, 0, 1, 256) for name in KERNELS)
    record = BinaryRecord(
        source_sha256="0" * 64,
        binary_sha256="0" * 64,
        compiler="13.0.88",
        flags=(),
        architectures=("sm_75", "sm_80", "sm_86", "sm_90"),
        virtual=("compute_75", "compute_90"),
        left_out=(),
        figures=figures,
    )
    return FatBinary(path, record)
