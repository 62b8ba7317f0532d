"""`fgmclip kernels build`: nvcc makes one fat binary of kernels.cu for every architecture.

Standard library only, because `python -m fgmclip.kernels.cuda.build --out FILE` also runs while a
wheel is built, when nothing else is installed. nvcc comes from a toolkit or from the wheels that
carry one; it needs a host compiler (gcc), but no GPU and no driver.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from fgmclip.kernels.cuda.binary import (
    SOURCE,
    BinaryRecord,
    FatBinary,
    KernelFigures,
    cache_path,
    capability_of,
    read_binary,
    record_path,
    source_hash,
)
from fgmclip.kernels.errors import BuildError
from fgmclip.storage.atomic import ABANDONED_SECONDS, remove_temporaries, write_bytes, write_text
from fgmclip.storage.explain import explain
from fgmclip.storage.plain import make_plain_directory, plain_path

ARCHITECTURES = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120")
"""Machine code: Turing, Ampere (two), Ada, Hopper, Blackwell (two). The oldest and the newest that
an nvcc knows come as PTX too: for GPUs between these, and for later ones."""

FLAGS = ("-O3", "-std=c++17", "--fmad=false")
"""No contraction to fused multiply-adds: a GPU rounds as the CPU builds do."""

WHEELS: dict[str, str] = {
    "nvidia-cuda-nvcc": "bin/cudafe++",
    "nvidia-cuda-crt": "include/crt/host_config.h",
    "nvidia-nvvm": "nvvm/bin/cicc",
    "nvidia-cuda-runtime": "include/cuda_runtime.h",
    "nvidia-cuda-cccl": "include/cccl/nv/target",  # which cuda_fp16.h includes
}
"""Wheels that make up a compiler, and a file by which each is known."""

TOOLKIT = Path("/usr/local/cuda")
"""Where a toolkit installs itself."""

Progress = Callable[[str, int, int], None]
"""Called with what was compiled last, how many architectures are done, and how many there are."""

_COMPILING = re.compile(r"Compiling entry function '(?P<kernel>\w+)' for '(?P<code>sm_\w+)'")
_FIGURES = {
    "stack": re.compile(r"(\d+) bytes stack frame"),
    "spill_stores": re.compile(r"(\d+) bytes spill stores"),
    "spill_loads": re.compile(r"(\d+) bytes spill loads"),
    "registers": re.compile(r"Used (\d+) registers"),
    "barriers": re.compile(r"used (\d+) barriers"),
    "shared": re.compile(r"(\d+) bytes smem"),
}
_SUMMED = ("stack", "spill_stores", "spill_loads")
_ENTRY = re.compile(r"\.entry (?P<kernel>\w+)\(.*?\)(?P<directives>[^{]*)\{", re.DOTALL)
_MAX_THREADS = re.compile(r"\.maxntid (\d+)(?:, (\d+))?(?:, (\d+))?")


@dataclass(frozen=True, slots=True)
class Nvcc:
    """A CUDA compiler that can be run.

    Attributes:
        path: The executable.
        version: For example `13.0.88`.
        codes: Architectures that it makes machine code for.
    """

    path: Path
    version: str
    codes: frozenset[str]


def find_nvcc() -> Nvcc:
    """Return the first usable compiler: `CUDA_HOME`, `CUDA_PATH`, `PATH`, wheels, a toolkit.

    Raises:
        BuildError: There is none; the message says what was found where.
    """
    reasons = []
    for place, path in _candidates():
        if not path.is_file():
            reasons.append(f"{place}: none at {path}")
            continue
        missing = _missing_parts(path)
        if missing:
            reasons.append(f"{place}: {path} without {', '.join(missing)}")
            continue
        try:
            return probe_nvcc(path)
        except BuildError as error:
            reasons.append(f"{place}: {error}")
    raise BuildError(
        f"nvcc: expected a CUDA compiler of version 12 or newer, got none ({'; '.join(reasons)}); "
        f"install a CUDA toolkit, or: pip install {' '.join(WHEELS)}"
    )


def probe_nvcc(path: Path) -> Nvcc:
    """Ask a compiler for its version and architectures.

    Raises:
        BuildError: It does not run, or does not answer as nvcc does.
    """
    found = path if path.is_file() else Path(shutil.which(path) or path)
    found = found.absolute()  # it will run in another folder
    said = _ask(found, "--version")
    version = re.search(r"V(\d+\.\d+\.\d+)", said)
    if version is None:
        raise BuildError(f"{path}: expected an nvcc, got {said.strip()[:80]!r} from --version")
    codes = frozenset(re.findall(r"sm_\d+", _ask(found, "--list-gpu-code")))
    return Nvcc(found, version[1], codes)


def build_binary(
    *,
    source: Path = SOURCE,
    nvcc: Nvcc | None = None,
    out: Path | None = None,
    progress: Progress | None = None,
) -> FatBinary:
    """Compile kernels.cu and put the fat binary and its record into place.

    Args:
        source: The CUDA source.
        nvcc: The compiler; found if None.
        out: The binary's file; in the user's cache if None.
        progress: Told whenever another architecture is done.

    Raises:
        BuildError: There is no compiler or source, or the source does not compile.
    """
    compiler = nvcc or find_nvcc()
    digest = source_hash(source)
    target = (out or cache_path(digest)).absolute()
    architectures = tuple(name for name in ARCHITECTURES if name in compiler.codes)
    if not architectures:
        raise BuildError(
            f"nvcc {compiler.version}: expected one that knows any of {', '.join(ARCHITECTURES)}, "
            f"got {compiler.path} with none of them; install CUDA 12 or newer"
        )
    ends = dict.fromkeys((architectures[0], architectures[-1]))
    virtual = tuple(name.replace("sm", "compute") for name in ends)
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_temporaries(target.parent, abandoned_seconds=ABANDONED_SECONDS)
    with _plain_folder() as folder:
        made = folder / target.name
        log = _compile(
            replace(compiler, path=plain_path(compiler.path, folder / "bin")),
            plain_path(source.absolute(), folder / "source"),
            (architectures, virtual),
            made,
            progress,
        )
        binary = made.read_bytes()
        record = BinaryRecord(
            source_sha256=digest,
            binary_sha256=hashlib.sha256(binary).hexdigest(),
            compiler=compiler.version,
            flags=FLAGS,
            architectures=architectures,
            virtual=virtual,
            left_out=tuple(name for name in ARCHITECTURES if name not in architectures),
            figures=tuple(
                sorted(
                    read_figures(log, read_max_threads(folder)),
                    key=lambda item: (item.kernel, capability_of(item.architecture)),
                )
            ),
        )
    # The binary first: one whose record is another's is refused, and found again once the
    # record has followed.
    write_bytes(target, binary)
    write_text(record_path(target), record.to_json())
    return read_binary(target, source_sha256=digest)


def read_figures(log: str, max_threads: dict[str, int]) -> Iterator[KernelFigures]:
    """Read what `ptxas -v` printed.

    Args:
        log: Its output; each kernel's lines follow the line that names it.
        max_threads: Threads of a block that each kernel was compiled for.
    """
    heads = list(_COMPILING.finditer(log))
    for head, following in zip(heads, [*heads[1:], None], strict=True):
        text = log[head.end() : following.start() if following else None]
        # A function that the kernel calls without inlining it has a line of its own.
        found = {
            name: [int(n) for n in pattern.findall(text)] for name, pattern in _FIGURES.items()
        }
        yield KernelFigures(
            kernel=head["kernel"],
            architecture=head["code"],
            max_threads=max_threads.get(head["kernel"], 0),
            **{
                name: sum(values) if name in _SUMMED else max(values, default=0)
                for name, values in found.items()
            },
        )


def read_max_threads(folder: Path) -> dict[str, int]:
    """Return the `__launch_bounds__` of each kernel, from the PTX that nvcc left in a folder."""
    bounds: dict[str, int] = {}
    for path in folder.glob("*.ptx"):
        for entry in _ENTRY.finditer(path.read_text(encoding="utf-8")):
            directive = _MAX_THREADS.search(entry["directives"])
            if directive is not None:
                x, y, z = (int(value or 1) for value in directive.groups())
                bounds[entry["kernel"]] = x * y * z
    return bounds


@contextmanager
def _plain_folder() -> Iterator[Path]:
    """Give a folder to work in: nvcc puts every path into lines for a shell."""
    folder = make_plain_directory("fgmclip-nvcc-")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _candidates() -> Iterator[tuple[str, Path]]:
    """Yield where a compiler may be, in order of preference, and what to call the place."""
    for variable in ("CUDA_HOME", "CUDA_PATH"):
        if os.environ.get(variable):
            yield variable, Path(os.environ[variable]) / "bin" / "nvcc"
    on_path = shutil.which("nvcc")
    yield ("PATH", Path(on_path)) if on_path else ("PATH", Path("nvcc"))
    for root in wheel_roots():
        for path in sorted(root.glob("cu*/bin/nvcc"), reverse=True):
            yield "wheels", path
    yield "toolkit", TOOLKIT / "bin" / "nvcc"


def wheel_roots() -> list[Path]:
    """Return the folders that NVIDIA's wheels install into."""
    package = importlib.util.find_spec("nvidia")
    return [Path(root) for root in package.submodule_search_locations or ()] if package else []


