"""Where the fat binary of the CUDA kernels lies, and what makes it one that can be trusted.

Two places, in this order: beside this module, where a release and a wheel carry it, and the user's
cache, where `fgmclip kernels build` puts it under the hash of its source. A record beside the
binary says what it was made from; a server needs neither nvcc nor the source.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fgmclip.kernels.errors import BuildError
from fgmclip.storage.cache import cache_folder

FORMAT = 1
"""Of the record; another one is not read."""

NAME = "kernels.fatbin"
RECORD_SUFFIX = ".json"
SOURCE = Path(__file__).resolve().parent.parent / "csrc" / "cuda" / "kernels.cu"
CACHE_VARIABLE = "FGMCLIP_CUDA_CACHE"
"""Environment variable: folder for built binaries, instead of the user's cache."""


@dataclass(frozen=True, slots=True)
class KernelFigures:
    """What ptxas says of one kernel on one architecture.

    Attributes:
        kernel: Its name in the source.
        architecture: For example `sm_90`.
        registers: Of a thread.
        spill_stores: Bytes of a thread that registers were too few for, written.
        spill_loads: The same, read.
        stack: Bytes of a thread's stack frame.
        shared: Static shared memory of a block, bytes.
        barriers: Named barriers of a block.
        max_threads: Threads of a block that it was compiled for (`__launch_bounds__`); 0 if unsaid.
    """

    kernel: str
    architecture: str
    registers: int
    spill_stores: int
    spill_loads: int
    stack: int
    shared: int
    barriers: int
    max_threads: int


