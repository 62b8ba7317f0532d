"""Figures of the kernels: occupancy as in NVIDIA's own header, bytes as the host counts them."""

from __future__ import annotations

import importlib.util
import itertools
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from fgmclip.kernels.cuda.abi import KERNELS, MAX_SHARED
from fgmclip.kernels.cuda.binary import FatBinary, capability_of
from fgmclip.kernels.cuda.build import ARCHITECTURES
from fgmclip.kernels.cuda.host import HostDevice
from fgmclip.kernels.cuda.occupancy import MULTIPROCESSORS, Occupancy, occupancy
from fgmclip.kernels.cuda.report import (
    WORKLOADS,
    Moved,
    Workload,
    compulsory_bytes,
    kernel_rows,
    moved_bytes,
)
from fgmclip.kernels.errors import KernelError
from fgmclip.kernels.parameters import FlowParameters
from fgmclip.spec import FlowSpec

FLOW = FlowParameters.from_spec(FlowSpec())

# What `cudaOccMaxActiveBlocksPerMultiprocessor` says, a line a question on standard input.
PROGRAM = r"""
#include <cstddef>
#include <cstdio>
#include "cuda_occupancy.h"
int main() {
    int major, minor, threads_most, shared_most, reserved, threads, registers, shared, dynamic;
    while (std::scanf("%d %d %d %d %d %d %d %d %d", &major, &minor, &threads_most, &shared_most,
                      &reserved, &threads, &registers, &shared, &dynamic) == 9) {
        cudaOccDeviceProp device;
        device.computeMajor = major;
        device.computeMinor = minor;
        device.maxThreadsPerBlock = 1024;
        device.maxThreadsPerMultiprocessor = threads_most;
        device.regsPerBlock = device.regsPerMultiprocessor = 65536;
        device.warpSize = 32;
        device.sharedMemPerBlock = 49152;
        device.sharedMemPerMultiprocessor = shared_most;
        device.sharedMemPerBlockOptin = shared_most - reserved;
        device.reservedSharedMemPerBlock = reserved;
        device.numSms = 1;
        cudaOccFuncAttributes kernel;
        kernel.maxThreadsPerBlock = 1024;
        kernel.numRegs = registers;
        kernel.sharedSizeBytes = shared;
        kernel.partitionedGCConfig = PARTITIONED_GC_OFF;
        kernel.shmemLimitConfig = FUNC_SHMEM_LIMIT_OPTIN;
        kernel.maxDynamicSharedSizeBytes = dynamic;
        kernel.numBlockBarriers = 1;
        cudaOccDeviceState state;
        cudaOccResult result;
        const auto error = cudaOccMaxActiveBlocksPerMultiprocessor(
            &result, &device, &kernel, &state, threads, dynamic);
        std::printf("%d %d\n", static_cast<int>(error), result.activeBlocksPerMultiprocessor);
    }
}
"""


def header_folder() -> Path:
    """Return the folder of `cuda_occupancy.h`, of a toolkit or of torch's wheels."""
    package = importlib.util.find_spec("nvidia")
    roots = [Path(root) for root in (package.submodule_search_locations or [])] if package else []
    folders = [Path("/usr/local/cuda/include"), *(root / "cu13" / "include" for root in roots)]
    for folder in folders:
        if (folder / "cuda_occupancy.h").is_file():
            return folder
    pytest.skip("no cuda_occupancy.h: neither a CUDA toolkit nor nvidia-cuda-runtime is here")


def test_occupancy_is_what_nvidias_header_says(tmp_path: Path) -> None:
    (tmp_path / "ask.cpp").write_text(PROGRAM, encoding="utf-8")
    command = ["g++", "-w", "-isystem", str(header_folder()), "ask.cpp", "-o", "ask"]
    subprocess.run(command, cwd=tmp_path, check=True)
    questions = [
        (name, threads, registers, shared, dynamic)
        for name, threads, registers, shared, dynamic in itertools.product(
            MULTIPROCESSORS,
            (32, 96, 128, 256, 512, 1000, 1024),
            (8, 24, 32, 33, 48, 64, 65, 96, 128, 255),
            (0, 100, 8192),
            (0, 1, 16384, 40960, 60_000, 99 * 1024 - 8192),
        )
    ]
    lines = []
    for name, *question in questions:
        limits = MULTIPROCESSORS[name]
        device = (*capability_of(name), limits.threads, limits.shared, limits.reserved)
        lines.append(" ".join(map(str, (*device, *question))))
    done = subprocess.run(
        [tmp_path / "ask"],
        input="\n".join(lines),
        capture_output=True,
        check=True,
        encoding="utf-8",
    )
    answers = done.stdout.splitlines()
    assert len(answers) == len(questions) > 1000
    for (name, threads, registers, shared, dynamic), answer in zip(questions, answers, strict=True):
        ours = occupancy(name, threads=threads, registers=registers, shared=shared + dynamic)
        assert f"0 {ours.blocks}" == answer, (name, threads, registers, shared, dynamic)


