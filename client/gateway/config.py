"""From `watch.yaml`, or a command line, to `WatchSettings`."""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from fgmclip.client.errors import SettingsError
from fgmclip.client.gateway.address import expand
from fgmclip.client.gateway.secrets import HIDDEN, Secrets, redact
from fgmclip.client.gateway.settings import EXPECTED, WatchSettings
from fgmclip.storage.errors import TextError
from fgmclip.storage.text import read_text

_ADDRESS_FIELDS = frozenset({"source", "url"})
MOST_VALUES = 100_000
"""What a file may hold, its aliases written out: nine lines of them could say millions."""

_SECRET_FIELDS = _ADDRESS_FIELDS | {"password", "secret"}


class ConfigError(SettingsError):
    """A configuration file cannot be used; the message names the file, the field and the remedy."""


def read_config(path: Path) -> dict[str, Any]:
    """Return what a `watch.yaml` says, unchecked.

    Raises:
        ConfigError: The file cannot be read, or is not a YAML mapping.
    """
    try:
        text = read_text(path)
    except TextError as error:
        raise ConfigError(str(error)) from error
    except OSError as error:
        raise ConfigError(f"{path}: expected a readable text file, got: {error}") from error
    try:
        fields = _load(text)
    except yaml.YAMLError as error:
        # Its message quotes the lines around the place, which may hold a password.
        mark = getattr(error, "problem_mark", None)
        where = "" if mark is None else f" in line {mark.line + 1}, column {mark.column + 1}"
        problem = redact(str(getattr(error, "problem", None) or "it cannot be read"))
        raise ConfigError(f"{path}: expected YAML, got a fault{where}: {problem}") from error
    except RecursionError as error:
        raise ConfigError(f"{path}: expected a few levels of fields, got too many") from error
    if not isinstance(fields, dict):
        raise ConfigError(
            f"{path}: expected a mapping with servers and cameras, got "
            f"{'nothing' if fields is None else type(fields).__name__}"
        )
    return fields


def check_config(
    fields: Mapping[str, Any], what: str, environment: Mapping[str, str] = os.environ
) -> WatchSettings:
    """Return checked settings, `${NAME}` replaced; in sources and addresses see `expand`.

    Args:
        fields: What a file or a command line says.
        what: Names the origin in messages.
        environment: Where `${NAME}` is looked up.

    Raises:
        ConfigError: A field is missing, unknown or out of range; its value is not in the message
            where it may be secret.
    """
    values = _Values(environment)
    try:
        return WatchSettings.model_validate(_expanded(dict(fields), values))
    except ValidationError as error:
        lines: list[str] = []
        for item in error.errors(include_url=False):
            # Pydantic adds the branch of a union to the place.
            place = ".".join(str(part) for part in item["loc"]) or "the file"
            if item["type"] == "too_short" and lines and lines[0].startswith(place):
                # Only those are missing that had faults of their own.
                continue
            problem = item["msg"].removeprefix("Value error, ")
            if item["type"] == "string_pattern_mismatch":
                problem = EXPECTED[item["ctx"]["pattern"]]
            if item["type"] == "extra_forbidden":
                problem = f"unknown, {_nearest(item['loc'])}"
            came = ""
            if not _SECRET_FIELDS & {str(part) for part in item["loc"]} and isinstance(
                item["input"], (str, int, float)
            ):
                came = f" (got {values.hidden_in(redact(repr(item['input'])))[:80]})"
            lines.append(f"{place}: {problem}{came}")
        raise ConfigError(f"{what}: " + "; ".join(lines)) from None
    except SettingsError as error:
        raise ConfigError(f"{what}: {error}") from error


