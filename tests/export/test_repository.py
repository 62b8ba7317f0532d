"""Publication: at every moment each ensemble names one complete release."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fgmclip.cli import main
from fgmclip.export.commands import run_activate, run_prune
from fgmclip.export.configs import ensemble_parameters, format_config, model_config
from fgmclip.export.errors import BusyError, RepositoryError
from fgmclip.export.manifest import ReleaseManifest, folder_hashes
from fgmclip.export.names import ENSEMBLES, STEPS, beside_release, step_name, step_release
from fgmclip.export.repository import Repository
from fgmclip.spec import Limits, PublicManifest, preset

SPEC = preset("demo")


def publish(repository: Repository, *, until: Callable[[int], None] = lambda count: None) -> int:
    """Publish a release of text files; `until` may raise as the n-th folder is staged."""
    with repository.reserve() as reserved:
        release, steps = reserved.release, reserved.steps
        for count, step in enumerate(STEPS):
            until(count)
            folder = steps / step_name(step, release)
            (folder / "1").mkdir(parents=True)
            (folder / "config.pbtxt").write_text(f"release {release}", encoding="utf-8")
        repository.publish(manifest(release, steps), steps, f"# Gate of r{release}")
    return release


def manifest(release: int, steps: Path) -> ReleaseManifest:
    """Return the manifest of a release of what is staged."""
    public = PublicManifest(
        release=release,
        model_tag="m",
        embedding_tag="e",
        precision="fp32",
        dt=SPEC.clip.dt,
        spec=SPEC,
        limits=Limits(),
    )
    return ReleaseManifest(
        public=public,
        target="cpu",
        precision_asked="fp32",
        precision_built={},
        created="2026-01-01T00:00:00+00:00",
        tools={},
        files={
            name: digest
            for folder in steps.iterdir()
            for name, digest in folder_hashes(folder, folder.name).items()
        },
        ensembles={
            name: format_config(model_config(name, SPEC, release, ensemble_parameters(public)))
            for name in ENSEMBLES
        },
    )


def assert_serves_complete_releases(repository: Repository) -> None:
    for release in repository.active().values():
        manifest = repository.manifest(release)
        assert all((repository.path / name).is_file() for name in manifest.files)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repository")


def test_each_publication_is_the_next_release(repository: Repository) -> None:
    assert [publish(repository), publish(repository)] == [1, 2]
    assert repository.releases() == [1, 2]
    assert repository.active() == dict.fromkeys(ENSEMBLES, 2)
    labels = (repository.path / "fgm_clip" / "labels-r2.txt").read_text(encoding="utf-8")
    assert labels.split() == list(SPEC.labels)


def test_a_failure_while_staging_leaves_the_old_release(repository: Repository) -> None:
    publish(repository)

    def fail(count: int) -> None:
        if count == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        publish(repository, until=fail)
    assert repository.active() == dict.fromkeys(ENSEMBLES, 1)
    assert publish(repository) == 2
    assert not repository.staging.exists()


class Interrupted(BaseException):
    """Ends a publication at some point."""


def fail_at_rename(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    left = count

    def counted(original: Callable[..., Any]) -> Callable[..., Any]:
        def rename(self: Path, target: Path) -> Path:
            nonlocal left
            if left == 0:
                raise Interrupted
            left -= 1
            renamed: Path = original(self, target)
            return renamed

        return rename

    monkeypatch.setattr(Path, "rename", counted(Path.rename))
    monkeypatch.setattr(Path, "replace", counted(Path.replace))


RENAMES = 7 + 2 + 3 + 3
"""Of a publication: steps, gate report and manifest, labels and configs of the ensembles."""


@pytest.mark.parametrize("renames", range(RENAMES))
def test_a_publication_killed_at_any_rename_leaves_complete_releases(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, renames: int
) -> None:
    publish(repository)
    with monkeypatch.context() as patched:
        fail_at_rename(patched, renames)
        # A killed process tidies nothing up.
        patched.setattr(Repository, "_remove", lambda *_: None)
        patched.setattr(Repository, "_give_back", lambda *_: None)
        patched.setattr(Path, "unlink", lambda *_, **__: None)
        with pytest.raises(Interrupted):
            publish(repository)
    assert_serves_complete_releases(repository)
    newest = publish(repository)
    assert repository.active() == dict.fromkeys(ENSEMBLES, newest)
    assert_holds_releases_alone(repository)


@pytest.mark.parametrize("renames", range(RENAMES))
def test_a_publication_that_fails_at_any_rename_leaves_nothing_of_what_does_not_serve(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, renames: int
) -> None:
    publish(repository)
    with monkeypatch.context() as patched:
        fail_at_rename(patched, renames)
        with pytest.raises(Interrupted):
            publish(repository)
    assert_serves_complete_releases(repository)
    assert_holds_releases_alone(repository)
    # From the first ensemble on that serves it, the release is there.
    assert repository.releases() == ([1] if renames <= RENAMES - 3 else [1, 2])
    assert repository.releases()[-1] == max(repository.active().values())


def assert_holds_releases_alone(repository: Repository) -> None:
    releases = set(repository.releases())
    folders = {step_release(path.name) for path in repository.path.iterdir()} - {None}
    assert folders == releases
    beside = {beside_release(path.name) for path in repository.path.rglob("*")} - {None}
    assert beside == releases
    hidden = {path.name for path in repository.path.rglob(".*")}
    assert hidden <= {".fgmclip.lock", ".gitkeep"}


def test_a_first_export_that_fails_leaves_no_ensemble(repository: Repository) -> None:
    def fail(count: int) -> None:
        raise Interrupted

    with pytest.raises(Interrupted):
        publish(repository, until=fail)
    # Triton would not start over an ensemble without a config.
    assert [path.name for path in repository.path.iterdir()] == [".fgmclip.lock"]


def test_a_changed_file_is_not_activated(repository: Repository) -> None:
    publish(repository)
    publish(repository)
    (repository.path / "window__r1" / "config.pbtxt").write_text("changed", encoding="utf-8")
    with pytest.raises(RepositoryError, match=r"window__r1/config\.pbtxt: expected the file"):
        repository.activate(1)
    assert repository.active() == dict.fromkeys(ENSEMBLES, 2)


def test_an_old_release_can_be_activated_again(repository: Repository) -> None:
    publish(repository)
    publish(repository)
    repository.activate(1)
    assert repository.active() == dict.fromkeys(ENSEMBLES, 1)
    assert publish(repository) == 3


def test_prune_keeps_what_serves(repository: Repository) -> None:
    for _ in range(4):
        publish(repository)
    repository.activate(1)
    assert repository.prune(1) == [2, 3]
    assert repository.releases() == [1, 4]
    folders = {step_release(path.name) for path in repository.path.iterdir()} - {None}
    assert folders == {1, 4}
    assert repository.prune(0) == [4]


def test_an_unknown_format_is_refused_with_the_remedy(repository: Repository) -> None:
    publish(repository)
    path = repository.path / "manifest-r1.json"
    path.write_text(
        json.dumps(json.loads(path.read_text(encoding="utf-8")) | {"format": 1}), encoding="utf-8"
    )
    with pytest.raises(RepositoryError, match="export the release again with this version"):
        repository.manifest(1)


def test_a_release_is_published_over_one_of_another_format(repository: Repository) -> None:
    publish(repository)
    for path in (
        repository.path / "manifest-r1.json",
        *(repository.path / name / "config.pbtxt" for name in ENSEMBLES),
    ):
        text = path.read_text(encoding="utf-8")
        path.write_text(re.sub(r'(format\\?": ?)2', r"\g<1>1", text), encoding="utf-8")
        assert path.read_text(encoding="utf-8") != text
    assert publish(repository) == 2
    assert repository.active() == dict.fromkeys(ENSEMBLES, 2)
    assert repository.prune(1) == [1]


def test_a_folder_that_is_no_repository_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match="expected a repository directory"):
        Repository(tmp_path / "absent").releases()


def test_two_publishers_do_not_meet(repository: Repository) -> None:
    with (
        repository.lock(),
        pytest.raises(BusyError, match="another process is publishing"),
        Repository(repository.path).lock(0),
    ):
        pass
    publish(repository)


def test_a_rollback_waits_for_no_export(repository: Repository) -> None:
    publish(repository)
    publish(repository)
    with repository.reserve():
        run_activate(repository.path, 1, as_json=True, console=Console())
    assert repository.active() == dict.fromkeys(ENSEMBLES, 1)


def test_two_exports_at_once_publish_both(repository: Repository) -> None:
    publish(repository)
    during: list[int] = []
    outer = publish(
        repository,
        until=lambda count: during.append(publish(repository)) if count == 3 else None,
    )
    assert (outer, during) == (2, [3])
    assert repository.releases() == [1, 2, 3]
    # Who ends last serves.
    assert repository.active() == dict.fromkeys(ENSEMBLES, 2)
    assert publish(repository) == 4
    assert_holds_releases_alone(repository)


def _reserve_and_die(path: Path) -> None:
    with Repository(path).reserve() as reserved:
        (reserved.steps / "half").mkdir()
        os._exit(0)


@pytest.mark.parametrize("way", ["export", "prune"])
def test_what_a_killed_export_left_goes_with_the_next_export_or_prune(
    repository: Repository, way: str
) -> None:
    publish(repository)
    (repository.path / "gate-r2.md").write_text("of one that was killed", encoding="utf-8")
    process = multiprocessing.get_context("spawn").Process(
        target=_reserve_and_die, args=(repository.path,)
    )
    process.start()
    process.join()
    left = repository.staging / "r2" / "steps" / "half"
    assert left.is_dir()
    if way == "prune":
        run_prune(repository.path, 9, as_json=True, console=Console())
    else:
        publish(repository)
    assert not left.exists()
    assert_holds_releases_alone(repository)


def test_a_running_export_is_not_swept(repository: Repository) -> None:
    publish(repository)
    with repository.reserve() as reserved:
        assert repository.prune(2) == []
        assert reserved.steps.is_dir()


def test_what_a_release_names_is_on_the_disk_before_it_is_named(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: set[str] = set()
    real, move = os.fsync, Path.replace

    def fsync(number: int) -> None:
        flushed.add(Path(f"/proc/self/fd/{number}").resolve().name)
        real(number)

    def replace(self: Path, target: Path) -> Path:
        if target.name == "manifest-r1.json":
            steps = {step_name(step, 1) for step in STEPS}
            assert {*steps, "config.pbtxt", "1", self.name} <= flushed
        return move(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replace)
    publish(repository)
    assert "manifest-r1.json" in {path.name for path in repository.path.iterdir()}


@pytest.mark.parametrize("words", [["prune"], ["activate"]])
def test_a_mistyped_directory_is_refused_and_not_made(
    tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "modles"
    release = ["1"] if words == ["activate"] else []
    assert main(["repo", *words, str(path), *release]) == 1
    assert "expected a repository directory" in capsys.readouterr().err
    assert not path.exists()


def test_a_model_of_someone_else_is_not_swept_away(repository: Repository) -> None:
    publish(repository)
    own = repository.path / "detector__r7" / "1"
    own.mkdir(parents=True)
    assert publish(repository) == 2
    assert own.is_dir()
