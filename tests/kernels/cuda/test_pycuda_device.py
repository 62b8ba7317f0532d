"""`PycudaDevice` on a stand-in for pycuda: order, reuse of memory, arguments, and errors."""

from __future__ import annotations

import ctypes
import gc
import struct
import sys
import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fgmclip.kernels.cuda.abi import FLOW_PARAMETERS, FRAME_LAYOUT
from fgmclip.kernels.cuda.binary import FatBinary
from fgmclip.kernels.cuda.device import Memory
from fgmclip.kernels.cuda.pool import Pool, size_class
from fgmclip.kernels.cuda.pycuda_device import STAGING, PycudaDevice, pack_arguments
from fgmclip.kernels.errors import DeviceError, KernelError

KERNEL = "normalize_f32"


@pytest.fixture
def device(driver: Any, binary: FatBinary) -> PycudaDevice:
    return PycudaDevice(binary=binary)


def content(device: PycudaDevice, memory: Memory, like: NDArray[Any]) -> NDArray[Any]:
    return device.download(memory, np.empty(like.shape, like.dtype))


def fill(device: PycudaDevice, memory: Memory, value: int) -> None:
    """Launch a kernel that fills memory; its body comes from `filling`."""
    device.launch(KERNEL, (1, 1, 1), 32, 0, [memory, np.int64(memory.size), np.int32(value)])


@pytest.fixture
def filling(driver: Any) -> None:
    def body(packed: bytes, *_: object) -> None:
        address, size, value = struct.unpack("<QqI", packed)
        ctypes.memset(address, value, size)

    driver.bodies[KERNEL] = body


@pytest.mark.parametrize(
    "values",
    [
        np.arange(6, dtype=np.uint8).reshape(2, 3),
        np.arange(12, dtype=np.int32).reshape(2, 6)[:, ::2],
        np.arange(24, dtype=np.float32).reshape(2, 3, 4).transpose(2, 0, 1),
        np.float32(3.5).reshape(()),
        np.zeros((0, 3), np.uint8),
        np.zeros(3, FRAME_LAYOUT),
    ],
    ids=["bytes", "strided", "transposed", "scalar", "empty", "records"],
)
def test_what_is_uploaded_lies_there_in_c_order(device: PycudaDevice, values: NDArray[Any]) -> None:
    memory = device.upload(values)
    assert memory.size == values.nbytes
    np.testing.assert_array_equal(content(device, memory, values), values)


