"""nvcc takes the source for every architecture, and no thread spills a register."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from fgmclip.kernels.cuda.abi import KERNELS
from fgmclip.kernels.cuda.binary import SOURCE
from fgmclip.kernels.cuda.build import ARCHITECTURES, FLAGS, find_nvcc
from fgmclip.kernels.errors import BuildError


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return what ptxas says of all kernels on all architectures."""
    try:
        nvcc = find_nvcc()
    except BuildError as error:
        pytest.skip(f"NO NVCC: the CUDA source was not compiled for any GPU ({error})")
    codes = [f"-gencode=arch={name.replace('sm', 'compute')},code={name}" for name in ARCHITECTURES]
    binary: Path = tmp_path_factory.mktemp("ptxas") / "kernels.fatbin"
    files: list[str | Path] = [nvcc.path, "-fatbin", SOURCE, "-o", binary]
    done = subprocess.run(
        [*files, *FLAGS, *codes, "-Xptxas", "-v", "--threads", "2", "-Werror", "all-warnings"],
        capture_output=True,
        check=False,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_every_kernel_is_there_for_every_architecture(log: str) -> None:
    compiled = set(re.findall(r"Compiling entry function '(\w+)' for '(sm_\w+)'", log))
    assert compiled == {(kernel, name) for kernel in KERNELS for name in ARCHITECTURES}


def test_nothing_is_spilled_or_kept_in_local_memory(log: str) -> None:
    # Of kernels and of the functions that they call.
    spills = re.findall(
        r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", log
    )
    assert len(spills) >= len(KERNELS) * len(ARCHITECTURES)
    assert set(spills) == {("0", "0", "0")}


def test_a_block_of_each_kernel_fits_on_a_multiprocessor(log: str) -> None:
    kernels = re.findall(
        r"Compiling entry function '(\w+)' for.*?Used (\d+) registers", log, re.DOTALL
    )
    threads = {"optical_flow": 512, "motion": 512}
    for kernel, registers in kernels:
        assert int(registers) * threads.get(kernel.rsplit("_", 1)[0], 256) <= 65536