@dataclass(frozen=True, slots=True)
class BinaryRecord:
    """What a fat binary was made from and holds.

    Attributes:
        source_sha256: Of the source, `source_hash`.
        binary_sha256: Of the fat binary itself.
        compiler: Version of nvcc, for example `13.0.88`.
        flags: What nvcc was told about the code, architectures aside.
        architectures: Machine code that is inside, for example `sm_75`.
        virtual: PTX that is inside, for example `compute_120`.
        left_out: Architectures that this nvcc does not know.
        figures: One entry a kernel and architecture.
    """

    source_sha256: str
    binary_sha256: str
    compiler: str
    flags: tuple[str, ...]
    architectures: tuple[str, ...]
    virtual: tuple[str, ...]
    left_out: tuple[str, ...]
    figures: tuple[KernelFigures, ...]

    @property
    def kernels(self) -> frozenset[str]:
        """Names of the kernels inside."""
        return frozenset(item.kernel for item in self.figures)

    def code_for(self, capability: tuple[int, int]) -> str | None:
        """Return which code a GPU runs: `sm_86`, `compute_75` (the driver compiles it), or None.

        Machine code runs on its own major capability and no lower minor one, PTX on any capability
        that is not lower (CUDA C++ Programming Guide, "Application Compatibility").

        Args:
            capability: Compute capability of the GPU, major and minor.
        """
        machine = [
            (level, name)
            for name in self.architectures
            if (level := capability_of(name))[0] == capability[0] and level <= capability
        ]
        virtual = [
            (level, name) for name in self.virtual if (level := capability_of(name)) <= capability
        ]
        best = max(machine, default=None) or max(virtual, default=None)
        return None if best is None else best[1]

    def to_json(self) -> str:
        """Return the record as it lies beside the binary."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> BinaryRecord:
        """Read a record.

        Raises:
            ValueError: It is none, or of another format.
        """
        fields: dict[str, Any] = json.loads(text)
        if not isinstance(fields, Mapping) or fields.pop("format", None) != FORMAT:
            raise ValueError(f"no record of format {FORMAT}")
        figures = tuple(KernelFigures(**item) for item in fields.pop("figures"))
        lists = {key: tuple(value) for key, value in fields.items() if isinstance(value, list)}
        try:
            return cls(**{**fields, **lists}, figures=figures)
        except TypeError as error:
            raise ValueError(str(error)) from error


@dataclass(frozen=True, slots=True)
class FatBinary:
    """A fat binary on disk, whose record was found to be its own."""

    path: Path
    record: BinaryRecord

    def read(self) -> bytes:
        """Return the binary itself."""
        return self.path.read_bytes()


def capability_of(name: str) -> tuple[int, int]:
    """Return the compute capability in a name such as `sm_75` or `compute_120`."""
    digits = name.rpartition("_")[2]
    return int(digits[:-1]), int(digits[-1])


def source_hash(source: Path | None = None) -> str:
    """Return the SHA-256 of a source and of the headers in its folder, which are all it has.

    Args:
        source: The CUDA source; that of the kernels if None.

    Raises:
        BuildError: The source is not here.
    """
    path = source or SOURCE
    if not path.is_file():
        raise BuildError(
            f"CUDA source: expected {path}, got none; build from a checkout or an installed "
            "fgmclip, not inside a release"
        )
    digest = hashlib.sha256()
    for file in sorted(path.parent.glob("*.cu*")):
        content = file.read_bytes()
        digest.update(f"{file.name} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def cache_path(source_sha256: str) -> Path:
    """Return where the cache keeps the binary of a source."""
    return cache_folder("cuda", override=CACHE_VARIABLE) / source_sha256[:16] / NAME


def record_path(binary: Path) -> Path:
    """Return where the record of a binary lies."""
    return binary.with_name(binary.name + RECORD_SUFFIX)


def find_binary(kernels: Iterable[str]) -> FatBinary:
    """Return the fat binary to load.

    Args:
        kernels: Names of the kernels that it must hold.

    Raises:
        BuildError: Neither place has one that is whole and made from this source; the message says
            what was found where.
    """
    wanted = source_hash() if SOURCE.is_file() else None
    places = [Path(__file__).resolve().with_name(NAME)]
    if wanted is not None:
        places.append(cache_path(wanted))
    reasons = []
    for place in places:
        try:
            return read_binary(place, source_sha256=wanted, kernels=kernels)
        except BuildError as error:
            reasons.append(str(error))
    remedy = (
        "run 'fgmclip kernels build' on a machine with nvcc"
        if wanted is not None
        else "export the release again where 'fgmclip kernels build' has run"
    )
    raise BuildError(f"CUDA kernels: expected a fat binary, got {'; '.join(reasons)}; {remedy}")


def copy_binary(binary: FatBinary, folder: Path) -> None:
    """Put a binary and its record into a copy of this folder, where its `find_binary` looks first.

    Args:
        binary: The binary.
        folder: `kernels/cuda` of a release's `fgmclip`.
    """
    shutil.copyfile(binary.path, folder / NAME)
    shutil.copyfile(record_path(binary.path), record_path(folder / NAME))


def read_binary(
    path: Path, *, source_sha256: str | None = None, kernels: Iterable[str] = ()
) -> FatBinary:
    """Return the binary at `path` after it was held to its record.

    Args:
        path: The fat binary.
        source_sha256: Hash of the source that it must come from; None where there is no source.
        kernels: Names of the kernels that it must hold.

    Raises:
        BuildError: It is not there, not whole, or from another source; without a remedy.
    """
    if not path.is_file():
        raise BuildError(f"none at {path}")
    try:
        record = BinaryRecord.from_json(record_path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError) as error:
        raise BuildError(f"one at {path} without a readable record ({error})") from error
    if hashlib.sha256(path.read_bytes()).hexdigest() != record.binary_sha256:
        raise BuildError(f"one at {path} that is not the one of its record")
    if source_sha256 not in (None, record.source_sha256):
        raise BuildError(f"one at {path} from another source")
    missing = sorted(set(kernels) - record.kernels)
    if missing:
        raise BuildError(f"one at {path} without {', '.join(missing)}")
    return FatBinary(path, record)