def _missing_parts(nvcc: Path) -> list[str]:
    """Return the wheels that an nvcc of wheels lacks; a toolkit is one piece."""
    if nvcc.parent.parent.parent.name != "nvidia":
        return []
    root = nvcc.parent.parent
    return [wheel for wheel, file in WHEELS.items() if not (root / file).is_file()]


def _ask(path: Path, option: str) -> str:
    try:
        done = subprocess.run(
            [path, option], capture_output=True, check=True, encoding="utf-8", errors="replace"
        )
    except subprocess.CalledProcessError as error:
        raise BuildError(
            f"{path} {option}: expected an answer, got exit code {error.returncode}; name another "
            "by --nvcc, or install the CUDA toolkit again",
            log=error.stderr,
        ) from error
    except OSError as error:
        raise BuildError(f"{path} {option}: expected an answer, got {explain(error)}") from error
    return done.stdout


def _compile(
    compiler: Nvcc,
    source: Path,
    codes: tuple[tuple[str, ...], tuple[str, ...]],
    made: Path,
    progress: Progress | None,
) -> str:
    """Run nvcc and return what ptxas said; its intermediate files stay beside `made`."""
    architectures, virtual = codes
    options = []
    for name in architectures:
        ptx = name.replace("sm", "compute")
        wanted = f"{name},{ptx}" if ptx in virtual else name
        options.append(f"-gencode=arch={ptx},code=[{wanted}]")
    command: list[str | Path] = [
        compiler.path,
        "-fatbin",
        source,
        *("-o", made),
        *FLAGS,
        *options,
        *("-Xptxas", "-v"),
        *("--threads", "0"),
        *("--keep", "--keep-dir", made.parent),
    ]
    lines: list[str] = []
    done: list[str] = []
    if progress is not None:
        progress("nvcc", 0, len(architectures))
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=made.parent,
        encoding="utf-8",
        errors="replace",
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            head = _COMPILING.search(line)
            if head is not None and head["code"] not in done:
                done.append(head["code"])
                if progress is not None:
                    progress(head["code"], len(done), len(architectures))
    log = "".join(lines)
    if process.returncode != 0:
        errors = [line.strip() for line in lines if re.search(r"\b(error|fatal)\b", line)]
        cause = (errors or lines or ["nothing said"])[0].strip()
        raise BuildError(
            f"nvcc {compiler.version}: expected kernels.cu to compile, got: {cause}; nvcc needs a "
            "host compiler (gcc) that it knows, see the whole output",
            log,
        )
    return log


def main() -> int:
    """Build for a wheel: `--out FILE`, no progress, one line."""
    parser = argparse.ArgumentParser(description="Build the CUDA kernels' fat binary.")
    parser.add_argument("--out", type=Path, required=True, help="The fat binary to write.")
    arguments = parser.parse_args()
    try:
        binary = build_binary(out=arguments.out)
    except BuildError as error:
        print(f"{error.log}error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {explain(error)}", file=sys.stderr)
        return 1
    print(f"{binary.path}: {', '.join((*binary.record.architectures, *binary.record.virtual))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
