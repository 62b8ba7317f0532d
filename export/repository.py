"""A repository directory: which releases it holds, which one serves, and how one is published.

The directory is a live Triton repository at every moment. A release's step folders are written
aside and renamed into place; only then are the public ensembles' configs replaced, one atomic
rename each. Killed anywhere, even by a power cut, every ensemble names the steps of exactly one
complete release.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from google.protobuf.text_format import ParseError

from fgmclip.export.configs import parse_config
from fgmclip.export.errors import BusyError, RepositoryError
from fgmclip.export.manifest import ReleaseManifest, read_manifest
from fgmclip.export.names import (
    ENSEMBLES,
    gate_name,
    labels_name,
    manifest_name,
    manifest_release,
    step_release,
)
from fgmclip.serve.runtimes.proof import file_sha256
from fgmclip.spec.manifest import MANIFEST_PARAMETER

LOCK_FILE = ".fgmclip.lock"
STAGING = ".staging"
TEMPORARY = ".writing-"


class Repository:
    """A Triton repository that holds releases of one model."""

    def __init__(self, path: Path) -> None:
        """Name the directory; nothing is read or written yet."""
        self.path = path

    # Triton takes every folder of the repository for a model, hidden ones too, and refuses to
    # start over one that is none. Inside a model's folder it looks at numbered folders only.
    @property
    def staging(self) -> Path:
        """Folder in which a release is built, on the same file system, unseen by Triton."""
        return self.path / ENSEMBLES[0] / STAGING

    def require(self) -> None:
        """Refuse to go on where there is no directory; only an export makes one.

        Raises:
            RepositoryError: There is none.
        """
        if not self.path.is_dir():
            raise RepositoryError(
                f"{self.path}: expected a repository directory; make one with "
                "'fgmclip export CHECKPOINT --repository DIR'"
            )

    def releases(self) -> list[int]:
        """Return the numbers of the complete releases, oldest first."""
        self.require()
        numbers = (manifest_release(path.name) for path in self.path.iterdir())
        return sorted(number for number in numbers if number is not None)

    def manifest(self, release: int) -> ReleaseManifest:
        """Read the manifest of a release.

        Raises:
            RepositoryError: There is no such release, or its manifest is unreadable.
        """
        return read_manifest(self.path / manifest_name(release))

    def active(self) -> dict[str, int]:
        """Return which release each published ensemble names."""
        found: dict[str, int] = {}
        for ensemble in ENSEMBLES:
            config = self.path / ensemble / "config.pbtxt"
            if not config.is_file():
                continue
            try:
                parameters = parse_config(config.read_text(encoding="utf-8")).parameters
                # Of any format, so that a release can be published over one that this version
                # cannot read.
                public = json.loads(parameters[MANIFEST_PARAMETER].string_value)
                found[ensemble] = int(public["release"])
            except (ParseError, ValueError, KeyError, TypeError) as error:
                raise RepositoryError(
                    f"{config}: expected a config that fgmclip wrote ({error}); activate a "
                    "release again with 'fgmclip repo activate'"
                ) from error
        return found

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the repository for one publisher; the lock goes with the process that holds it.

        Raises:
            BusyError: Another process is publishing.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / LOCK_FILE).open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise BusyError(
                    f"{self.path}: another process is publishing here; wait for it to end"
                ) from error
            yield

    def next_release(self) -> int:
        """Return a number that no folder or manifest here bears."""
        numbers = [step_release(path.name) or 0 for path in self.path.iterdir()]
        return max([0, *numbers, *self.releases(), *self.active().values()]) + 1

    def sweep(self) -> None:
        """Remove what a killed publisher left: its staging folder and steps of no release."""
        if self.staging.exists():
            shutil.rmtree(self.staging)
        known = {*self.releases(), *self.active().values()}
        for path in self.path.iterdir():
            release = step_release(path.name)
            if release is not None and release not in known:
                shutil.rmtree(path)
        for folder in (self.path, *(self.path / name for name in ENSEMBLES)):
            for path in folder.glob(f"{TEMPORARY}*"):
                path.unlink()

    def publish(self, manifest: ReleaseManifest) -> None:
        """Move the staged step folders into place and let the ensembles serve them.

        Args:
            manifest: The release whose step folders lie in `staging`.
        """
        # On the disk before anything names them: after a power cut the configs, which are flushed,
        # would name files that are empty.
        for path in sorted(self.staging.rglob("*")):
            _flush(path)
        for folder in sorted(self.staging.iterdir()):
            folder.rename(self.path / folder.name)
        _write_atomically(self.path / manifest_name(manifest.release), manifest.to_json())
        self.activate(manifest.release)
        shutil.rmtree(self.staging)

    def activate(self, release: int) -> None:
        """Let the public ensembles serve a release, after its files were checked.

        Raises:
            RepositoryError: The release does not exist or a file of it is missing or changed.
        """
        manifest = self.manifest(release)
        for name, expected in manifest.files.items():
            path = self.path / name
            if not path.is_file() or file_sha256(path) != expected:
                raise RepositoryError(
                    f"{path}: expected the file that release r{release} was published with, got "
                    f"{'another' if path.is_file() else 'none'}; export the checkpoint again"
                )
        labels = "".join(f"{label}\n" for label in manifest.public.spec.labels)
        for ensemble, config in manifest.ensembles.items():
            folder = self.path / ensemble
            # Triton wants a version folder even for an ensemble; git and object stores drop an
            # empty one.
            (folder / "1").mkdir(parents=True, exist_ok=True)
            (folder / "1" / ".gitkeep").touch()
            _write_atomically(folder / labels_name(release), labels)
            _write_atomically(folder / "config.pbtxt", config)

    def prune(self, keep: int) -> list[int]:
        """Remove the oldest releases that no ensemble names, and return their numbers.

        Args:
            keep: How many of the newest releases stay, active ones always.
        """
        active = set(self.active().values())
        removed = [release for release in self.releases()[: -keep or None] if release not in active]
        for release in removed:
            # The manifest first: without it the folders are leftovers that `sweep` removes.
            (self.path / manifest_name(release)).unlink()
            (self.path / gate_name(release)).unlink(missing_ok=True)
            self._remove_steps(release)
        return removed

    def _remove_steps(self, release: int) -> None:
        for path in self.path.iterdir():
            if step_release(path.name) == release:
                shutil.rmtree(path)
        for ensemble in ENSEMBLES:
            (self.path / ensemble / labels_name(release)).unlink(missing_ok=True)


def _write_atomically(path: Path, text: str) -> None:
    temporary = path.with_name(f"{TEMPORARY}{path.name}")
    with temporary.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    _flush(path.parent)


def _flush(path: Path) -> None:
    """Wait until a file, or a folder's list of files, is on the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