def test_every_architecture_that_is_built_has_limits() -> None:
    assert tuple(MULTIPROCESSORS) == ARCHITECTURES


@pytest.mark.parametrize(
    ("threads", "registers", "shared", "expected"),
    [
        (256, 32, 0, Occupancy(8, 1.0, ("warps", "registers"))),
        (256, 64, 0, Occupancy(4, 0.5, ("registers",))),
        (256, 32, 40 * 1024, Occupancy(4, 0.5, ("shared memory",))),
        (32, 16, 0, Occupancy(32, 0.5, ("blocks",))),
        (1024, 128, 0, Occupancy(0, 0.0, ("registers",))),
    ],
)
def test_occupancy_says_what_limits_it(
    threads: int, registers: int, shared: int, expected: Occupancy
) -> None:
    assert occupancy("sm_80", threads=threads, registers=registers, shared=shared) == expected


@pytest.fixture(scope="module")
def moved() -> list[Moved]:
    try:
        device = HostDevice()
    except KernelError as error:
        pytest.skip(str(error))
    return list(moved_bytes(device, FLOW))


def test_preprocess_moves_little_more_than_it_must(moved: list[Moved]) -> None:
    """Resize, luma and normalise together; the flow works in memory and is not held to this."""
    ratios = {
        (item.workload, item.kernel): item.ratio
        for item in moved
        if item.kernel.startswith(("preprocess", "normalize", "frame_difference"))
    }
    assert len(ratios) >= len(WORKLOADS) + 4
    assert {name: ratio for name, ratio in ratios.items() if not 1 <= ratio <= 1.2} == {}


def test_every_operation_is_counted_once(moved: list[Moved]) -> None:
    # The service asks for fp32; the others are stages or the same in half precision.
    assert {item.kernel for item in moved} == set(KERNELS) - {"preprocess_f16", "motion_f16"}
    names = [(item.workload, item.kernel) for item in moved]
    assert len(set(names)) == len(names)


def test_what_must_be_moved_is_frames_and_results() -> None:
    square = Workload("square", 448, 448, nv12=False)
    pair, pixels, luma = 2 * 448 * 448, 3 * 224 * 224, 2 * 112 * 112
    assert compulsory_bytes(square, "preprocess_f32") == 3 * pair + 4 * pixels + luma
    assert compulsory_bytes(square, "preprocess_u8") == 3 * pair + pixels + luma
    nv12 = Workload("square", 448, 448, nv12=True)
    # Chroma counts for PIXELS alone, and these are of the later frame.
    chroma = 448 * 448 // 2
    assert compulsory_bytes(nv12, "preprocess_f16") == pair + chroma + 2 * pixels + luma
    assert compulsory_bytes(square, "motion_f16") == luma + 3 * 112 * 112 * 2


def test_a_row_has_what_launches_ask_for(binary: FatBinary) -> None:
    rows = {row.figures.kernel: row for row in kernel_rows(binary.record, FLOW)}
    assert set(rows) == set(KERNELS)
    preprocess = rows["preprocess_f32"]
    assert preprocess.threads == 256
    assert 0 < preprocess.dynamic_shared <= MAX_SHARED
    assert preprocess.occupancy == occupancy(
        "sm_75", threads=256, registers=32, shared=preprocess.dynamic_shared
    )
    assert rows["motion_f32"].threads == 512


def test_an_architecture_of_unknown_limits_has_figures_only(binary: FatBinary) -> None:
    figures = tuple(replace(item, architecture="sm_987") for item in binary.record.figures)
    rows = kernel_rows(replace(binary.record, figures=figures), FLOW)
    assert {row.occupancy for row in rows} == {None}
