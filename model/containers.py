"""Which tensors of a file are its weights: one rule for checkpoints and encoders alike.

1. A container is a mapping that holds tensors by name, under one of the names in `PLAIN` or
   `AVERAGED`, alone or nested, or the top level of the file. One without tensors (None, `{}`, the
   settings of an average) is none.
2. Averaged weights come before the last ones: containers in `AVERAGED` before those in `PLAIN`
   before the top level, in the order of the lists; inside one, keys that begin with a name in
   `AVERAGED` before all others. mmengine swaps the two when it saves: in its files `state_dict`
   holds the averages and comes first.
3. Names that wrappers put into keys are taken off: any of `PLAIN`, `AVERAGED` and `_FRONT` before a
   key, those of `_ANYWHERE` anywhere in it.

What is beside the chosen weights is left, and said; among them nothing is ignored but what
averaging counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from fgmclip.model.bystanders import Array
from fgmclip.model.errors import UnreadableError, WeightsError
from fgmclip.spec.errors import listed

AVERAGED = (
    "ema", "model_ema", "ema_model", "state_dict_ema", "ema_state_dict", "model_ema_state_dict",
    "ema_model_state_dict", "ema_weights", "averaged_model", "swa_model", "swa_state_dict",
)  # fmt: skip
"""Names of averaged weights."""

PLAIN = (
    "state_dict", "model_state_dict", "model_state", "model", "module", "net", "network", "weights"
)  # fmt: skip
"""Names of the weights after the last step."""

_FRONT = ("clip", "clip_model")
_ANYWHERE = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
_BEFORE = frozenset((*AVERAGED, *PLAIN, *_FRONT, *_ANYWHERE))
# What averaging wrappers count beside the weights.
_COUNTED = ("n_averaged", "initted", "step", "steps", "decay", "num_updates", "updates")
_DEEPEST = 5


@dataclass(frozen=True, slots=True)
class Container:
    """Weights in a file.

    Attributes:
        name: What it is called: `` `ema` ``, or `the top level`.
        averaged: Whether it is known to hold averages.
        tensors: By key, without wrappers.
        notes: What has to be said about the choice, a clause each.
    """

    name: str
    averaged: bool
    tensors: dict[str, Tensor]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Found:
    words: tuple[str, ...]
    tensors: dict[str, Tensor]
    averaged: bool

    @property
    def name(self) -> str:
        return f"`{'.'.join(self.words)}`" if self.words else "the top level"

    @property
    def rank(self) -> tuple[bool, bool, int, int]:
        order = AVERAGED + PLAIN
        first = min((order.index(word) for word in self.words if word in order), default=len(order))
        return not self.averaged, not self.words, first, len(self.words)


def choose(content: object, path: Path) -> Container:
    """Return the weights of what a file holds, by the rule of this module.

    Args:
        content: What was read; mappings, tensors and other things.
        path: The file, for errors.

    Raises:
        UnreadableError: It holds no weights by name.
        WeightsError: Two keys become one without their wrappers.
    """
    mappings = list(_mappings(content))
    swapped = _swapped_by_mmengine(content)
    found = sorted(_containers(mappings, swapped), key=lambda item: item.rank)
    if not found:
        raise UnreadableError(path, _nothing(content, mappings))
    first, *others = found
    averages = _averages(first.tensors)
    keys = averages or first.tensors
    left = len(first.tensors) - len(keys)
    notes = []
    if swapped:
        notes.append("mmengine keeps its averages there")
    if left:
        notes.append(f"left {left} tensors of it that are no averages")
    if others:
        rest = [f"{item.name} ({len(item.tensors)})" for item in others]
        notes.append(f"left {listed(rest)}")
    notes += [
        f"{name} holds averages without names, which cannot be taken; write them into the model "
        "before it is saved"
        for name in _nameless(mappings)
    ]
    tensors = _stripped(keys, path)
    return Container(first.name, first.averaged or bool(averages), tensors, tuple(notes))


def _mappings(
    content: object, words: tuple[str, ...] = (), seen: set[int] | None = None
) -> Iterator[tuple[tuple[str, ...], Mapping[Any, Any]]]:
    """Walk through nested mappings, each once: a pickle may hold itself."""
    seen = set() if seen is None else seen
    if not isinstance(content, Mapping) or id(content) in seen or len(words) > _DEEPEST:
        return
    seen.add(id(content))
    yield words, content
    for name, value in content.items():
        if isinstance(name, str):
            yield from _mappings(value, (*words, name), seen)


def _containers(
    mappings: list[tuple[tuple[str, ...], Mapping[Any, Any]]], swapped: bool
) -> Iterator[_Found]:
    for words, mapping in mappings:
        averages = [index for index, word in enumerate(words) if word.lower() in AVERAGED]
        # An average may stand anywhere, in the state of a callback for one.
        known = words[averages[0] + 1 :] if averages else words
        if not all(word in PLAIN or word in AVERAGED for word in known):
            continue
        if tensors := _tensors(mapping):
            averaged = words[:1] == ("state_dict",) if swapped else bool(averages)
            yield _Found(words, tensors, averaged)


def _tensors(mapping: Mapping[Any, Any]) -> dict[str, Tensor]:
    tensors = {}
    for key, value in mapping.items():
        came = value.tensor() if isinstance(value, Array) else value
        if isinstance(key, str) and isinstance(came, Tensor) and _peeled(key)[1] not in _COUNTED:
            tensors[key] = came
    return tensors


def _swapped_by_mmengine(content: object) -> bool:
    if not isinstance(content, Mapping):
        return False
    last = content.get("ema_state_dict")
    if not isinstance(last, Mapping) or not isinstance(content.get("state_dict"), Mapping):
        return False
    meta = content.get("meta")
    return "steps" in last or (isinstance(meta, Mapping) and "mmengine_version" in meta)


def _averages(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose keys say that they are averages."""
    return {
        key: value
        for key, value in tensors.items()
        if any(word in AVERAGED for word in _peeled(key)[0])
    }


