"""From `watch.yaml`, or a command line, to `WatchSettings`."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from fgmclip.client.errors import SettingsError
from fgmclip.client.gateway.secrets import Secrets, redact
from fgmclip.client.gateway.settings import WatchSettings
from fgmclip.storage.errors import TextError
from fgmclip.storage.text import read_text

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_SECRET_FIELDS = frozenset({"source", "url", "secret"})


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
        fields = yaml.load(text, Loader=_UniqueKeys)
    except yaml.YAMLError as error:
        # Its message quotes the lines around the place, which may hold a password.
        mark = getattr(error, "problem_mark", None)
        where = "" if mark is None else f" in line {mark.line + 1}, column {mark.column + 1}"
        problem = redact(str(getattr(error, "problem", None) or "it cannot be read"))
        raise ConfigError(f"{path}: expected YAML, got a fault{where}: {problem}") from error
    if not isinstance(fields, dict):
        raise ConfigError(
            f"{path}: expected a mapping with servers and cameras, got "
            f"{'nothing' if fields is None else type(fields).__name__}"
        )
    return fields


def check_config(
    fields: Mapping[str, Any], what: str, environment: Mapping[str, str] = os.environ
) -> WatchSettings:
    """Return checked settings, `${NAME}` in sources, addresses and keys replaced.

    Args:
        fields: What a file or a command line says.
        what: Names the origin in messages.
        environment: Where `${NAME}` is looked up.

    Raises:
        ConfigError: A field is missing, unknown or out of range; its value is not in the message
            where it may be secret.
    """
    try:
        return WatchSettings.model_validate(_expanded(dict(fields), what, environment))
    except ValidationError as error:
        lines = []
        for item in error.errors(include_url=False):
            # Pydantic adds the branch of a union to the place.
            place = ".".join(str(part) for part in item["loc"]) or "the file"
            problem = item["msg"].removeprefix("Value error, ")
            came = ""
            if not _SECRET_FIELDS & {str(part) for part in item["loc"]} and isinstance(
                item["input"], (str, int, float)
            ):
                came = f" (got {redact(repr(item['input']))[:80]})"
            lines.append(f"{place}: {problem}{came}")
        raise ConfigError(f"{what}: " + "; ".join(lines)) from None


def hide_secrets(settings: WatchSettings, secrets: Secrets) -> None:
    """Add every text of the settings that no log may show."""
    mqtt, webhook = settings.sinks.mqtt, settings.sinks.webhook
    addresses = [camera.source for camera in settings.cameras]
    addresses += [sink.url for sink in (mqtt, webhook) if sink is not None]
    for address in addresses:
        secrets.add_address(address.get_secret_value())
    if webhook is not None and webhook.secret is not None:
        secrets.add(webhook.secret.get_secret_value())


class _UniqueKeys(yaml.SafeLoader):
    """Refuses a key that stands twice, of which YAML would take the last without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for position, key in enumerate(keys):
            if key in keys[:position]:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key!r} stands twice", node.value[position][0].start_mark
                )
        return super().construct_mapping(node, deep)


def _expanded(value: Any, what: str, environment: Mapping[str, str], secret: bool = False) -> Any:
    """Replace variables in the fields that may hold secrets, however deep they stand."""
    if isinstance(value, dict):
        return {
            key: _expanded(item, what, environment, key in _SECRET_FIELDS)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_expanded(item, what, environment) for item in value]
    if not (secret and isinstance(value, str)):
        return value

    def found(match: re.Match[str]) -> str:
        name = match[1]
        if name not in environment:
            raise ConfigError(f"{what}: expected {name} in the environment, got none; set it")
        return environment[name]

    return _VARIABLE.sub(found, value)
