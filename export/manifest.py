"""`manifest-rN.json`: what a release is made of, and what was checked before it was published."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from fgmclip.export.errors import RepositoryError
from fgmclip.export.gate import GateReport
from fgmclip.export.settings import ServingSetting
from fgmclip.export.tensorrt.report import EngineReport
from fgmclip.serve.runtimes.proof import file_sha256
from fgmclip.spec import PublicManifest, SpecError
from fgmclip.spec.base import FrozenSpec
from fgmclip.spec.manifest import MANIFEST_FORMAT


class PartCheck(FrozenSpec):
    """How far one ONNX graph is from PyTorch.

    Attributes:
        part: The submodule, or `chain` for the whole model.
        batches: Batch sizes that were compared, each with its own input.
        max_abs: Largest absolute difference of any output value.
        tolerance: What `max_abs` was allowed to be.
    """

    part: str
    batches: tuple[int, ...]
    max_abs: float
    tolerance: float


class ReleaseManifest(FrozenSpec):
    """One release, as JSON beside the step folders.

    Attributes:
        format: Version of this layout; an unknown one is refused.
        public: What clients are told.
        target: Where the engines run.
        precision_asked: Rung that export was asked for.
        precision_built: Rung that each engine has, as far as it was verified.
        created: UTC time, ISO 8601.
        tools: Versions of the tools that made the release.
        files: SHA-256 of each file, by path below the repository.
        ensembles: `config.pbtxt` of each public ensemble that serves this release.
        checks: Comparison of the fp32 graphs with PyTorch.
        gate: What the gate saw of every rung; None where only fp32 was asked for.
        sm: Compute capabilities that the engines in the release were built for; empty where none
            are in it, or the library chose.
        engines: What was built, verified and not verified of each engine in the release.
        settings: What Triton is told of each step beyond its tensors, and why.
    """

    format: Literal[2] = MANIFEST_FORMAT
    public: PublicManifest
    target: Literal["cpu", "onnx-gpu", "tensorrt", "rtx"]
    precision_asked: str
    precision_built: dict[str, str]
    created: str
    tools: dict[str, str]
    files: dict[str, str]
    ensembles: dict[str, str]
    checks: tuple[PartCheck, ...] = Field(default=())
    gate: GateReport | None = None
    sm: tuple[int, ...] = ()
    engines: tuple[EngineReport, ...] = ()
    settings: tuple[ServingSetting, ...] = ()

    @property
    def release(self) -> int:
        """Number of the release."""
        return self.public.release


def read_manifest(path: Path) -> ReleaseManifest:
    """Read a release's manifest.

    Raises:
        RepositoryError: It is missing, damaged, or of a format that this version does not know.
    """
    try:
        return ReleaseManifest.from_json(path.read_bytes(), stored=True)
    except FileNotFoundError as error:
        raise RepositoryError(f"{path.name}: no such release in {path.parent}") from error
    except SpecError as error:
        raise RepositoryError(
            f"{path.name}: expected a release manifest of format {MANIFEST_FORMAT}; export the "
            f"release again with this version, or use the version that wrote it ({error})"
        ) from error


def folder_hashes(folder: Path, name: str) -> dict[str, str]:
    """Return the SHA-256 of every file below `folder`, keyed by path below `name`."""
    return {
        f"{name}/{path.relative_to(folder).as_posix()}": file_sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def short_hash(parts: list[tuple[str, Any]]) -> str:
    """Return 16 hexadecimal digits over labelled parts, each given as bytes or text."""
    digest = hashlib.sha256()
    for label, value in parts:
        data = value if isinstance(value, bytes) else str(value).encode()
        digest.update(f"{label}:{len(data)}:".encode())
        digest.update(data)
    return digest.hexdigest()[:16]
