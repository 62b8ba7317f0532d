"""What a repository directory offers to clients: its ensembles and the steps they name."""

from __future__ import annotations

import compileall
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.json_format import MessageToJson
from google.protobuf.text_format import Parse, ParseError
from tritonclient.grpc import model_config_pb2

from fgmclip.serve.errors import RepositoryError
from fgmclip.storage.plain import is_plain
from fgmclip.storage.text import read_text

_RELEASE = re.compile(r"__(r\d+)$")


@dataclass(frozen=True, slots=True)
class Ensemble:
    """A public model of a repository.

    Attributes:
        name: Name of its folder, which is that of the model.
        config: Text of its `config.pbtxt`.
        steps: Names of the models that it runs, each once, in order.
    """

    name: str
    config: str
    steps: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RepositoryState:
    """What lies in a repository.

    Attributes:
        ensembles: Those that can be served, by name.
        damaged: What is wrong with the folders that look like an ensemble and are none.
    """

    ensembles: dict[str, Ensemble]
    damaged: tuple[str, ...]


def read_repository(repository: Path) -> RepositoryState:
    """Return what a repository holds.

    Raises:
        RepositoryError: It is no directory, cannot be read, or no ensemble is in it.
    """
    found: dict[str, Ensemble] = {}
    damaged = []
    for path in _configs(repository):
        try:
            ensemble = _read_ensemble(path)
        except FileNotFoundError:
            continue
        except (OSError, ParseError, ValueError) as error:
            reason = " ".join(str(error).removeprefix(f"{path}: ").split())
            damaged.append(f"{path.parent.name}/config.pbtxt is unreadable: {reason}")
            continue
        if ensemble is None:
            continue
        odd = [name for name in (ensemble.name, *ensemble.steps) if not is_plain(name)]
        if odd:
            damaged.append(
                f"{path.parent.name}/config.pbtxt names {odd[0]!r}: expected letters, digits and "
                "_ . - alone, because Triton puts the name into a shell line"
            )
            continue
        found[ensemble.name] = ensemble
    if not found:
        detail = "; ".join(damaged) or "there is none"
        raise RepositoryError(
            f"{repository}: expected at least one ensemble ({detail}); publish a release with "
            f"'fgmclip export CHECKPOINT --repository {repository}'"
        )
    return RepositoryState(found, tuple(damaged))


def steps_of(ensembles: Iterable[Ensemble]) -> dict[str, None]:
    """Return the steps that the ensembles name, each once, in order."""
    return {step: None for ensemble in ensembles for step in ensemble.steps}


def runs_in_python(repository: Path, step: str) -> bool:
    """Return whether a process of its own runs a step; False where its config cannot be read."""
    try:
        text = read_text(repository / step / "config.pbtxt")
        config = Parse(text, model_config_pb2.ModelConfig(), allow_unknown_field=True)
    except (OSError, ParseError):
        return False
    return bool(config.backend == "python")


def releases_of(ensembles: Iterable[Ensemble]) -> str:
    """Return the releases whose steps the ensembles name, for people: `r7`."""
    found = {match[1]: None for step in steps_of(ensembles) if (match := _RELEASE.search(step))}
    return ", ".join(sorted(found, key=lambda name: int(name[1:]))) or "unnumbered steps"


def proof_of(repository: Path, ensemble: Ensemble, name: str) -> tuple[str, dict[str, bytes]]:
    """Return an ensemble's config as JSON under another name, and the files that it names.

    Raises:
        OSError: A file that it names cannot be read.
    """
    config = Parse(ensemble.config, model_config_pb2.ModelConfig(), allow_unknown_field=True)
    config.name = name
    labels = {output.label_filename for output in config.output if output.label_filename}
    files = {path: (repository / ensemble.name / path).read_bytes() for path in labels}
    return MessageToJson(config, preserving_proto_field_name=True), files


def compile_steps(repository: Path, steps: Iterable[str]) -> None:
    """Write the byte code that Python would write into the steps' folders when they load.

    A version folder that gains a `__pycache__` looks modified to Triton, which would load every
    step a second time as soon as its ensemble is loaded. Triton's stub ignores the variables that
    tell Python to write none.
    """
    for step in steps:
        compileall.compile_dir(repository / step, quiet=2)


def _configs(repository: Path) -> list[Path]:
    try:
        if repository.is_dir():
            return sorted(repository.glob("*/config.pbtxt"))
    except OSError as error:
        raise RepositoryError(
            f"{repository}: expected a repository directory that can be read ({error}); mount it "
            "again or give this user the right to read it"
        ) from error
    raise RepositoryError(
        f"{repository}: expected a repository directory; make one with "
        f"'fgmclip export CHECKPOINT --repository {repository}'"
    )


def _read_ensemble(path: Path) -> Ensemble | None:
    text = read_text(path)
    # A newer Triton's config may hold fields that this client's schema does not know.
    config = Parse(text, model_config_pb2.ModelConfig(), allow_unknown_field=True)
    if config.platform != "ensemble":
        return None
    steps = dict.fromkeys(step.model_name for step in config.ensemble_scheduling.step)
    return Ensemble(path.parent.name, text, tuple(steps))
