"""Publication: at every moment each ensemble names one complete release."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fgmclip.cli import main
from fgmclip.export import repository as repository_module
from fgmclip.export.configs import ensemble_parameters, format_config, model_config
from fgmclip.export.errors import BusyError, RepositoryError
from fgmclip.export.manifest import ReleaseManifest, folder_hashes
from fgmclip.export.names import ENSEMBLES, STEPS, step_name, step_release
from fgmclip.export.repository import Repository
from fgmclip.spec import Limits, PublicManifest, preset

SPEC = preset("demo")


def publish(repository: Repository, *, until: Callable[[int], None] = lambda count: None) -> int:
    """Publish a release of text files; `until` may raise as the n-th folder is staged."""
    with repository.lock():
        repository.sweep()
        release = repository.next_release()
        repository.staging.mkdir(parents=True)
        for count, step in enumerate(STEPS):
            until(count)
            folder = repository.staging / step_name(step, release)
            (folder / "1").mkdir(parents=True)
            (folder / "config.pbtxt").write_text(f"release {release}", encoding="utf-8")
        public = PublicManifest(
            release=release,
            model_tag="m",
            embedding_tag="e",
            precision="fp32",
            dt=SPEC.clip.dt,
            spec=SPEC,
            limits=Limits(),
        )
        repository.publish(
            ReleaseManifest(
                public=public,
                target="cpu",
                precision_asked="fp32",
                precision_built={},
                created="2026-01-01T00:00:00+00:00",
                tools={},
                files={
                    name: digest
                    for folder in repository.staging.iterdir()
                    for name, digest in folder_hashes(folder, folder.name).items()
                },
                ensembles={
                    name: format_config(
                        model_config(name, SPEC, release, ensemble_parameters(public))
                    )
                    for name in ENSEMBLES
                },
            )
        )
    return release


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
    assert (repository.path / "fgm_clip" / "labels-r2.txt").read_text(
        encoding="utf-8"
    ).split() == list(SPEC.labels)


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


@pytest.mark.parametrize("renames", range(12))
def test_a_failure_at_any_rename_leaves_complete_releases(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, renames: int
) -> None:
    publish(repository)
    left = renames

    def counted(original: Callable[..., Any]) -> Callable[..., Any]:
        def rename(self: Path, target: Path) -> Path:
            nonlocal left
            if left == 0:
                raise KeyboardInterrupt
            left -= 1
            renamed: Path = original(self, target)
            return renamed

        return rename

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", counted(Path.rename))
        patched.setattr(Path, "replace", counted(Path.replace))
        with contextlib.suppress(KeyboardInterrupt):
            publish(repository)
    assert_serves_complete_releases(repository)
    newest = publish(repository)
    assert repository.active() == dict.fromkeys(ENSEMBLES, newest)
    folders = {step_release(path.name) for path in repository.path.iterdir()} - {None}
    assert folders == set(repository.releases())
    hidden = {path.name for path in repository.path.rglob(".*")}
    assert hidden <= {".fgmclip.lock", ".gitkeep"}


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


def _hold(path: Path, ready: Any, done: Any) -> None:
    with Repository(path).lock():
        ready.set()
        done.wait(20)


def test_two_publishers_do_not_meet(repository: Repository) -> None:
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(repository.path, ready, done))
    other.start()
    assert ready.wait(20)
    with pytest.raises(BusyError, match="another process is publishing"), repository.lock():
        pass
    done.set()
    other.join()
    publish(repository)


def test_what_a_release_names_is_on_the_disk_before_it_is_named(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: set[str] = set()
    real = os.fsync
    write = repository_module._write_atomically

    def fsync(number: int) -> None:
        flushed.add(Path(f"/proc/self/fd/{number}").resolve().name)
        real(number)

    def written(path: Path, text: str) -> None:
        if path.name == "manifest-r1.json":
            steps = {step_name(step, 1) for step in STEPS}
            assert {*steps, "config.pbtxt", "1"} <= flushed
        write(path, text)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(repository_module, "_write_atomically", written)
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
