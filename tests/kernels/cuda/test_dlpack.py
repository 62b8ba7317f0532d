"""DLPack capsules: other libraries read ours, we read theirs, and memory is freed once."""

from __future__ import annotations

import ctypes
import gc
import subprocess
import sys
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fgmclip.kernels.cuda import dlpack
from fgmclip.kernels.cuda.dlpack import DeviceTensor, Place, from_capsule, to_capsule
from fgmclip.kernels.errors import KernelError

DTYPES = [np.uint8, np.float16, np.float32]
SHAPES = [(), (1,), (7,), (2, 3), (1, 3, 1, 4), (0,), (2, 0, 3)]


class HostMemory:
    """Memory of this process that says when it goes."""

    def __init__(self, array: NDArray[Any]) -> None:
        self.array = array
        self.address = array.ctypes.data
        self.size = array.nbytes


class Producer:
    """What `numpy.from_dlpack` takes: a capsule with methods around it."""

    def __init__(self, capsule: object) -> None:
        self.capsule = capsule

    def __dlpack__(self, **_: object) -> object:
        return self.__dict__.pop("capsule")

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)


def numpy_reads(capsule: object) -> NDArray[Any]:
    return np.from_dlpack(Producer(capsule))


def torch_reads(capsule: object) -> Any:
    return pytest.importorskip("torch").from_dlpack(capsule)


READERS = [numpy_reads, torch_reads]


def values(shape: tuple[int, ...], dtype: type[np.generic]) -> NDArray[Any]:
    return (np.arange(np.prod(shape, dtype=int)) % 251).reshape(shape).astype(dtype)


def tensor_of(array: NDArray[Any]) -> tuple[DeviceTensor, weakref.ref[HostMemory]]:
    memory = HostMemory(array)
    return DeviceTensor(memory, array.shape, array.dtype.type, Place.CPU), weakref.ref(memory)


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_another_library_reads_what_we_wrote(
    read: Callable[[object], Any], dtype: type[np.generic], shape: tuple[int, ...]
) -> None:
    array = values(shape, dtype)
    tensor, _ = tensor_of(array)
    came = read(to_capsule(tensor))
    assert tuple(came.shape) == shape
    np.testing.assert_array_equal(np.asarray(came), array)


@pytest.mark.parametrize("read", READERS)
def test_nothing_is_copied(read: Callable[[object], Any]) -> None:
    array = values((2, 3), np.float32)
    came = read(to_capsule(tensor_of(array)[0]))
    array[1, 2] = 99
    assert came[1, 2] == 99


@pytest.mark.parametrize("read", READERS)
def test_memory_lives_as_long_as_the_tensor_that_was_made_of_it(
    read: Callable[[object], Any],
) -> None:
    tensor, memory = tensor_of(values((4,), np.uint8))
    came = read(to_capsule(tensor))
    del tensor
    part = came[1:]
    del came
    gc.collect()
    assert memory() is not None
    assert part.tolist() == [1, 2, 3]
    del part
    assert memory() is None


def test_a_capsule_that_nobody_took_frees_its_memory() -> None:
    tensor, memory = tensor_of(values((4,), np.uint8))
    capsule = to_capsule(tensor)
    del tensor
    assert memory() is not None
    del capsule
    assert memory() is None


def test_the_deleter_is_called_once_and_a_taken_capsule_does_not_call_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Counted(dict[int, Any]):
        pops = 0

        def pop(self, *arguments: Any) -> Any:
            Counted.pops += 1
            return super().pop(*arguments)

    counted = Counted()
    monkeypatch.setattr(dlpack, "_alive", counted)
    monkeypatch.setattr(dlpack._delete_tensor, "__defaults__", (counted,))
    tensor, memory = tensor_of(values((4,), np.uint8))
    capsule = to_capsule(tensor)
    del tensor
    taken = numpy_reads(capsule)
    del capsule
    assert (Counted.pops, len(counted)) == (0, 1)
    del taken
    assert (Counted.pops, len(counted)) == (1, 0)
    assert memory() is None


def test_two_capsules_of_one_memory_are_freed_one_by_one() -> None:
    tensor, memory = tensor_of(values((4,), np.uint8))
    first, second = numpy_reads(to_capsule(tensor)), numpy_reads(to_capsule(tensor))
    del tensor, first
    assert memory() is not None
    assert second.tolist() == [0, 1, 2, 3]
    del second
    assert memory() is None


def test_memory_is_freed_even_while_an_exception_is_in_flight(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ignored: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: ignored.append(unraisable))
    tensor, memory = tensor_of(values((4,), np.uint8))
    with pytest.raises(Exception, match="without exception"):
        # The call fails, and drops its argument, the only reference, while it does.
        int(to_capsule(tensor))  # type: ignore[call-overload]
    del tensor
    assert memory() is None
    assert len(ignored) == 1


def test_a_tensor_can_be_dropped_by_an_exception() -> None:
    tensor, memory = tensor_of(values((4,), np.uint8))
    capsules = [to_capsule(tensor)]
    del tensor

    def fail() -> None:
        taken = numpy_reads(capsules.pop())
        raise ValueError(f"{taken.sum()}")

    with pytest.raises(ValueError, match="6"):
        fail()
    gc.collect()
    assert memory() is None


