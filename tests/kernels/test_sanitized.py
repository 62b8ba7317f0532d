"""The C++ build under sanitizers: its own tests, hypothesis included, and no complaint."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nanobind
import pytest

CSRC = Path(__file__).resolve().parents[2] / "kernels" / "csrc"
COMPILER = shutil.which("g++")
X86 = platform.machine() in ("x86_64", "AMD64")
INSTRUCTION_SETS: dict[str, list[str]] = {"portable": []} | (
    {"avx2": ["-march=x86-64-v3"], "avx512": ["-march=x86-64-v4"]} if X86 else {}
)

# Every test of the build, in a process whose `_native` is the instrumented one.
RUN = """
import importlib.util, sys
import pytest
spec = importlib.util.spec_from_file_location("fgmclip.kernels._native", sys.argv[1])
module = importlib.util.module_from_spec(spec)
sys.modules["fgmclip.kernels._native"] = module
spec.loader.exec_module(module)
import fgmclip.kernels
fgmclip.kernels._native = module
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "-W", "ignore", *sys.argv[2:]]))
"""


def runtime(name: str) -> Path | None:
    """Return a sanitizer's runtime, or None where the compiler has none."""
    found = subprocess.run(
        ["g++", f"-print-file-name={name}"],
        capture_output=True,
        check=True,
        encoding="utf-8",
    )
    path = Path(found.stdout.strip())
    return path if path.is_absolute() and path.exists() else None


def build(folder: Path, sanitizer: str) -> Path:
    """Compile the module with a sanitizer, every instruction set in it, and return its file."""
    flags = [
        f"-fsanitize={sanitizer}",
        "-fno-sanitize-recover=all",
        "-fno-omit-frame-pointer",
        "-O1",
        "-g1",
        "-std=gnu++17",
        "-fPIC",
        "-ffp-contract=off",
        "-Wno-psabi",
        "-fvisibility=hidden",
        *(["-DFGMCLIP_X86"] if X86 else []),
        "-DNDEBUG",
        *(
            f"-I{path}"
            for path in (
                CSRC,
                nanobind.include_dir(),
                Path(nanobind.include_dir()).parent / "ext/robin_map/include",
                sysconfig.get_paths()["include"],
            )
        ),
    ]
    sources = [
        *((path, []) for path in CSRC.glob("*.cpp") if path.stem != "operations"),
        (Path(nanobind.source_dir()) / "nb_combined.cpp", []),
        *(
            (
                CSRC / "operations.cpp",
                [
                    f"-DFGMCLIP_TARGET=operations_{name}",
                    f'-DFGMCLIP_TARGET_NAME="{name}"',
                    *options,
                ],
            )
            for name, options in INSTRUCTION_SETS.items()
        ),
    ]

    def compile_one(job: tuple[int, tuple[Path, list[str]]]) -> str:
        number, (source, options) = job
        target = folder / f"{source.stem}{number}.o"
        command = [str(COMPILER), *flags, *options, "-c", str(source), "-o", str(target)]
        subprocess.run(command, check=True)
        return str(target)

    with ThreadPoolExecutor(2) as pool:
        objects = list(pool.map(compile_one, enumerate(sources)))
    module = folder / "_native.so"
    subprocess.run(
        [str(COMPILER), f"-fsanitize={sanitizer}", "-shared", *objects, "-o", str(module)],
        check=True,
    )
    return module


@pytest.mark.skipif(COMPILER is None, reason="no g++ here: the C++ build ran without sanitizers")
@pytest.mark.parametrize(
    ("sanitizer", "library", "tests"),
    [
        # A forked child is not what is under test, and sanitizers do not follow it.
        ("address,undefined", "libasan.so", "not forked"),
        ("thread", "libtsan.so", "threads or tracks"),
    ],
)
def test_no_sanitizer_complains(tmp_path: Path, sanitizer: str, library: str, tests: str) -> None:
    preload = runtime(library)
    if preload is None:
        pytest.skip(f"{library} is not installed: the C++ build ran without it")
    module = build(tmp_path, sanitizer)
    environment = os.environ | {
        # Exceptions are intercepted, so their library must be there from the start as well.
        "LD_PRELOAD": f"{preload} {runtime('libstdc++.so')}",
        # Python itself leaks on purpose.
        "ASAN_OPTIONS": "detect_leaks=0",
        "TSAN_OPTIONS": "report_signal_unsafe=0",
        "OPENBLAS_NUM_THREADS": "1",
    }
    run = subprocess.run(
        [
            sys.executable,
            "-c",
            RUN,
            str(module),
            # A sanitizer ends the process with its report, which a captured output would swallow.
            "-s",
            str(Path(__file__).with_name("test_native.py")),
            "-k",
            tests,
        ],
        env=environment,
        capture_output=True,
        check=False,
        encoding="utf-8",
    )
    assert run.returncode == 0, (run.stdout + run.stderr)[-6000:]
    assert "passed" in run.stdout
