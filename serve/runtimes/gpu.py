"""Which GPU is here, asked of the driver alone: no toolkit, no torch."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

# CUdevice_attribute in cuda.h.
_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76


@dataclass(frozen=True)
class Gpu:
    """A GPU.

    Attributes:
        name: What the driver calls it.
        sm: Compute capability as one number, 89 for 8.9.
    """

    name: str
    sm: int


def find_gpu(ordinal: int = 0) -> Gpu | None:
    """Return a GPU that the driver shows, or None where there is no driver or no such GPU.

    Args:
        ordinal: Number of the GPU, as CUDA counts.
    """
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    device = ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(device), ordinal):
        return None
    name = ctypes.create_string_buffer(256)
    major, minor = ctypes.c_int(), ctypes.c_int()
    driver.cuDeviceGetName(name, len(name), device)
    driver.cuDeviceGetAttribute(ctypes.byref(major), _CAPABILITY_MAJOR, device)
    driver.cuDeviceGetAttribute(ctypes.byref(minor), _CAPABILITY_MINOR, device)
    return Gpu(name.value.decode(errors="replace"), 10 * major.value + minor.value)
