"""Disks that are full, shared, without locks or without fsync: nothing is lost, nothing stays.

A full disk is a small file system in memory where root may mount one; everywhere a limit on the
size of files stands for it, which fails the same writes by another number.
"""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from fgmclip.client.events.event import Event
from fgmclip.client.gateway.settings import ThumbnailSettings
from fgmclip.client.sinks.errors import SinkUnavailableError
from fgmclip.client.sinks.jsonl import JsonLinesSink
from fgmclip.client.sinks.thumbnails import Thumbnails
from fgmclip.export import release
from fgmclip.export.commands import run_activate, run_prune
from fgmclip.export.names import ENSEMBLES, PARTS, gate_name
from fgmclip.export.precision import plain_engines
from fgmclip.export.release import export_release
from fgmclip.export.repository import Repository
from fgmclip.model.build import build_model
from fgmclip.model.checkpoint import save_checkpoint
from fgmclip.model.network import FgmClip
from fgmclip.spec import ModelSpec
from fgmclip.storage.atomic import TEMPORARY
from fgmclip.training.cache import CacheRecipe, cache_videos
from fgmclip.training.commands import train
from fgmclip.training.run import Workshop
from fgmclip.training.settings import TrainSettings
from fgmclip.video.samples import ACTIONS, SampleError, generate_samples

DISK_BYTES = 32 * 2**20
NO_ROOM = (errno.ENOSPC, errno.EFBIG)


