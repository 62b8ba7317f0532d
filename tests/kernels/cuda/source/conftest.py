"""The CUDA source on the host layer."""

from __future__ import annotations

import os

import pytest

from fgmclip.kernels.cuda.host import HostDevice, compiler
from fgmclip.kernels.cuda.host_kernels import HostKernels


@pytest.fixture(scope="session")
def cuda() -> HostKernels:
    """Return the operations of the CUDA source, or skip; test_sanitized_source.py sets flags."""
    if compiler() is None:
        pytest.skip("NO C++ COMPILER: the CUDA source was not run; install g++ or set CXX")
    flags = os.environ.get("FGMCLIP_TEST_HOST_FLAGS", "-O2").split()
    return HostKernels(HostDevice(flags=flags))
