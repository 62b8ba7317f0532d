"""A release beside its manifest: every file there, unaltered, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fgmclip.export.lint.finding import ACTIVATE_AGAIN, EXPORT_AGAIN, Finding
from fgmclip.export.manifest import ReleaseManifest
from fgmclip.export.names import labels_name, manifest_name, step_release
from fgmclip.export.repository import STAGING
from fgmclip.serve.runtimes.proof import file_sha256
from fgmclip.spec import PublicManifest, SpecError
from fgmclip.spec.manifest import MANIFEST_PARAMETER
from fgmclip.storage.atomic import TEMPORARY


def check_files(
    repository: Path, manifest: ReleaseManifest, tick: Callable[[], None]
) -> Iterator[Finding]:
    """Check the files of a release's steps against its manifest.

    Args:
        repository: The directory.
        manifest: Of the release.
        tick: Called after each file that the manifest lists.
    """
    release = manifest.release
    for name, digest in manifest.files.items():
        file = repository / name
        if not file.is_file():
            yield Finding("missing", name, f"a file of r{release}", "none", EXPORT_AGAIN)
        elif (found := file_sha256(file)) != digest:
            yield Finding(
                "altered",
                name,
                f"SHA-256 {digest[:16]}..., as r{release} was published",
                f"{found[:16]}...",
                f"put the published file back, or {EXPORT_AGAIN}",
            )
        tick()
    for folder in sorted(repository.iterdir()):
        if step_release(folder.name) != release:
            continue
        for file in sorted(folder.rglob("*")):
            name = file.relative_to(repository).as_posix()
            # A server compiles the steps' modules where they lie.
            if file.is_file() and name not in manifest.files and "__pycache__" not in file.parts:
                yield Finding(
                    "unlisted",
                    name,
                    f"only files that {manifest_name(release)} lists",
                    "one more",
                    "remove it: nobody proved it with the release",
                )


def check_public(
    path: str, config: Any, manifests: dict[int, ReleaseManifest]
) -> Iterator[Finding]:
    """Check the public manifest in an ensemble's parameters.

    Args:
        path: Where the config stands.
        config: Of the ensemble.
        manifests: Readable release manifests, by number.
    """
    public = public_manifest(config)
    if public is None:
        yield Finding(
            "public-manifest",
            path,
            f"the public manifest as JSON in the parameter {MANIFEST_PARAMETER}",
            "none that can be read" if MANIFEST_PARAMETER in config.parameters else "none",
            ACTIVATE_AGAIN,
        )
    elif public.release not in manifests:
        yield Finding(
            "release-missing",
            path,
            f"{manifest_name(public.release)}, the release that the ensemble serves",
            ", ".join(manifest_name(number) for number in manifests) or "no manifest",
            ACTIVATE_AGAIN,
        )
    elif public != manifests[public.release].public:
        ours, theirs = public.model_dump(), manifests[public.release].public.model_dump()
        different = sorted(name for name in ours if ours[name] != theirs[name])
        yield Finding(
            "public-differs",
            path,
            f"the public manifest of {manifest_name(public.release)}",
            f"another {', '.join(different)}",
            f"fgmclip repo activate DIR {public.release}",
        )


def public_manifest(config: Any) -> PublicManifest | None:
    """Return what an ensemble tells its clients, or None if that cannot be read."""
    # Not `parameters[...]`, which would add the key.
    text = {key: item.string_value for key, item in config.parameters.items()}
    try:
        return PublicManifest.from_json(text.get(MANIFEST_PARAMETER, ""), stored=True)
    except SpecError:
        return None


def check_ensemble_folder(folder: Path, releases: set[int]) -> Iterator[Finding]:
    """Check what lies in an ensemble's folder beside its config.

    Args:
        folder: Of the ensemble.
        releases: Numbers of the releases in the repository.
    """
    version = folder / "1"
    if not version.is_dir():
        yield Finding(
            "version-folder",
            folder.name,
            "a version folder, 1, which Triton wants of an ensemble too",
            "none",
            ACTIVATE_AGAIN,
        )
    elif not any(version.iterdir()):
        yield Finding(
            "version-empty",
            f"{folder.name}/1",
            "a file in it, .gitkeep: git and object stores drop empty folders",
            "none",
            ACTIVATE_AGAIN,
            "warning",
        )
    known = {"1", "config.pbtxt", *(labels_name(number) for number in releases)}
    for path in sorted(folder.iterdir()):
        name = f"{folder.name}/{path.name}"
        if path.name == STAGING or path.name.startswith(TEMPORARY):
            yield leftover(name)
        elif path.name not in known:
            yield Finding(
                "unlisted",
                name,
                "a config, a version folder and labels of releases that are here",
                "something else",
                "remove it",
                "warning",
            )


def leftover(name: str) -> Finding:
    """Return what is said of a file or folder that publishing writes aside."""
    return Finding(
        "leftover",
        name,
        "nothing temporary once no export is running",
        "what a killed export left, or one that is running",
        "wait for a running export; the next export or 'fgmclip repo prune' removes what a killed "
        "one left",
        "warning",
    )
