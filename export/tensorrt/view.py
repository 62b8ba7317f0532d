"""A view of a repository: links to it, and the tensorrt backend where an engine was proven here.

A release is not changed by the machines that serve it, which may be many and read it together; what
each of them proved is its own. So Triton gets a repository of its own, made of links: a step is
the release's folder, or one with the release's own `configs/tensorrt.pbtxt` and a link to
the engine in the cache.

A running server may read the view while it is renewed: each step is one link, replaced by a rename,
and the ensembles, which name the steps, come last.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from fgmclip.export.configs import parse_config
from fgmclip.export.errors import RepositoryError
from fgmclip.export.names import ENSEMBLES, PARTS, STEPS, labels_name, step_name, step_release
from fgmclip.export.repository import Repository
from fgmclip.export.targets import ALTERNATIVE_CONFIG, ENGINE_FILE, PLAN_FILE
from fgmclip.export.tensorrt.released import active_release
from fgmclip.serve.runtimes.proof import cache_folder
from fgmclip.serve.runtimes.proven import Here, choose_engine
from fgmclip.serve.runtimes.recipe import RECIPE_FILE, read_recipe
from fgmclip.storage.atomic import (
    ABANDONED_SECONDS,
    making_folder,
    remove_temporaries,
    replacing,
    write_text,
)

MARKER = ".fgmclip-view"
"""File that tells a view, which may be renewed, from a folder that is somebody's own."""

ENGINES = ".engines"
"""Folder of steps with an engine, inside an ensemble's: Triton takes every folder of a repository
for a model, but inside a model's looks at numbered ones alone."""

ORDINAL = 0
"""The GPU that engines were proven on, as CUDA counts."""


@dataclass(frozen=True)
class ViewedStep:
    """What serves one step.

    Attributes:
        step: Name of its model in Triton.
        backend: Of Triton.
        why: What was proven, or why it is as in the release; empty of steps that have no engine.
    """

    step: str
    backend: str
    why: str = ""

    @property
    def line(self) -> str:
        """The same for people."""
        return f"{self.step}: {self.backend}{f', {self.why}' if self.why else ''}"

    def to_json(self) -> dict[str, str]:
        """Return the fields."""
        return asdict(self)


def make_view(source: Path, view: Path) -> list[ViewedStep]:
    """Make or renew a view of a repository's active release.

    Args:
        source: The repository.
        view: The folder of links.

    Returns:
        What serves each step.

    Raises:
        RepositoryError: The repository has no active release, a recipe is damaged, or the folder
            holds something else.
    """
    # Not `resolve`, which knows no OSError for links in a circle before Python 3.13.
    source, view = Path(os.path.realpath(source)), view.absolute()
    release = active_release(source)
    target = Repository(source).manifest(release).target
    if target != "tensorrt":
        raise RepositoryError(
            f"{source}: expected a release of target tensorrt, got r{release} of {target}, which "
            "Triton serves as it is; start it there, or export with --target tensorrt"
        )
    _claim(view)
    steps = []
    for step in STEPS:
        name = step_name(step, release)
        folder = source / name
        if not folder.is_dir():
            continue
        engine, why = _proven_engine(folder) if step in PARTS else (None, "")
        _link(view / name, folder if engine is None else _engine_step(view, folder, engine))
        backend = parse_config((view / name / "config.pbtxt").read_text(encoding="utf-8")).backend
        steps.append(ViewedStep(name, backend, why))
    _publish_ensembles(source, view, release)
    _sweep(view, {step.step for step in steps})
    return steps


def _claim(view: Path) -> None:
    """Make the folder, or refuse one that is no view."""
    if view.exists() and any(view.iterdir()) and not (view / MARKER).is_file():
        raise RepositoryError(
            f"{view}: expected a new or empty folder, or an earlier view, got something else; name "
            "another with --out"
        )
    view.mkdir(parents=True, exist_ok=True)
    (view / MARKER).touch()
    for folder in (view, *(view / name for name in ENSEMBLES)):
        remove_temporaries(folder, abandoned_seconds=ABANDONED_SECONDS)


def _proven_engine(folder: Path) -> tuple[Path | None, str]:
    """Return the engine that a step may run in Triton's tensorrt backend, and why it is so."""
    version = folder / "1"
    try:
        recipe = read_recipe(version / RECIPE_FILE)
    except ValueError as error:
        raise RepositoryError(str(error)) from error
    here = Here.look(recipe, ORDINAL)
    choice = choose_engine(version / ENGINE_FILE, recipe, here, cache_folder())
    return choice.engine, choice.why


def _engine_step(view: Path, folder: Path, engine: Path) -> Path:
    """Return a folder that serves a step by its engine; made once for each engine."""
    made = view / ENSEMBLES[0] / ENGINES / f"{folder.name}-{engine.parent.name}"
    if not made.is_dir():
        made.parent.mkdir(parents=True, exist_ok=True)
        with making_folder(made) as new:
            (new / "1").mkdir()
            shutil.copy(folder / ALTERNATIVE_CONFIG, new / "config.pbtxt")
            (new / "1" / PLAN_FILE).symlink_to(engine.resolve())
    # Relative, so that a view may be mounted under another path.
    return made.relative_to(view)


def _link(link: Path, target: Path) -> None:
    # Triton would take a link beside this one for a model.
    aside = link.parent / ENSEMBLES[0]
    aside.mkdir(exist_ok=True)
    with replacing(link, aside=aside) as temporary:
        temporary.symlink_to(target)


def _publish_ensembles(source: Path, view: Path, release: int) -> None:
    """Copy the ensembles: those of the repository may name another release any moment."""
    manifest = Repository(source).manifest(release)
    labels = "".join(f"{label}\n" for label in manifest.public.spec.labels)
    for ensemble, config in manifest.ensembles.items():
        folder = view / ensemble
        (folder / "1").mkdir(parents=True, exist_ok=True)
        write_text(folder / labels_name(release), labels)
        write_text(folder / "config.pbtxt", config)


def _sweep(view: Path, steps: set[str]) -> None:
    """Remove links, labels and engine steps that no ensemble names any more."""
    used = {os.path.realpath(view / step) for step in steps}
    for path in view.iterdir():
        if path.is_symlink() and step_release(path.name) is not None and path.name not in steps:
            path.unlink()
    engines = view / ENSEMBLES[0] / ENGINES
    if engines.is_dir():
        for path in engines.iterdir():
            if str(path.resolve()) not in used:
                shutil.rmtree(path)
    releases = {step_release(step) for step in steps}
    for ensemble in ENSEMBLES:
        for path in (view / ensemble).glob("labels-r*.txt"):
            if path.name not in {labels_name(release) for release in releases if release}:
                path.unlink()
