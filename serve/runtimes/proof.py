"""The cache of engines, and what was proved of an engine on the machine that it is to run on.

An engine lies in a folder of its own, named by all that decides it: `KEY/PART.plan`. A proof lies
beside it as `KEY/PART.MODEL_TAG.proof.json`: another release may share the engine, but its clips
and its answers are its own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from fgmclip.serve.runtimes.libraries import LibraryName
from fgmclip.serve.runtimes.recipe import Recipe
from fgmclip.storage.cache import cache_folder as user_cache

FORMAT = 1

CACHE_VARIABLE = "FGMCLIP_ENGINES"
"""Environment variable that names the cache; a container has none of its user's."""


def cache_folder() -> Path:
    """Return where engines lie: outside any release, which a target may be unable to write."""
    return user_cache("engines", override=CACHE_VARIABLE)


@dataclass(frozen=True)
class Proof:
    """What the gate said of one engine on one machine.

    Attributes:
        part: The submodule.
        model_tag: Of the release whose clips judged.
        onnx_sha256: Hash of the graph that the engine was built from.
        recipe_sha256: Hash of the whole recipe.
        engine_sha256: Hash of the engine.
        library: Who built it and runs it.
        library_version: Its version.
        gpu: Name of the GPU.
        sm: Its compute capability, 89 for 8.9.
        precision: What the engine was asked to compute in.
        figures: What was measured, by name.
        passed: Whether the engine may serve.
        reason: Why not; empty if it may.
    """

    part: str
    model_tag: str
    onnx_sha256: str
    recipe_sha256: str
    engine_sha256: str
    library: LibraryName
    library_version: str
    gpu: str
    sm: int
    precision: str
    figures: Mapping[str, Any]
    passed: bool
    reason: str

    def to_json(self) -> str:
        """Return the proof as its file holds it."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=2) + "\n"


def proof_file(engine: Path, part: str, model_tag: str) -> Path:
    """Return where the proof of an engine lies.

    Args:
        engine: The engine's file in the cache.
        part: The submodule.
        model_tag: Of the release.
    """
    return engine.with_name(f"{part}.{model_tag}.proof.json")


def engine_file(proof: Path, part: str) -> Path:
    """Return the engine beside a proof."""
    return proof.with_name(f"{part}.plan")


def find_proofs(recipe: Recipe, cache: Path) -> list[tuple[Path, Proof]]:
    """Return the proofs of a recipe, of any machine and version, newest first.

    Files that are damaged or of another format prove nothing and are left out.

    Args:
        recipe: What engines were built by.
        cache: Where they lie.
    """
    found = [
        (path, proof)
        for path in cache.glob(f"*/{recipe.part}.{recipe.model_tag}.proof.json")
        if (proof := _read(path)) is not None and proof.recipe_sha256 == recipe_hash(recipe)
    ]
    return sorted(found, key=lambda item: item[0].stat().st_mtime, reverse=True)


def recipe_hash(recipe: Recipe) -> str:
    """Return the SHA-256 of a recipe, in hexadecimal."""
    return hashlib.sha256(recipe.to_json().encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _read(path: Path) -> Proof | None:
    try:
        values = json.loads(path.read_bytes())
        if values.pop("format") != FORMAT:
            return None
        return Proof(**{field.name: values[field.name] for field in fields(Proof)})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
