"""What a release says of its engines: graphs, recipes, and the clips that they are judged by."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fgmclip.export.configs import parse_config
from fgmclip.export.errors import RepositoryError
from fgmclip.export.gate_folder import GATE_FOLDER, GateFolder, read_gate_folder
from fgmclip.export.names import PARTS, Part, step_name
from fgmclip.export.repository import Repository
from fgmclip.serve.runtimes.libraries import LibraryName
from fgmclip.serve.runtimes.recipe import RECIPE_FILE, Recipe, read_recipe
from fgmclip.serve.steps.classify import ClassifyStep
from fgmclip.serve.steps.step import StepConfig


@dataclass(frozen=True, slots=True)
class Released:
    """The active release of a repository, as far as engines are concerned.

    Attributes:
        path: The repository.
        release: Its number.
        recipes: Of each submodule.
    """

    path: Path
    release: int
    recipes: dict[Part, Recipe]

    @property
    def library(self) -> LibraryName:
        """The library that all its recipes name."""
        return next(iter(self.recipes.values())).library

    def version(self, step: str) -> Path:
        """Return the version folder of a step."""
        return self.path / step_name(step, self.release) / "1"

    @property
    def labels(self) -> tuple[str, ...]:
        """Name of each class.

        Raises:
            RepositoryError: The release's manifest is missing or damaged.
        """
        return Repository(self.path).manifest(self.release).public.spec.labels

    def classify(self, embedding: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return LOGITS [B,C] of EMBEDDING [B,H], as the server computes them."""
        version = self.version("classify")
        config = parse_config((version.parent / "config.pbtxt").read_text(encoding="utf-8"))
        parameters = {key: value.string_value for key, value in config.parameters.items()}
        step = ClassifyStep(StepConfig(version, parameters, ("EMBEDDING",), ("LOGITS",)))
        logits: NDArray[np.float32] = step.answer({"EMBEDDING": embedding}, {})["LOGITS"]
        return logits

    def gate(self) -> GateFolder:
        """Read the clips, PyTorch's outputs and the thresholds.

        Raises:
            RepositoryError: They are missing or damaged.
        """
        return read_gate_folder(self.version("classify").parent / GATE_FOLDER)


def active_release(path: Path) -> int:
    """Return the number of the one release that a repository serves.

    Raises:
        RepositoryError: The directory is no repository, or serves no release or several.
    """
    repository = Repository(path)
    repository.releases()
    active = sorted(set(repository.active().values()))
    if len(active) != 1:
        came = ", ".join(f"r{release}" for release in active) or "none"
        raise RepositoryError(
            f"{path}: expected one active release, got {came}; choose it with "
            f"'fgmclip repo activate {path} RELEASE'"
        )
    return active[0]


def read_released(path: Path) -> Released:
    """Read the recipes of a repository's active release.

    Raises:
        RepositoryError: There is none, it was not exported for TensorRT, or not by this version.
    """
    release = active_release(path)
    # Ahead of minutes of building: a release of another format cannot be judged.
    Repository(path).manifest(release)
    recipes: dict[Part, Recipe] = {}
    for part in PARTS:
        file = path / step_name(part, release) / "1" / RECIPE_FILE
        if file.is_file():
            try:
                recipes[part] = read_recipe(file)
            except ValueError as error:
                raise RepositoryError(str(error)) from error
    if len({recipe.library for recipe in recipes.values()}) != 1:
        raise RepositoryError(
            f"{path}: expected {RECIPE_FILE} of one library in the steps of r{release}, got "
            f"{'several libraries' if recipes else 'none'}; export the checkpoint again with "
            "--target tensorrt or --target rtx"
        )
    return Released(path, release, recipes)
