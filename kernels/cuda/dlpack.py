"""DLPack capsules, made and read by ctypes: pycuda has none, and Triton passes GPU tensors in them.

The structures are those of dlpack.h 0.8 (`DLManagedTensor`, which Triton's Python backend speaks),
the rules for capsules those of https://dmlc.github.io/dlpack/latest/python_spec.html: a capsule is
called `dltensor` until somebody takes the tensor out of it and renames it. Who takes it calls the
tensor's deleter once; a capsule that nobody took does so itself.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from math import prod
from typing import Any, TypeVar

import numpy as np

from fgmclip.kernels.cuda.device import Memory
from fgmclip.kernels.errors import KernelError

T = TypeVar("T")

_NAME = b"dltensor"


class Place(IntEnum):
    """`DLDeviceType`: the kinds of memory that come here."""

    CPU = 1
    CUDA = 2
    CUDA_HOST = 3


_CODES: dict[tuple[int, int], type[np.generic]] = {
    (1, 8): np.uint8,
    (2, 16): np.float16,
    (2, 32): np.float32,
}
"""`DLDataType`, its code (1 unsigned, 2 float) and bits, of the types that come here."""

_TYPES = {dtype: key for key, dtype in _CODES.items()}


class _DLDevice(ctypes.Structure):
    _fields_ = (("device_type", ctypes.c_int32), ("device_id", ctypes.c_int32))


class _DLDataType(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16))


class _DLTensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", _DLDevice),
        ("ndim", ctypes.c_int32),
        ("dtype", _DLDataType),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


class _DLManagedTensor(ctypes.Structure):
    _fields_ = (
        ("dl_tensor", _DLTensor),
        ("manager_ctx", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
    )


@dataclass(frozen=True, slots=True)
class DeviceTensor:
    """A tensor in C order, in a device's memory.

    Attributes:
        memory: Where it lies; `memory.address` is its first element.
        shape: Its shape.
        dtype: u8, f16 or f32.
        place: Kind of memory.
        ordinal: Number of the GPU; 0 for a CPU.
    """

    memory: Memory
    shape: tuple[int, ...]
    dtype: type[np.generic]
    place: Place = Place.CUDA
    ordinal: int = 0


@dataclass(frozen=True, slots=True)
class BorrowedMemory:
    """Memory of somebody else's tensor.

    Attributes:
        address: First byte of the tensor.
        size: Bytes.
        owner: The capsule, which keeps the memory alive.
    """

    address: int
    size: int
    owner: object


_Callback = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_new_capsule = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, _Callback)(
    ("PyCapsule_New", ctypes.pythonapi)
)
_is_capsule = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_IsValid", ctypes.pythonapi)
)
_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)
# A destructor gets its capsule when no reference is left: as an address, since a `py_object` would
# take a new one.
_is_dying_capsule = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_IsValid", ctypes.pythonapi)
)
_dying_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)
_fetch = ctypes.PYFUNCTYPE(None)(("PyErr_Fetch", ctypes.pythonapi))
_restore = ctypes.PYFUNCTYPE(None, *3 * (ctypes.c_void_p,))(("PyErr_Restore", ctypes.pythonapi))

_pending = [ctypes.c_void_p() for _ in range(3)]
_pending_places = tuple(ctypes.byref(slot) for slot in _pending)

_alive: dict[int, tuple[_DLManagedTensor, Any, Memory]] = {}
"""Tensors that somebody may still read, by the address of their structure."""


def to_capsule(tensor: DeviceTensor) -> object:
    """Return a capsule whose taker keeps the tensor's memory alive for as long as it wants.

    Nothing is ordered by it: the tensor must be complete, or the taker work on the same stream.
    """
    size = prod(tensor.shape)
    code, bits = _TYPES[tensor.dtype]
    shape = (ctypes.c_int64 * len(tensor.shape))(*tensor.shape)
    managed = _DLManagedTensor()
    # "If the tensor is of size zero, then the data pointer should be set to NULL" (dlpack.h).
    managed.dl_tensor.data = tensor.memory.address if size else None
    managed.dl_tensor.device = _DLDevice(tensor.place, tensor.ordinal)
    managed.dl_tensor.ndim = len(tensor.shape)
    managed.dl_tensor.dtype = _DLDataType(code, bits, 1)
    managed.dl_tensor.shape = shape  # strides stay NULL: C order
    managed.deleter = ctypes.cast(_delete, ctypes.c_void_p).value
    address = ctypes.addressof(managed)
    _alive[address] = (managed, shape, tensor.memory)
    return _new_capsule(address, _NAME, _destroy)


def hand_over(tensor: DeviceTensor, take: Callable[[object], T]) -> T:
    """Return what `take` makes of a capsule of the tensor.

    If it fails, the capsule goes while the exception is being handled, not while it is in flight.
    """
    capsule = to_capsule(tensor)
    try:
        return take(capsule)
    except BaseException:
        del capsule
        raise


def from_capsule(capsule: object, name: str) -> DeviceTensor:
    """Return the tensor in a capsule without taking it out: the capsule stays its owner.

    Args:
        capsule: What `to_dlpack` or `__dlpack__` returned; its tensor must be complete.
        name: What the tensor is called in a message.

    Raises:
        KernelError: It is no capsule, or its tensor is none that kernels could read.
    """
    if not _is_capsule(capsule, _NAME):
        raise KernelError(
            f"{name}: expected a DLPack capsule named dltensor, got {capsule!r}; make one with "
            "to_dlpack, and use it once"
        )
    tensor = _DLManagedTensor.from_address(_pointer(capsule, _NAME)).dl_tensor
    dtype = _CODES.get((tensor.dtype.code, tensor.dtype.bits))
    if dtype is None or tensor.dtype.lanes != 1:
        raise KernelError(
            f"{name}: expected u8, f16 or f32, got DLPack type {tensor.dtype.code} of "
            f"{tensor.dtype.bits} bits, {tensor.dtype.lanes} lanes; convert it"
        )
    if tensor.device.device_type not in tuple(Place):
        raise KernelError(
            f"{name}: expected memory of a CPU or of a CUDA GPU, got DLPack device "
            f"{tensor.device.device_type}; copy it"
        )
    shape = tuple(tensor.shape[axis] for axis in range(tensor.ndim))
    strides = tensor.strides and tuple(tensor.strides[axis] for axis in range(tensor.ndim))
    if strides and not _is_compact(shape, strides):
        raise KernelError(
            f"{name}: expected C order, got strides {list(strides)} for {list(shape)}; "
            "make it contiguous"
        )
    memory = BorrowedMemory(
        address=(tensor.data or 0) + tensor.byte_offset,
        size=prod(shape) * np.dtype(dtype).itemsize,
        owner=capsule,
    )
    return DeviceTensor(
        memory, shape, dtype, Place(tensor.device.device_type), tensor.device.device_id
    )


def _is_compact(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    """Say whether elements lie in C order; axes of one element may have any stride."""
    expected = 1
    for length, stride in zip(reversed(shape), reversed(strides), strict=True):
        if length != 1 and stride != expected:
            return 0 in shape
        expected *= length
    return True


def _undisturbed(work: Callable[[int], None]) -> Any:
    """Return `work` as a C function that does its work while an exception is on its way, too.

    A consumer may drop a tensor while an exception unwinds the stack. No call of Python's then
    succeeds before the exception is put aside, so that comes first, with arguments made beforehand.
    ctypes prints the exception afterwards and drops it, as it does with all that a callback raises.
    """

    def callback(address: int) -> None:
        _fetch(*_pending_places)
        exception = [slot.value for slot in _pending]
        try:
            work(address)
        finally:
            _restore(*exception)

    function = _Callback(callback)
    # Consumers may call it after this module is gone, when Python ends.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(function))
    return function


# Both have what they need as defaults: when Python ends, globals go before functions do.
def _delete_tensor(address: int, alive: dict[int, Any] = _alive) -> None:
    # Its memory goes back to where it came from when this last reference is dropped.
    alive.pop(address, None)


def _destroy_capsule(
    capsule: int,
    is_valid: Any = _is_dying_capsule,
    pointer: Any = _dying_pointer,
    delete: Callable[[int], None] = _delete_tensor,
) -> None:
    if is_valid(capsule, _NAME):
        delete(pointer(capsule, _NAME))


_delete = _undisturbed(_delete_tensor)
_destroy = _undisturbed(_destroy_capsule)