def _peeled(key: str) -> tuple[tuple[str, ...], str]:
    """Return the wrappers' names before a key, and the key without any."""
    words = key.split(".")
    front = 0
    while front < len(words) - 1 and words[front] in _BEFORE:
        front += 1
    rest = [word for word in words[front:-1] if word not in _ANYWHERE]
    return tuple(words[:front]), ".".join((*rest, words[-1]))


def _stripped(tensors: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    stripped: dict[str, Tensor] = {}
    twice = []
    for key, value in tensors.items():
        name = _peeled(key)[1]
        if name in stripped:
            twice.append(name)
        stripped[name] = value
    if twice:
        raise WeightsError(
            path,
            f"expected one tensor of each name without the prefixes of wrappers, got two of "
            f"{listed(twice)}; save only one of them",
        )
    return stripped


def _nameless(mappings: list[tuple[tuple[str, ...], Mapping[Any, Any]]]) -> list[str]:
    return [
        f"`{'.'.join((*words, str(name)))}`"
        for words, mapping in mappings
        if words and words[-1] in AVERAGED
        for name, value in mapping.items()
        if isinstance(value, list | tuple) and value and isinstance(value[0], Tensor)
    ]


def _nothing(content: object, mappings: list[tuple[tuple[str, ...], Mapping[Any, Any]]]) -> str:
    expected = f"expected a state dict, alone or under one of {', '.join((*AVERAGED, *PLAIN))}"
    holders = [f"`{'.'.join(words)}`" for words, mapping in mappings if _tensors(mapping)]
    if holders:
        return f"{expected}; got tensors under {listed(holders)} alone, save one under such a name"
    if isinstance(content, Mapping) and content:
        return f"{expected}, found no tensors: it holds {listed([str(key) for key in content])}"
    return f"{expected}, found none ({type(content).__name__})"