def test_an_upload_does_not_wait_and_its_source_may_change_at_once(
    driver: Any, device: PycudaDevice
) -> None:
    values = np.arange(3 * STAGING // 2, dtype=np.uint32).reshape(6, -1)
    expected = values.copy()
    memory = device.upload(values)
    assert "cuStreamSynchronize" not in driver.calls
    values[:] = 0
    np.testing.assert_array_equal(content(device, memory, expected), expected)


def test_pinned_memory_is_reused_only_when_its_copy_is_done(
    driver: Any, device: PycudaDevice
) -> None:
    first, second, third = (np.full(STAGING, value, np.uint8) for value in (1, 2, 3))
    memories = [device.upload(first), device.upload(second)]
    assert driver.calls.count("cuMemHostAlloc") == 2
    # The first copy and its event.
    driver.streams[0].advance(2)
    memories.append(device.upload(third))
    assert driver.calls.count("cuMemHostAlloc") == 2
    for memory, expected in zip(memories, (first, second, third), strict=True):
        np.testing.assert_array_equal(content(device, memory, expected), expected)


def test_kernels_and_copies_run_in_the_order_of_the_calls(
    driver: Any, device: PycudaDevice, filling: None
) -> None:
    values = np.full(300, 7, np.uint8)
    memory = device.upload(values)
    fill(device, memory, 9)
    assert content(device, memory, values).tolist() == [9] * 300
    other = device.empty(300)
    fill(device, other, 5)
    address = other.address
    del other
    again = device.upload(values)
    assert again.address == address
    np.testing.assert_array_equal(content(device, again, values), values)


def test_memory_that_was_dropped_is_given_out_again(driver: Any, device: PycudaDevice) -> None:
    first = device.empty(1000)
    address = first.address
    del first
    assert device.empty(1024).address == address
    assert len(driver.allocated) == 1


def test_memory_may_be_dropped_in_another_thread(driver: Any, device: PycudaDevice) -> None:
    held = [device.empty(5000)]
    address = held[0].address
    thread = threading.Thread(target=held.clear)
    thread.start()
    thread.join()
    assert device.empty(5000).address == address


def test_the_pool_gives_the_best_fit_and_never_one_far_too_large() -> None:
    made: list[int] = []

    def make(size: int) -> int:
        made.append(size)
        return size

    pool: Pool[int] = Pool(make, int)
    loans = [pool.take(size) for size in (4096, 1024, 2048)]
    loans.clear()
    assert pool.take(1000).value == 1024
    held = [pool.take(1800), pool.take(600)]
    assert [loan.value for loan in held] == [2048, 1024]
    # 4096 lies idle, but is more than twice as large.
    assert pool.take(1100).value == 1280
    assert made == [4096, 1024, 2048, 1280]


@given(st.integers(0, 1 << 40))
def test_size_classes_waste_little_and_keep_order(size: int) -> None:
    room = size_class(size)
    assert size <= room <= max(256, size + size // 8 + 256)
    assert size_class(room) == room
    assert room % 256 == 0
    assert size_class(size + 1) >= room


def test_memory_of_no_bytes_can_be_had(device: PycudaDevice) -> None:
    assert device.empty(0).size == 0


class Packed(ctypes.Structure):
    class Layout(ctypes.Structure):
        _fields_ = (
            ("frame_stride", ctypes.c_int64),
            ("row_stride", ctypes.c_int64),
            ("height", ctypes.c_int32),
            ("width", ctypes.c_int32),
            ("nv12", ctypes.c_int32),
        )

    _fields_ = (
        ("first", ctypes.c_int32),
        ("layout", Layout),
        ("flag", ctypes.c_uint8),
        ("pointer", ctypes.c_void_p),
        ("last", ctypes.c_float),
    )


def test_arguments_lie_where_c_puts_them(driver: Any, device: PycudaDevice) -> None:
    layout = np.array([(5, 6, 7, 8, 1)], FRAME_LAYOUT)[0]
    memory = device.empty(64)
    arguments = [np.int32(-1), layout, np.uint8(3), memory, np.float32(1.5)]
    device.launch(KERNEL, (2, 3, 1), 96, 512, arguments)
    (launch,) = driver.launches
    assert (launch.grid, launch.block, launch.shared) == ((2, 3, 1), (96, 1, 1), 512)
    expected = Packed(-1, Packed.Layout(5, 6, 7, 8, 1), 3, memory.address, 1.5)
    last = Packed.last.offset + 4
    came = Packed.from_buffer_copy(launch.packed.ljust(ctypes.sizeof(Packed), b"\0"))
    assert len(launch.packed) == last
    assert [getattr(came.layout, name) for name, _ in Packed.Layout._fields_] == [5, 6, 7, 8, 1]
    for name in ("first", "flag", "pointer", "last"):
        assert getattr(came, name) == getattr(expected, name)


def test_a_structure_of_four_byte_fields_needs_no_padding() -> None:
    flow = np.zeros(1, FLOW_PARAMETERS)[0]
    assert pack_arguments([np.int32(1), flow]).itemsize == 4 + FLOW_PARAMETERS.itemsize


def test_a_structure_that_is_not_laid_out_as_in_c_is_refused() -> None:
    record = np.zeros(1, np.dtype([("a", np.uint8), ("b", np.int64)]))[0]
    with pytest.raises(KernelError, match="expected a structure with align=True"):
        pack_arguments([record])


def test_an_empty_grid_launches_nothing(driver: Any, device: PycudaDevice) -> None:
    device.launch(KERNEL, (4, 0, 1), 32, 0, [])
    assert driver.launches == []


def test_much_shared_memory_is_asked_for_once(driver: Any, device: PycudaDevice) -> None:
    for shared in (1024, 100 * 1024, 64 * 1024, 120 * 1024):
        device.launch(KERNEL, (1, 1, 1), 32, shared, [])
    assert driver.calls.count("cuFuncSetAttribute") == 2
    assert driver.calls.count("cuModuleGetFunction") == 1


def test_more_shared_memory_than_there_is_is_refused(device: PycudaDevice) -> None:
    with pytest.raises(KernelError, match=f"at most {227 * 1024} bytes of shared memory"):
        device.launch(KERNEL, (1, 1, 1), 32, 228 * 1024, [])


def test_no_context_stays_pushed_after_an_error(driver: Any, device: PycudaDevice) -> None:
    with pytest.raises(DeviceError, match="run unknown"):
        device.launch("unknown", (1, 1, 1), 32, 0, [])
    assert driver.contexts == []


def test_a_refused_launch_names_the_kernel(driver: Any, device: PycudaDevice) -> None:
    def fail(*_: object, **__: object) -> None:
        raise driver.LaunchError("cuLaunchKernel failed: launch out of resources")

    device._functions[KERNEL] = fail  # type: ignore[assignment]
    with pytest.raises(DeviceError, match=r"to run normalize_f32, got: .*out of resources"):
        device.launch(KERNEL, (1, 1, 1), 32, 0, [])


def test_a_failure_on_the_gpu_shows_when_it_is_waited_for(
    driver: Any, device: PycudaDevice
) -> None:
    driver.fails_next = driver.LaunchError("cuStreamSynchronize failed: illegal address")
    with pytest.raises(DeviceError, match=r"finish what was queued, got: .*illegal"):
        device.synchronize()
    device.synchronize()


def test_idle_memory_makes_room_before_there_is_too_little(
    driver: Any, device: PycudaDevice
) -> None:
    driver.memory_limit = 10_000
    device.empty(8000)  # dropped at once
    held = device.empty(2000)
    assert held.size == 2000
    with pytest.raises(DeviceError, match=r"to have 9000 bytes, got: .*out of memory"):
        device.empty(9000)


def test_without_pycuda_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycuda.driver", None)
    with pytest.raises(DeviceError, match=r"expected it and NVIDIA's driver.*fgmclip\[gpu\]"):
        PycudaDevice()


def test_without_a_gpu_the_remedy_is_named(driver: Any, binary: FatBinary) -> None:
    driver.gpus = []
    with pytest.raises(DeviceError, match=r"GPU 0: .*no CUDA-capable device.*serve on a CPU"):
        PycudaDevice(binary=binary)


def test_a_gpu_that_is_not_there_is_named(driver: Any, binary: FatBinary) -> None:
    with pytest.raises(DeviceError, match=r"GPU 3: .*invalid device ordinal"):
        PycudaDevice(3, binary=binary)


def test_a_gpu_that_is_too_old_is_refused(driver: Any, binary: FatBinary) -> None:
    driver.gpus = [(7, 0)]
    with pytest.raises(DeviceError, match=r"any of sm_75, .*, got .*7\.0"):
        PycudaDevice(binary=binary)


def test_a_gpu_without_code_for_it_is_refused(driver: Any, binary: FatBinary) -> None:
    driver.gpus = [(12, 0)]
    only = replace(binary, record=replace(binary.record, virtual=()))
    with pytest.raises(DeviceError, match=r"any of sm_75, .*, got .*12\.0"):
        PycudaDevice(binary=only)


def test_a_driver_that_cannot_load_the_code_is_named(driver: Any, binary: FatBinary) -> None:
    driver.load_error = "cuModuleLoadDataEx failed: the provided PTX was compiled with ..."
    driver.driver_version = 12040
    with pytest.raises(DeviceError, match=r"load sm_90 of nvcc 13\.0\.88.*CUDA 12\.4\); update"):
        PycudaDevice(binary=binary)


def test_closing_frees_everything_and_can_be_repeated(driver: Any, binary: FatBinary) -> None:
    with PycudaDevice(binary=binary) as device:
        device.upload(np.zeros(100))
        assert driver.allocated
        assert driver.retained == 1
    gc.collect()
    assert driver.allocated == {}
    assert driver.retained == 0
    device.close()
    with pytest.raises(DeviceError, match="was closed"):
        device.empty(1)


def test_memory_may_be_dropped_after_its_device(driver: Any, binary: FatBinary) -> None:
    device = PycudaDevice(binary=binary)
    memory = device.empty(100)
    device.close()
    assert list(driver.allocated) == [memory.address]
    del memory
    gc.collect()
    assert driver.allocated == {}
