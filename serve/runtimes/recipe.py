"""What an engine is to be built from and how: `recipe.json` beside a step's graph.

Written by export, read where an engine is built and where one is chosen. Standard library only:
a release's steps run in a container without pydantic.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from fgmclip.serve.runtimes.libraries import LIBRARIES, LibraryName

FORMAT = 1
RECIPE_FILE = "recipe.json"

Rest = Literal["fp32", "fp16", "bf16"]
Precision = Literal["fp32", "fp16", "bf16", "int8"]


@dataclass(frozen=True)
class Recipe:
    """How the engine of one step is built.

    Attributes:
        part: Name of the submodule.
        library: `tensorrt` or `rtx`.
        precision: `fp32`, `fp16`, `bf16` or `int8`.
        rest: What an int8 graph's unquantised nodes compute in; equals `precision` otherwise.
        keep: Names of nodes that stay fp32.
        max_batch: Largest batch of the engine's one profile; the smallest is 1.
        onnx_sha256: Hash of the graph beside the recipe.
        model_tag: Tag of the release's model.
    """

    part: str
    library: LibraryName
    precision: Precision
    rest: Rest
    keep: tuple[str, ...]
    max_batch: int
    onnx_sha256: str
    model_tag: str

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ValueError: One is not of those known.
        """
        for name, known in (
            ("library", LIBRARIES),
            ("precision", get_args(Precision)),
            ("rest", get_args(Rest)),
        ):
            if getattr(self, name) not in known:
                raise _fault(name, " or ".join(known), getattr(self, name))
        if self.precision != "int8" and self.rest != self.precision:
            raise _fault("rest", f"{self.precision}, the precision itself", self.rest)
        for name in ("part", "onnx_sha256", "model_tag"):
            if not isinstance(getattr(self, name), str):
                raise _fault(name, "a text", getattr(self, name))
        if type(self.max_batch) is not int or self.max_batch < 1:
            raise _fault("max_batch", "a whole number from 1 on", self.max_batch)
        if not all(isinstance(name, str) for name in self.keep):
            raise _fault("keep", "names of nodes", self.keep)

    def to_json(self) -> str:
        """Return the recipe as `recipe.json` holds it."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=2) + "\n"


def read_recipe(path: Path) -> Recipe:
    """Read a recipe.

    Args:
        path: The `recipe.json`.

    Raises:
        ValueError: The file is missing, unreadable, of another format or holds other fields.
    """
    try:
        values: Any = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{path}: expected a recipe in JSON, got '{error}'; export the release again"
        ) from error
    try:
        return _recipe(values)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _recipe(values: Any) -> Recipe:
    if not isinstance(values, dict):
        raise _fault("recipe", "an object", values)
    if values.get("format") != FORMAT:
        raise ValueError(
            f"format: expected {FORMAT}, got {values.get('format')!r}; use the fgmclip that "
            "exported this release, or export the release again"
        )
    given = {name: value for name, value in values.items() if name != "format"}
    names = {field.name for field in fields(Recipe)}
    if set(given) != names:
        raise _fault("fields", ", ".join(sorted(names)), ", ".join(sorted(given)))
    if not isinstance(given["keep"], list):
        raise _fault("keep", "a list of names", given["keep"])
    return Recipe(**{**given, "keep": tuple(given["keep"])})


def _fault(name: str, expected: str, came: object) -> ValueError:
    return ValueError(f"{name}: expected {expected}, got {came!r}; export the release again")
