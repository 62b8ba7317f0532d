"""`lint_repository`: every check over a whole repository."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from google.protobuf.text_format import ParseError

from fgmclip.export.configs import parse_config
from fgmclip.export.errors import RepositoryError
from fgmclip.export.lint.ensemble import check_ensemble
from fgmclip.export.lint.finding import ACTIVATE_AGAIN, EXPORT_AGAIN, Finding
from fgmclip.export.lint.release import (
    check_ensemble_folder,
    check_files,
    check_public,
    leftover,
    public_manifest,
)
from fgmclip.export.lint.step import CONFIG, check_labels, check_name, check_step
from fgmclip.export.manifest import ReleaseManifest
from fgmclip.export.names import ENSEMBLES, gate_name, manifest_name, step_release
from fgmclip.export.repository import LOCK_FILE, Repository
from fgmclip.storage.atomic import TEMPORARY
from fgmclip.storage.plain import is_plain

Progress = Callable[[int, int], None]


def lint_repository(path: Path, progress: Progress = lambda done, total: None) -> list[Finding]:
    """Check a repository without a server; nothing in it is changed.

    Args:
        path: The repository's directory.
        progress: Called with the number of files hashed so far and of all that will be.

    Returns:
        One finding a fault, in the order of the repository's parts; none if it is clean.

    Raises:
        RepositoryError: The path is no directory.
    """
    releases = Repository(path).releases()
    linter = _Linter(path, progress)
    linter.add(linter.manifests_of(releases))
    linter.add(linter.check_entries())
    linter.add(linter.read_configs())
    linter.add(linter.check_releases())
    linter.add(linter.check_ensembles())
    return linter.findings


class _Linter:
    def __init__(self, path: Path, progress: Progress) -> None:
        self.findings: list[Finding] = []
        self._path = path
        self._progress = progress
        self._manifests: dict[int, ReleaseManifest] = {}
        self._unreadable: set[int] = set()
        self._configs: dict[str, Any] = {}

    def add(self, findings: Iterator[Finding]) -> None:
        self.findings.extend(findings)

    def manifests_of(self, releases: list[int]) -> Iterator[Finding]:
        for number in releases:
            name = manifest_name(number)
            try:
                manifest = Repository(self._path).manifest(number)
            except RepositoryError as error:
                self._unreadable.add(number)
                yield Finding(
                    "manifest", name, "a release manifest of this format", f"{error}", EXPORT_AGAIN
                )
                continue
            if manifest.release == number:
                self._manifests[number] = manifest
            else:
                self._unreadable.add(number)
                yield Finding(
                    "manifest",
                    name,
                    f"the manifest of r{number}",
                    f"that of r{manifest.release}",
                    f"call it {manifest_name(manifest.release)}, or {EXPORT_AGAIN}",
                )
        if not releases:
            yield Finding("empty", ".", "at least one release", "none", EXPORT_AGAIN)

    def check_entries(self) -> Iterator[Finding]:
        """Say which files and folders belong to no release, and whether Triton takes the path."""
        path = self._path.absolute()
        if not is_plain(str(path)):
            yield Finding(
                "path",
                ".",
                "a path of letters, digits and _ . / - : Triton's Python backend puts it into a "
                "line for a shell",
                f"{path}",
                "move it for a Triton that you start yourself, or give that a plain link to it; "
                "'fgmclip serve' does so itself",
                "warning",
            )
        known = {*self._manifests, *self._unreadable}
        for entry in sorted(self._path.iterdir()):
            release = step_release(entry.name)
            if entry.name.startswith(TEMPORARY):
                yield leftover(entry.name)
            elif entry.is_dir() and release is not None:
                if release not in known:
                    yield Finding(
                        "no-manifest",
                        entry.name,
                        f"{manifest_name(release)} beside it",
                        "none: a killed export left the folder, or the manifest was removed",
                        "remove the folder; the next export does",
                    )
            elif entry.is_dir() and entry.name not in ENSEMBLES:
                yield Finding(
                    "unknown-folder",
                    entry.name,
                    "folders of steps and ensembles only: Triton takes each for a model",
                    "another one",
                    "move it out of the repository",
                )
            elif entry.is_file() and entry.name not in (
                LOCK_FILE,
                *(name(number) for number in known for name in (manifest_name, gate_name)),
            ):
                yield Finding(
                    "unlisted",
                    entry.name,
                    "manifests and gate reports of releases, and the lock file",
                    "another file",
                    "move it out of the repository",
                    "warning",
                )

    def read_configs(self) -> Iterator[Finding]:
        for folder in sorted(self._path.iterdir()):
            if not folder.is_dir() or (
                step_release(folder.name) is None and folder.name not in ENSEMBLES
            ):
                continue
            where = f"{folder.name}/{CONFIG}"
            again = ACTIVATE_AGAIN if folder.name in ENSEMBLES else EXPORT_AGAIN
            self._configs[folder.name] = None
            try:
                config = parse_config((folder / CONFIG).read_text(encoding="utf-8"))
            except FileNotFoundError:
                yield Finding("no-config", where, "a config", "none", again)
            except (ParseError, UnicodeDecodeError) as error:
                yield Finding(
                    "unparsable", where, "a config of Triton's ModelConfig", f"{error}", again
                )
            else:
                self._configs[folder.name] = config
                yield from check_name(folder, config)

    def check_releases(self) -> Iterator[Finding]:
        total = sum(len(manifest.files) for manifest in self._manifests.values())
        done = 0

        def tick() -> None:
            nonlocal done
            done += 1
            self._progress(done, total)

        for name, config in self._configs.items():
            release = step_release(name)
            # Of a release that is not there nothing but that needs to be said.
            if release in (*self._manifests, *self._unreadable) and config is not None:
                yield from check_step(self._path / name, config, self._manifests.get(release))
        for manifest in self._manifests.values():
            yield from check_files(self._path, manifest, tick)

    def check_ensembles(self) -> Iterator[Finding]:
        steps = {name: item for name, item in self._configs.items() if name not in ENSEMBLES}
        served: dict[str, int] = {}
        for name in ENSEMBLES:
            folder, where = self._path / name, f"{name}/{CONFIG}"
            if folder.is_dir():
                yield from check_ensemble_folder(folder, {*self._manifests, *self._unreadable})
            elif self._manifests:
                yield Finding("ensemble-missing", name, "the ensemble", "none", ACTIVATE_AGAIN)
            config = self._configs.get(name)
            if config is None:
                continue
            public = public_manifest(config)
            release = public.release if public else None
            if release is not None:
                served[name] = release
            yield from check_public(where, config, self._manifests)
            yield from check_labels(folder, config, public.spec.labels if public else None)
            yield from check_ensemble(where, config, steps, release)
            yield from self._check_published(name, release)
        if len(set(served.values())) > 1:
            yield Finding(
                "mixed-releases",
                ".",
                "ensembles that serve one release",
                ", ".join(f"{name} r{release}" for name, release in served.items()),
                f"finish it: fgmclip repo activate DIR {max(served.values())}",
            )
        yield from self._check_others(served, steps)

    def _check_published(self, name: str, release: int | None) -> Iterator[Finding]:
        """Hold an ensemble's config to the one that its release was published with."""
        manifest = self._manifests.get(release) if release is not None else None
        if manifest is None:
            return
        where = self._path / name / CONFIG
        if where.read_text(encoding="utf-8") != manifest.ensembles.get(name):
            yield Finding(
                "ensemble-altered",
                f"{name}/{CONFIG}",
                f"the config that r{release} was published with",
                "another" if name in manifest.ensembles else f"r{release} has no such ensemble",
                f"fgmclip repo activate DIR {release}",
            )

    def _check_others(
        self, served: Mapping[str, int], steps: Mapping[str, Any]
    ) -> Iterator[Finding]:
        """Check the ensembles that are not served now, so that each release can be activated."""
        for release, manifest in self._manifests.items():
            for name, text in manifest.ensembles.items():
                where = f"{manifest_name(release)}: {name}"
                try:
                    config = parse_config(text)
                except ParseError as error:
                    yield Finding(
                        "unparsable",
                        where,
                        "a config of Triton's ModelConfig",
                        f"{error}",
                        EXPORT_AGAIN,
                    )
                    continue
                if served.get(name) != release:
                    yield from check_public(where, config, self._manifests)
                    yield from check_ensemble(where, config, steps, release)
