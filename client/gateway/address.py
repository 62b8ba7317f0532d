"""Addresses of cameras, brokers and webhooks: variables in them, logins, and what makes no sense.

No message shows an address: it may hold a password.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import SplitResult, quote, urlsplit

from fgmclip.client.errors import SettingsError

# `$${` is the text `${`, as in Compose files.
_VARIABLE = re.compile(r"\$\$\{|\$\{(?P<name>[^{}]*)\}?")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

_PATH_SIGNS = "/:@!$&'()*+,;="
"""What a path may hold as it is; a token in it may have several parts."""

_HOST = re.compile(
    r"(?:\[[0-9A-Fa-f:.]+(?:%[A-Za-z0-9_.~-]+)?\]|[^\s\[\]:@/?#%<>\"\\^`{}|]+)"
    r"(?::(?P<port>[0-9]*))?"
)
_LOOSE_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")

_REMEDY = (
    "give user and password as fields of their own, or write / ? # @ : % in them as "
    "%2F %3F %23 %40 %3A %25"
)


def expand(template: str, value_of: Callable[[str], str], *, address: bool) -> str:
    """Replace `${NAME}` in a text; in an address, by its value percent-encoded where it stands.

    A value that begins an address, up to all of it, stays as it is: it brings its own encoding.
    So does one in the place of the host. A path keeps the signs that it may hold, `/` among them.

    Args:
        template: The text.
        value_of: Returns a variable's value, or raises.
        address: Whether the text is an address, or may be one.

    Raises:
        SettingsError: What follows `${` is no name, or a user's value holds a password as well.

    Example:
        ```python
        expand("mqtt://user:${MP}@broker", {"MP": "12#34"}.__getitem__, address=True)
        # "mqtt://user:12%2334@broker"
        ```
    """
    done, position = "", 0
    for match in _VARIABLE.finditer(template):
        done += template[position : match.start()]
        position = match.end()
        name = match["name"]
        if name is None:
            done += "${"
            continue
        if not _NAME.fullmatch(name) or not match[0].endswith("}"):
            raise SettingsError(
                "expected ${NAME} of letters, digits and _, got something else after ${; write "
                "$${ for these two signs themselves"
            )
        value = value_of(name)
        done += _encoded(value, name, done, template[position:]) if address else value
    return done + template[position:]


def _encoded(value: str, name: str, before: str, after: str) -> str:
    _scheme, found, rest = before.partition("://")
    if not found:
        return value
    if "?" in rest or "#" in rest:
        return quote(value, safe="")
    if "/" in rest:
        return quote(value, safe=_PATH_SIGNS)
    authority = re.split("[/?#]", after, maxsplit=1)[0]
    if "@" not in authority:
        return value
    if not rest and authority.startswith("@") and ":" in value:
        raise SettingsError(
            f"expected a user alone in {name}, got a value with a colon; write "
            "${USER}:${PASSWORD}@, or put the whole address into one variable"
        )
    return quote(value, safe="")


def parse_address(address: str) -> SplitResult:
    """Return the parts of an address, user and password still encoded.

    Raises:
        SettingsError: It has no host, a wrong port, or parts that would be taken for others.
    """
    scheme, found, rest = address.partition("://")
    if not found or not scheme:
        raise SettingsError("expected an address SCHEME://HOST, got none with ://")
    if any(character.isspace() or not character.isprintable() for character in address):
        raise SettingsError("expected an address without blanks, got one; write %20 for a blank")
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    login, _, place = authority.rpartition("@")
    host = _HOST.fullmatch(place)
    if host is None or "@" in rest.partition("#")[2]:
        raise SettingsError(
            "expected HOST or HOST:PORT after the user, an IPv6 address in brackets; " + _REMEDY
        )
    if host["port"] and not 0 < int(host["port"]) < 65536:
        raise SettingsError("expected a port from 1 to 65535, got another number")
    if _LOOSE_PERCENT.search(login):
        raise SettingsError("expected two hexadecimal digits after % in the login; " + _REMEDY)
    try:
        return urlsplit(address)
    except ValueError as error:
        raise SettingsError("expected an IPv6 address in its brackets, got none") from error


def with_login(address: str, user: str | None, password: str | None) -> str:
    """Return an address with user and password in it, encoded.

    Args:
        address: Of any scheme.
        user: None for none; the address is then returned as it is.
        password: None for none.

    Raises:
        SettingsError: The address makes no sense or has a login, a password has no user, or the
            user holds a colon.
    """
    parts = parse_address(address)
    if user is None and password is None:
        return address
    if user is None:
        raise SettingsError("expected user beside password, got none")
    if ":" in user:
        raise SettingsError("expected user without a colon, where HTTP and RTSP end it, got one")
    if "@" in parts.netloc:
        raise SettingsError("expected the login once, got one in the address and in fields too")
    login = quote(user, safe="")
    if password is not None:
        login += ":" + quote(password, safe="")
    scheme, _, rest = address.partition("://")
    return f"{scheme}://{login}@{rest}"
