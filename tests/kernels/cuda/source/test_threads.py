"""The order of threads changes nothing, and every barrier is needed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from fgmclip.kernels.color import Color
from fgmclip.kernels.cuda.host_kernels import HostKernels
from fgmclip.kernels.errors import KernelError
from fgmclip.kernels.parameters import FlowParameters
from fgmclip.kernels.regions import frame_region
from fgmclip.spec import FlowSpec

FLOW = FlowParameters.from_spec(FlowSpec())
SEEDS = (1, 2, 3, 4)

Result = NDArray[np.generic]


def pictures(*shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(7).integers(0, 256, shape, dtype=np.uint8)


def preprocessed(cuda: HostKernels, layout: str) -> list[Result]:
    """Return PIXELS_U8 and LUMA_U8 of several tiles, each with several chunks."""
    shape = (2, 90, 120, 3) if layout == "RGB" else (2, 135, 120, 1)
    region = frame_region(90, 120, 70, "center")
    pixels, luma = cuda.preprocess_u8(pictures(*shape), [[region]], 33, Color("bt601", "full"))
    assert luma is not None
    return [pixels, luma]


def flow(cuda: HostKernels, parameters: FlowParameters) -> list[Result]:
    """Return the flow of noise, whose patches find something new in every round."""
    return [cuda.optical_flow(pictures(1, 2, 44, 44), parameters)]


WORK: dict[str, Callable[[HostKernels], list[Result]]] = {
    "RGB": lambda cuda: preprocessed(cuda, "RGB"),
    "NV12": lambda cuda: preprocessed(cuda, "NV12"),
    "flow": lambda cuda: flow(cuda, replace(FLOW, finest_level=0)),
    "flow without refinement": lambda cuda: flow(
        cuda, replace(FLOW, finest_level=1, refinement_iterations=0)
    ),
    "flow with wide patches": lambda cuda: flow(
        cuda, replace(FLOW, patch_size=12, patch_stride=6, refinement_iterations=2)
    ),
}


@pytest.fixture
def shuffled(cuda: HostKernels) -> Iterator[HostKernels]:
    yield cuda
    cuda.device.seed = 0


@pytest.mark.parametrize("name", WORK)
def test_any_order_of_threads_gives_the_same_bits(shuffled: HostKernels, name: str) -> None:
    expected = WORK[name](shuffled)
    for shuffled.device.seed in SEEDS:
        for one, other in zip(WORK[name](shuffled), expected, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.usefixtures("cuda")
def test_every_barrier_is_needed() -> None:
    """Without any one of them, some order of threads changes a result.

    It may also write anywhere: this file, run as a script, does it in a process for each barrier.
    """
    done = subprocess.run(
        [sys.executable, __file__],
        capture_output=True,
        check=True,
        timeout=120,
        encoding="utf-8",
    )
    missed = json.loads(done.stdout)
    # Fewer would mean that the work above does not reach them.
    assert len(missed) >= 15
    assert [place for place in missed if not missed[place]] == []


def drop_every_barrier() -> dict[str, bool]:
    """Return the barriers that the work meets, and whether it is not the same without each."""
    cuda = HostKernels()
    expected = {name: work(cuda) for name, work in WORK.items()}
    missed = {}
    for place in cuda.device.barriers():
        child = os.fork()
        if child == 0:
            signal.alarm(10)
            os._exit(drop_barrier(cuda, place, expected))
        missed[place] = os.waitpid(child, 0)[1] != 0
    return missed


def drop_barrier(cuda: HostKernels, place: str, expected: dict[str, list[Result]]) -> int:
    """Return 0 if all work comes out the same without a barrier, in several orders of threads."""
    cuda.device.drop_barrier(place)
    for cuda.device.seed in SEEDS:
        for name, work in WORK.items():
            try:
                results = work(cuda)
            except KernelError:
                return 1
            for one, other in zip(results, expected[name], strict=True):
                if not np.array_equal(one, other, equal_nan=True):
                    return 1
    return 0


if __name__ == "__main__":
    print(json.dumps(drop_every_barrier()))
