"""A repository directory: which releases it holds, which one serves, and how one is published.

The directory is a live Triton repository at every moment. A release's step folders are written
aside and renamed into place; only then are the public ensembles' configs replaced, one atomic
rename each. The lock is held for that alone, not while a release is built: a rollback waits for no
export, and of two exports at once each publishes its own. Killed anywhere, even by a power cut,
every ensemble names the steps of exactly one complete release.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.text_format import ParseError

from fgmclip.export.configs import parse_config
from fgmclip.export.errors import BusyError, RepositoryError
from fgmclip.export.manifest import ReleaseManifest, read_manifest
from fgmclip.export.names import (
    ENSEMBLES,
    beside_release,
    gate_name,
    labels_name,
    manifest_name,
    manifest_release,
    step_release,
)
from fgmclip.serve.runtimes.proof import file_sha256
from fgmclip.spec.manifest import MANIFEST_PARAMETER
from fgmclip.storage.atomic import (
    flush,
    flush_tree,
    naming,
    remove_temporaries,
    replacing,
    write_text,
)
from fgmclip.storage.errors import LockedError
from fgmclip.storage.lock import file_lock, is_locked

LOCK_FILE = ".fgmclip.lock"
STAGING = ".staging"

OWNER_FILE = "owner.lock"
"""In the folder of a reservation: locked for as long as the process that builds there lives."""

PATIENCE_SECONDS = 20.0
"""A publication takes seconds: its files are hashed and a few renamed."""

PUBLISHING_SECONDS = 600.0
"""An export that waits here would lose work of minutes."""


@dataclass(frozen=True, slots=True)
class Reservation:
    """A release that is being built.

    Attributes:
        release: Its number.
        steps: The folder in which its step folders are written.
    """

    release: int
    steps: Path


class Repository:
    """A Triton repository that holds releases of one model."""

    def __init__(self, path: Path) -> None:
        """Name the directory; nothing is read or written yet."""
        self.path = path

    # Triton takes every folder of the repository for a model, hidden ones too, and refuses to
    # start over one that is none. Inside a model's folder it looks at numbered folders only.
    @property
    def staging(self) -> Path:
        """Folder in which releases are built, on the same file system, unseen by Triton."""
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
    def lock(self, patience_seconds: float = PATIENCE_SECONDS) -> Iterator[None]:
        """Hold the repository for one publisher; the lock goes with the process that holds it.

        Args:
            patience_seconds: How long to wait for another publisher.

        Raises:
            BusyError: Another process is publishing, and went on for that long.
            OSError: The directory cannot be written, or its file system knows no locks.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            try:
                stack.enter_context(file_lock(self.path / LOCK_FILE, patience_seconds))
            except LockedError as error:
                raise BusyError(
                    f"{self.path}: another process is publishing here, for {patience_seconds:.0f} s"
                    " at least; wait for it to end, or end it"
                ) from error
            yield

    @contextmanager
    def reserve(self) -> Iterator[Reservation]:
        """Take the next number, and a folder of its own to build that release in.

        Others may publish, activate and export meanwhile. The folder is gone when the block ends,
        and that of a killed process with the next export or `prune`.

        Raises:
            BusyError: Another process is publishing.
            OSError: The directory cannot be written, or its file system knows no locks.
        """
        with ExitStack() as stack:
            with self.lock():
                self.sweep()
                release = self._next_release()
                folder = self.staging / f"r{release}"
                stack.callback(self._give_back, folder)
                folder.mkdir(parents=True)
                stack.enter_context(file_lock(folder / OWNER_FILE))
                reservation = Reservation(release, folder / "steps")
                reservation.steps.mkdir()
            with naming(folder):
                yield reservation

    def sweep(self) -> None:
        """Remove what killed publishers left; to be called under the lock.

        That is staging folders without an owner, and steps, gate reports and labels of no release.
        """
        for folder in self._staged():
            if not is_locked(folder / OWNER_FILE):
                shutil.rmtree(folder, ignore_errors=True)
        self._remove_empty()
        known = {*self.releases(), *self.active().values()}
        for path in self.path.iterdir():
            release = step_release(path.name)
            if release is not None and release not in known:
                shutil.rmtree(path)
        for folder in (self.path, *(self.path / name for name in ENSEMBLES)):
            remove_temporaries(folder)
            for path in folder.glob("*-r*"):
                release = beside_release(path.name)
                if release is not None and release not in known:
                    path.unlink()

    def publish(self, manifest: ReleaseManifest, steps: Path, gate: str | None = None) -> None:
        """Move staged step folders into place and let the ensembles serve them.

        If it fails before an ensemble serves the release, nothing of it stays in place.

        Args:
            manifest: The release.
            steps: The folder in which its step folders lie, of its reservation.
            gate: What the gate saw, as Markdown.

        Raises:
            BusyError: Another process is publishing, and went on for minutes.
            OSError: The directory cannot be written.
        """
        # On the disk before anything names them: after a power cut the configs, which are flushed,
        # would name files that are empty.
        flush_tree(steps)
        release = manifest.release
        with self.lock(PUBLISHING_SECONDS):
            try:
                for folder in sorted(steps.iterdir()):
                    folder.rename(self.path / folder.name)
                if gate is not None:
                    write_text(self.path / gate_name(release), gate)
                write_text(self.path / manifest_name(release), manifest.to_json())
                self.activate(release)
            except BaseException:
                with suppress(RepositoryError, OSError):
                    if release not in self.active().values():
                        self._remove(release)
                raise

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
        for ensemble in manifest.ensembles:
            folder = self.path / ensemble
            # Triton wants a version folder even for an ensemble; git and object stores drop an
            # empty one.
            (folder / "1").mkdir(parents=True, exist_ok=True)
            (folder / "1" / ".gitkeep").touch()
            named = folder / labels_name(release)
            # Going back to a release writes as little as can be: the disk may be full.
            if not named.is_file() or named.read_bytes() != labels.encode("utf-8"):
                write_text(named, labels)
        with ExitStack() as stack:
            # All of them on the disk before the first is renamed: a disk that is full stops all.
            for ensemble, config in manifest.ensembles.items():
                path = stack.enter_context(replacing(self.path / ensemble / "config.pbtxt"))
                path.write_bytes(config.encode("utf-8"))
                flush(path)

    def prune(self, keep: int) -> list[int]:
        """Remove the oldest releases that no ensemble names, and return their numbers.

        What killed publishers left goes as well.

        Args:
            keep: How many of the newest releases stay, active ones always.
        """
        self.sweep()
        active = set(self.active().values())
        removed = [release for release in self.releases()[: -keep or None] if release not in active]
        for release in removed:
            self._remove(release)
        return removed

    def _next_release(self) -> int:
        """Return a number that no folder or manifest here bears, nor a running export has."""
        numbers = [step_release(path.name) or 0 for path in self.path.iterdir()]
        staged = [int(path.name[1:]) for path in self._staged() if path.name[1:].isdecimal()]
        return max([0, *numbers, *staged, *self.releases(), *self.active().values()]) + 1

    def _staged(self) -> list[Path]:
        """Return the folders of reservations, of running exports and of killed ones."""
        return list(self.staging.iterdir()) if self.staging.is_dir() else []

    def _give_back(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        # Not while another export makes its own folder in there.
        with suppress(BusyError, OSError), self.lock():
            self._remove_empty()

    def _remove_empty(self) -> None:
        """Remove the folder of reservations, and its ensemble's where there is none yet.

        An ensemble without a config is none, and Triton refuses to start over it.
        """
        for folder in (self.staging, self.staging.parent):
            with suppress(OSError):
                folder.rmdir()

    def _remove(self, release: int) -> None:
        # The manifest first: without it the rest is what `sweep` removes.
        (self.path / manifest_name(release)).unlink(missing_ok=True)
        (self.path / gate_name(release)).unlink(missing_ok=True)
        for path in self.path.iterdir():
            if step_release(path.name) == release:
                shutil.rmtree(path)
        for ensemble in ENSEMBLES:
            (self.path / ensemble / labels_name(release)).unlink(missing_ok=True)
