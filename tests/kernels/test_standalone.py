"""The C++ build without Python, here and on Arm: the same bits, and memory that it keeps."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import astuple, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fgmclip.kernels import _native
from fgmclip.kernels.color import Color, constants
from fgmclip.kernels.parameters import FlowParameters, PreprocessParameters
from fgmclip.kernels.preprocess import preprocess, preprocess_u8
from fgmclip.kernels.regions import frame_region
from fgmclip.spec import FlowSpec, preset

CSRC = Path(__file__).resolve().parents[2] / "kernels" / "csrc"
SIZE, MOTION_SIZE = 37, 49
MACHINES = {
    "here": ("g++", []),
    # Debian: g++-aarch64-linux-gnu, qemu-user.
    "aarch64": ("aarch64-linux-gnu-g++", ["qemu-aarch64"]),
}


def compile_with(program: str, compiler: str, out: Path, *options: str) -> None:
    """Compile a program of `standalone/` and the C++ build, for one instruction set."""
    names = ("dispatch", "operations", "plan", "pool", "workspace")
    command = [
        compiler,
        "-O2",
        "-std=gnu++17",
        "-ffp-contract=off",
        "-Wno-psabi",
        "-static",
        "-pthread",
        *options,
        f"-I{CSRC}",
        "-DFGMCLIP_TARGET=operations_portable",
        '-DFGMCLIP_TARGET_NAME="portable"',
        str(Path(__file__).parent / "standalone" / f"{program}.cpp"),
        *(str(CSRC / f"{name}.cpp") for name in names),
        "-o",
        str(out),
    ]
    subprocess.run(command, check=True)


@pytest.fixture(scope="module", params=MACHINES)
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command that runs the C++ build for a machine."""
    compiler, emulator = MACHINES[request.param]
    missing = [name for name in (compiler, *emulator) if shutil.which(name) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not here: not compared on {request.param}")
    out = tmp_path_factory.mktemp(request.param) / "preprocess"
    compile_with("main", compiler, out)
    return [*emulator, str(out)]


@pytest.mark.parametrize("nv12", [False, True])
def test_any_machine_gives_the_same_bits_and_keeps_its_memory(
    program: list[str], nv12: bool
) -> None:
    random = np.random.default_rng(int(nv12))
    base = random.integers(0, 256, (66, 90, 1) if nv12 else (44, 90, 3), dtype=np.uint8)
    frames = np.stack([np.roll(base, 2 * step, axis=1) for step in range(3)])
    color = Color("bt601", "limited")
    region = frame_region(44, 90, SIZE, "letterbox")
    numbers = [3, 44, 90, int(nv12), *astuple(region), MOTION_SIZE, *constants(color)]
    flow = replace(
        FlowParameters.from_spec(FlowSpec()),
        coarsest_side=14,
        finest_level=1,
        iterations=2,
        propagations=2,
        relaxation_iterations=3,
        stiffness=4.0,
        smoothness=8.0,
        gradient=10.0,
        intensity=5.0,
    )
    parameters = replace(
        PreprocessParameters.from_spec(preset("demo")),
        image_size=SIZE,
        motion_size=MOTION_SIZE,
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
        crop="letterbox",
        color_matrix="bt601",
        color_range="limited",
        flow=flow,
    )
    run = subprocess.run(
        [*program, *map(str, numbers)],
        input=frames.tobytes(),
        capture_output=True,
        check=True,
    )
    pixels, motion = preprocess(frames, parameters)
    _, luma = preprocess_u8(frames, parameters)
    assert motion is not None
    assert luma is not None
    found = run.stdout
    for expected in (pixels, luma, motion):
        part: NDArray[np.generic] = np.frombuffer(found[: expected.nbytes], expected.dtype)
        np.testing.assert_array_equal(part.reshape(expected.shape), expected)
        found = found[expected.nbytes :]
    assert found == b""
    assert run.stderr == b"0", "a request like the one before allocated memory"


@pytest.mark.parametrize("level", ["", "-march=x86-64-v3", "-march=x86-64-v4"])
def test_what_memory_held_before_does_not_matter(tmp_path: Path, level: str) -> None:
    if shutil.which("g++") is None:
        pytest.skip("g++ is not here: memory that holds no numbers was not tried")
    name = {"": "portable", "-march=x86-64-v3": "avx2", "-march=x86-64-v4": "avx512"}[level]
    try:
        _native.Kernels(1, name)
    except ValueError:
        pytest.skip(f"this machine has no {name}")
    program = tmp_path / "poison"
    compile_with("poison", "g++", program, *filter(None, [level]))
    run = subprocess.run([str(program)], capture_output=True, check=True, encoding="utf-8")
    assert run.stdout == "", "patch/side of flows that differ"