def test_python_ends_well_while_somebody_still_reads() -> None:
    script = (
        "import builtins, numpy as np\n"
        "from fgmclip.kernels.cuda.dlpack import *\n"
        "class M:\n"
        "    def __init__(self): self.a = np.arange(4, dtype=np.uint8)\n"
        "    address = property(lambda self: self.a.ctypes.data)\n"
        "    size = 4\n"
        "class P:\n"
        "    def __dlpack__(self, **_): return to_capsule(t)\n"
        "    def __dlpack_device__(self): return (1, 0)\n"
        "t = DeviceTensor(M(), (4,), np.uint8, Place.CPU)\n"
        "builtins.kept = np.from_dlpack(P()); also = np.from_dlpack(P()); loose = to_capsule(t)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        check=False,
        encoding="utf-8",
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_what_another_library_wrote_is_read(
    dtype: type[np.generic], shape: tuple[int, ...]
) -> None:
    array = values(shape, dtype)
    tensor = from_capsule(array.__dlpack__(), "FRAMES")
    assert (tensor.shape, tensor.dtype) == (shape, dtype)
    assert (tensor.place, tensor.ordinal) == (Place.CPU, 0)
    assert tensor.memory.size == array.nbytes
    assert ctypes.string_at(tensor.memory.address, tensor.memory.size) == array.tobytes()


def test_a_borrowed_tensor_is_kept_and_then_freed_by_its_owner() -> None:
    torch = pytest.importorskip("torch")
    base = torch.arange(6, dtype=torch.uint8)
    tensor = from_capsule(torch.utils.dlpack.to_dlpack(base[2:]), "FRAMES")
    assert tensor.memory.address == base.data_ptr() + 2
    storage = weakref.ref(base)
    address = tensor.memory.address
    del base
    gc.collect()
    assert ctypes.string_at(address, 4) == bytes([2, 3, 4, 5])
    del tensor
    assert storage() is None


def test_our_own_capsule_is_read_back_and_not_taken() -> None:
    array = values((2, 3), np.float16)
    tensor, memory = tensor_of(array)
    capsule = to_capsule(tensor)
    back = from_capsule(capsule, "FRAMES")
    assert (back.memory.address, back.shape) == (array.ctypes.data, (2, 3))
    np.testing.assert_array_equal(numpy_reads(capsule), array)
    del tensor, back, capsule
    assert memory() is None


def test_strides_of_axes_with_one_element_do_not_matter() -> None:
    array = values((4, 3), np.uint8)[::2][:1]
    assert from_capsule(array.__dlpack__(), "FRAMES").shape == (1, 3)
    assert from_capsule(np.empty((3, 0, 2), np.uint8).__dlpack__(), "FRAMES").memory.size == 0


def edited(capsule: object, **fields: int) -> object:
    """Return a capsule whose structure was changed in place."""
    managed = dlpack._DLManagedTensor.from_address(dlpack._pointer(capsule, b"dltensor"))
    tensor = managed.dl_tensor
    for name, value in fields.items():
        owner = tensor.device if name.startswith("device") else tensor.dtype
        target = tensor if name == "byte_offset" else owner
        setattr(target, name, value)
    return capsule


def test_an_offset_in_bytes_is_added() -> None:
    array = values((4,), np.uint8)
    capsule = edited(array.__dlpack__(), byte_offset=3)
    assert from_capsule(capsule, "FRAMES").memory.address == array.ctypes.data + 3


def test_a_gpu_tensor_says_which_gpu() -> None:
    memory = HostMemory(values((4,), np.uint8))
    capsule = to_capsule(DeviceTensor(memory, (4,), np.uint8, Place.CUDA, 3))
    tensor = from_capsule(capsule, "FRAMES")
    assert (tensor.place, tensor.ordinal) == (Place.CUDA, 3)


@pytest.mark.parametrize(
    ("capsule", "message"),
    [
        (lambda: values((4, 4), np.uint8)[:, :2].__dlpack__(), r"C order, got strides \[4, 1\]"),
        (lambda: values((4, 4), np.uint8).T.__dlpack__(), r"C order, got strides \[1, 4\]"),
        (lambda: np.zeros(2, np.float64).__dlpack__(), "u8, f16 or f32, got DLPack type 2 of 64"),
        (lambda: edited(values((4,), np.uint8).__dlpack__(), lanes=4), "4 lanes"),
        (lambda: edited(values((4,), np.uint8).__dlpack__(), device_type=10), "device 10"),
        (lambda: "a string", "expected a DLPack capsule"),
    ],
)
def test_a_tensor_that_kernels_could_not_read_is_refused(
    capsule: Callable[[], object], message: str
) -> None:
    with pytest.raises(KernelError, match=message) as caught:
        from_capsule(capsule(), "FRAMES")
    assert str(caught.value).startswith("FRAMES: expected ")


def test_a_taken_capsule_is_refused() -> None:
    capsule = to_capsule(tensor_of(values((4,), np.uint8))[0])
    numpy_reads(capsule)
    with pytest.raises(KernelError, match="use it once"):
        from_capsule(capsule, "FRAMES")