def hide_secrets(settings: WatchSettings, secrets: Secrets) -> None:
    """Add every text of the settings that no log may show."""
    mqtt, webhook = settings.sinks.mqtt, settings.sinks.webhook
    addresses = [camera.source for camera in settings.cameras]
    addresses += [sink.url for sink in (mqtt, webhook) if sink is not None]
    for address in addresses:
        secrets.add_address(address.get_secret_value())
    fields = [camera.password for camera in settings.cameras]
    fields += [sink.password for sink in (mqtt, webhook) if sink is not None]
    fields += [] if webhook is None else [webhook.secret]
    for field in fields:
        if field is not None:
            secrets.add(field.get_secret_value())


def _load(text: str) -> Any:
    loader = _PlainTexts(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if _values_in(node, {}) > MOST_VALUES:
            raise yaml.constructor.ConstructorError(
                None,
                None,
                f"its aliases make more than {MOST_VALUES} values, or hold themselves; write out "
                "what they repeat",
                node.start_mark,
            )
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _values_in(node: yaml.Node, known: dict[int, float]) -> float:
    """Count values as if every alias were written out, each node once."""
    if id(node) not in known:
        # What a node that holds itself counts on the way.
        known[id(node)] = math.inf
        parts: list[yaml.Node] = []
        if isinstance(node, yaml.SequenceNode):
            parts = node.value
        elif isinstance(node, yaml.MappingNode):
            parts = [part for pair in node.value for part in pair]
        known[id(node)] = 1 + sum(_values_in(part, known) for part in parts)
    return known[id(node)]


class _PlainTexts(yaml.SafeLoader):
    """Takes every plain scalar but null for text: the settings know what each is meant to be.

    YAML 1.1 would make False of a label called `no`, 8 of the port 010, a number of the password
    0123 and seconds of 12:30. A key that stands twice is refused; YAML would take the last.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for position, key in enumerate(keys):
            if key in keys[:position] and key != "<<":
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key!r} stands twice", node.value[position][0].start_mark
                )
        for key, _ in node.value:
            # A label may be called null or ~ as well.
            if isinstance(key, yaml.ScalarNode) and key.tag == "tag:yaml.org,2002:null":
                key.tag = "tag:yaml.org,2002:str"
        return super().construct_mapping(node, deep)


_PlainTexts.yaml_implicit_resolvers = {
    first: kept
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    if (kept := [each for each in resolvers if each[0].rpartition(":")[2] in ("null", "merge")])
}


class _Values:
    """Values of the environment, and which of them were taken."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self.taken: set[str] = set()

    def __call__(self, name: str) -> str:
        value = self._environment.get(name)
        if not value:
            came = "none" if value is None else "an empty one"
            raise SettingsError(f"expected {name} in the environment, got {came}; set it")
        self.taken.add(value)
        return value

    def hidden_in(self, text: str) -> str:
        """Return a text without the values."""
        for value in sorted(self.taken, key=len, reverse=True):
            text = text.replace(value, HIDDEN)
        return text


def _expanded(value: Any, values: _Values, place: str = "", key: str = "") -> Any:
    """Replace variables in every text, however deep it stands."""
    if isinstance(value, dict):
        return {
            key: _expanded(item, values, f"{place}.{key}" if place else str(key), str(key))
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [
            _expanded(item, values, f"{place}.{index}", key) for index, item in enumerate(value)
        ]
    if not isinstance(value, str):
        return value
    try:
        return expand(value, values, address=key in _ADDRESS_FIELDS)
    except SettingsError as error:
        raise SettingsError(f"{place}: {error}") from error


def _nearest(place: Sequence[int | str]) -> str:
    """Return what an unknown field may have been meant to be, and which there are."""
    model: Any = WatchSettings
    for part in place[:-1]:
        field = model.model_fields.get(part)
        model = model if field is None else _model_in(field.annotation) or model
    known = list(model.model_fields)
    near = difflib.get_close_matches(str(place[-1]), known, 1)
    return f"did you mean {near[0]}?" if near else f"expected one of {', '.join(known)}"


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = (_model_in(part) for part in get_args(annotation))
    return next((model for model in found if model is not None), None)