@dataclass(frozen=True)
class Disk:
    """A folder on a disk whose free space can be taken."""

    folder: Path
    mounted: bool

    @contextmanager
    def room_for(self, size: int) -> Iterator[None]:
        """Leave room for `size` bytes more; where a limit stands for it, in each file."""
        if not self.mounted:
            before = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
            try:
                yield
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, before)
            return
        state = os.statvfs(self.folder)
        filling = self.folder / "filling"
        filling.write_bytes(bytes(max(0, state.f_bavail * state.f_frsize - size)))
        try:
            yield
        finally:
            filling.unlink()

    def names(self) -> list[str]:
        """Return what lies on the disk, but for what fills it."""
        found = (path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*"))
        return sorted(name for name in found if name not in ("filling", "lost+found"))


@pytest.fixture(params=["tmpfs", "limit"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    """A disk of 6 MiB, and a folder under a limit on the size of files."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if request.param == "limit":
        yield Disk(folder, mounted=False)
        return
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a full disk is tried as root alone, who may mount one; the limit is tried")
    yield Disk(folder, mounted=True)
    # Lazily: a library may hold a file that it failed to write.
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture(scope="module")
def model(small_spec: ModelSpec) -> FgmClip:
    return build_model(small_spec, seed=0)


def no_room(call: Callable[[], object]) -> OSError:
    """Return how a call fails for want of room."""
    with pytest.raises(OSError, match=r"No space left on device|File too large") as caught:
        call()
    # Of a folder that was copied the words alone are left.
    assert caught.value.errno in (*NO_ROOM, None)
    return caught.value


# Exports.


@pytest.fixture
def repository(
    disk: Disk, model: FgmClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Repository:
    """A repository with one release, and exports that prove nothing, which takes long."""
    graphs = {part: tmp_path / f"{part}.onnx" for part in PARTS}
    for graph in graphs.values():
        graph.write_bytes(bytes(1_000_000))
    proven = release._Proven(plain_engines(graphs), ())
    monkeypatch.setattr(release, "_prove", lambda *_: proven)
    path = disk.folder / "repository"
    export_release(model, path)
    return Repository(path)


def test_an_export_onto_a_full_disk_leaves_what_serves_and_nothing_else(
    disk: Disk, repository: Repository, model: FgmClip
) -> None:
    before = disk.names()
    with ExitStack() as stack:

        def fill(stage: str) -> None:
            if stage == "write steps":
                stack.enter_context(disk.room_for(200_000))

        error = no_room(lambda: export_release(model, repository.path, report=fill))
    assert str(repository.path) in str(error)
    assert disk.names() == before
    assert repository.active() == dict.fromkeys(ENSEMBLES, 1)


@pytest.mark.parametrize("room", [0, 6_000, 40_000, 110_000])
def test_a_publication_on_a_full_disk_is_whole_or_not_there(
    disk: Disk, repository: Repository, model: FgmClip, room: int
) -> None:
    before = disk.names()
    with ExitStack() as stack:

        def fill(stage: str) -> None:
            if stage == "publish":
                stack.enter_context(disk.room_for(room))

        with suppress(OSError):
            export_release(model, repository.path, report=fill)
    # The labels and configs of three ensembles take 70 kB.
    served = set(repository.active().values())
    assert served == {2 if room > 100_000 else 1}
    if served == {1}:
        assert disk.names() == before


def test_a_rollback_goes_through_while_an_export_runs(
    disk: Disk, repository: Repository, model: FgmClip
) -> None:
    def go_back(stage: str) -> None:
        if stage == "publish":
            run_activate(repository.path, 1, as_json=True, console=Console())
            seen.append(repository.active())

    seen: list[dict[str, int]] = []
    export_release(model, repository.path, report=go_back)
    assert seen == [dict.fromkeys(ENSEMBLES, 1)]
    assert repository.active() == dict.fromkeys(ENSEMBLES, 2)


def test_two_exports_at_once_both_end_well(
    disk: Disk, repository: Repository, model: FgmClip
) -> None:
    def export_another(stage: str) -> None:
        if stage == "write steps":
            export_release(model, repository.path)

    export_release(model, repository.path, report=export_another)
    assert repository.releases() == [1, 2, 3]
    for number in (3, 2):
        # It is held to the hashes of its manifest.
        repository.activate(number)


def test_a_gate_report_without_a_release_goes_with_prune(
    disk: Disk, repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    (repository.path / gate_name(2)).write_text("of an export that was killed", encoding="utf-8")
    run_prune(repository.path, 2, as_json=True, console=Console())
    assert not (repository.path / gate_name(2)).exists()


def test_a_file_system_without_locks_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    expected = r"repository/\.fgmclip\.lock: expected a file system with locks, got 'No locks"
    with pytest.raises(OSError, match=expected), Repository(tmp_path / "repository").lock():
        pass


# Annotated video.

ANNOTATE = """
import sys
from pathlib import Path
from fgmclip.client.gateway.annotate import Annotator
from fgmclip.video.decode import read_pictures
from fgmclip.video.live import SeenPicture

source, folder = map(Path, sys.argv[1:])
if "limit" in folder.parts[-1]:
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
pictures = list(read_pictures(source, layout="rgb"))
for suffix in ("mp4", "mkv"):
    recording = Annotator(folder / f"out.{suffix}", 1.0)
    for turn in range(8):
        for picture in pictures:
            # More than an encoder holds back: some is written before the end.
            seen = SeenPicture(picture.time, 1e9 + 20 * turn + picture.time, 0.0, 0, picture)
            recording.add(seen, {})
    recording.close()
    print(recording.failure)
"""


def test_annotating_onto_a_full_disk_ends_the_recording_and_not_the_gateway(
    disk: Disk, clips: Path
) -> None:
    folder = disk.folder / ("tmpfs" if disk.mounted else "limit")
    folder.mkdir()
    clip = next(clips.glob("*/*.mp4"))
    with disk.room_for(0):
        command = [sys.executable, "-c", ANNOTATE, str(clip), str(folder)]
        ended = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
    assert ended.returncode == 0, ended.stderr[-2000:]
    lines = ended.stdout.splitlines()
    assert len(lines) == 2
    for line, suffix in zip(lines, ("mp4", "mkv"), strict=True):
        assert f"{folder}/out.{suffix}" in line
        assert any(os.strerror(number) in line for number in NO_ROOM)
    # Files without a header even are no recordings.
    assert not list(folder.iterdir())


# Training.


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    generate_samples(folder, per_class=1, seed=0, actions=ACTIONS[:2])
    return folder


def test_training_onto_a_full_disk_leaves_nothing_and_goes_on_with_room(
    disk: Disk, clips: Path, small_spec: ModelSpec, tmp_path: Path
) -> None:
    spec, out = tmp_path / "spec.json", disk.folder / "m.safetensors"
    spec.write_text(small_spec.to_json(), encoding="utf-8")
    killed = disk.folder / f"{TEMPORARY}1-ab-m.state.pt"
    killed.write_bytes(b"half")

    def run() -> None:
        settings = TrainSettings(epochs=1)
        shop = Workshop(tmp_path / "cache", workers=0, progress=False)
        train(clips, out, workshop=shop, settings=settings, spec_file=spec)

    with disk.room_for(1_000_000):
        error = no_room(run)
    assert error.filename == str(disk.folder / "m.state.pt")
    assert disk.names() == []
    run()
    assert disk.names() == ["m.log.jsonl", "m.safetensors"]


@pytest.mark.parametrize("disk", ["tmpfs"], indirect=True)
def test_training_into_a_place_that_cannot_be_written_ends_before_it_begins(
    disk: Disk, clips: Path, small_spec: ModelSpec, tmp_path: Path
) -> None:
    spec, out = tmp_path / "spec.json", disk.folder / "m.safetensors"
    spec.write_text(small_spec.to_json(), encoding="utf-8")
    subprocess.run(["mount", "-o", "remount,ro", str(disk.folder)], check=True)
    shop = Workshop(tmp_path / "cache", workers=0, progress=False)
    with pytest.raises(OSError, match="Read-only file system") as caught:
        train(clips, out, workshop=shop, settings=TrainSettings(epochs=1), spec_file=spec)
    assert caught.value.filename == str(out)
    assert not shop.cache.exists()


def test_a_cache_of_rows_on_a_full_disk_keeps_whole_videos_alone(
    disk: Disk, clips: Path, small_spec: ModelSpec
) -> None:
    recipe = CacheRecipe.from_spec(small_spec)
    with disk.room_for(20_000):
        error = no_room(
            lambda: cache_videos(
                sorted(clips.glob("*/*.mp4")), recipe, disk.folder, workers=0, progress=False
            )
        )
    assert str(disk.folder) in str(error)
    assert disk.names() == []


def test_a_checkpoint_on_a_full_disk_leaves_the_one_before(disk: Disk, model: FgmClip) -> None:
    path = disk.folder / "m.safetensors"
    save_checkpoint(model, path)
    before = path.read_bytes()
    with disk.room_for(10_000):
        error = no_room(lambda: save_checkpoint(model, path))
    assert error.filename == str(path)
    assert disk.names() == ["m.safetensors"]
    assert path.read_bytes() == before


# Samples, pictures and events.


def test_samples_on_a_full_disk_are_whole(disk: Disk) -> None:
    with disk.room_for(0), pytest.raises(SampleError, match="samples cannot be written there"):
        generate_samples(disk.folder, per_class=1, seed=0, actions=ACTIONS[:1])
    assert not [name for name in disk.names() if "." in name]


def test_a_picture_on_a_full_disk_is_left_out(
    disk: Disk, caplog: pytest.LogCaptureFixture, event: Event
) -> None:
    thumbnails = Thumbnails(
        ThumbnailSettings(directory=disk.folder / "pictures", retention_hours=1)
    )
    with disk.room_for(0):
        event = thumbnails.save(event, np.zeros((64, 64, 3), np.uint8))
    assert event.thumbnail is None
    assert disk.names() == ["pictures"]
    assert any(os.strerror(number) in caplog.text for number in NO_ROOM)


def test_events_on_a_full_disk_wait_and_no_line_is_torn(disk: Disk, event: Event) -> None:
    path = disk.folder / "events.jsonl"
    sink = JsonLinesSink(path)
    sink.deliver([event])
    line = path.read_bytes()
    with disk.room_for(0 if disk.mounted else len(line)), pytest.raises(SinkUnavailableError):
        sink.deliver([event] * 20)
    assert path.read_bytes() == line
    sink.deliver([event])
    sink.close()
    assert path.read_bytes() == 2 * line


def test_a_share_that_flushes_no_folders_takes_events(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, event: Event
) -> None:
    real = os.fsync

    def fsync(number: int) -> None:
        if Path(f"/proc/self/fd/{number}").resolve().is_dir():
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        real(number)

    monkeypatch.setattr(os, "fsync", fsync)
    sink = JsonLinesSink(tmp_path / "events.jsonl")
    sink.deliver([event])
    sink.close()
    assert (tmp_path / "events.jsonl").read_text(encoding="utf-8").count("\n") == 1
