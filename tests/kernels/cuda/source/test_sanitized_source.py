"""The CUDA source under sanitizers: the tests of its operations, and no complaint."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fgmclip.kernels.cuda.host import compiler

HERE = Path(__file__).parent
FLAGS = "-O1 -g1 -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer"

# What the sanitizer must see, or its silence means nothing.
PAST_SHARED = """
import sys
import numpy as np
from pathlib import Path
from fgmclip.kernels.cuda.host import HostDevice
device = HostDevice(source=Path(sys.argv[1]), kernels=("past_shared",), flags=sys.argv[2].split())
device.launch("past_shared", (1, 1, 1), 32, 64, [device.empty(4), np.int32(16)])
"""


def runtime(name: str) -> str:
    """Return a library of the compiler, or skip where it has none."""
    cxx = compiler()
    if cxx is None:
        pytest.skip("NO C++ COMPILER: the CUDA source ran without sanitizers")
    found = subprocess.run(
        [cxx, f"-print-file-name={name}"],
        capture_output=True,
        check=True,
        encoding="utf-8",
    ).stdout.strip()
    if not Path(found).is_absolute():
        pytest.skip(f"NO {name}: the CUDA source ran without sanitizers; install it beside {cxx}")
    return found


def sanitized(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python with the sanitizers' runtime."""
    environment = os.environ | {
        "FGMCLIP_TEST_HOST_FLAGS": FLAGS,
        # Exceptions are intercepted, so their library must be there from the start as well.
        "LD_PRELOAD": " ".join(
            runtime(name) for name in ("libasan.so", "libubsan.so", "libstdc++.so")
        ),
        # Python itself leaks on purpose.
        "ASAN_OPTIONS": "detect_leaks=0",
        "OPENBLAS_NUM_THREADS": "1",
    }
    return subprocess.run(
        [sys.executable, *arguments],
        env=environment,
        capture_output=True,
        check=False,
        encoding="utf-8",
    )


def test_no_sanitizer_complains() -> None:
    done = sanitized(
        "-m",
        "pytest",
        "-q",
        # A sanitizer ends the process with its report, which a captured output would swallow.
        "-s",
        *("-p", "no:cacheprovider"),
        *("-W", "ignore"),
        str(HERE / "test_operations.py"),
        str(HERE / "test_threads.py"),
        *("-k", "not every_barrier"),
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "skipped" not in done.stdout


def test_the_sanitizer_sees_what_lies_past_shared_memory() -> None:
    done = sanitized("-c", PAST_SHARED, str(HERE / "probe.cu"), FLAGS)
    assert done.returncode != 0
    assert "AddressSanitizer: heap-buffer-overflow" in done.stderr
    assert "past_shared" in done.stderr
