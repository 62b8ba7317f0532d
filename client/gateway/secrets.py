"""Keeps what an address must not tell out of everything that people and machines read."""

from __future__ import annotations

import re
import threading
from urllib.parse import quote, quote_plus, unquote, unquote_plus

from fgmclip.client.gateway.errors import SourceError

HIDDEN = "***"

FEWEST_LETTERS = 3
"""A shorter secret is not looked for: it would tear ordinary words apart."""

# Whatever stands before the last `@` up to the next blank is taken for user and password: they may
# hold any sign that nobody escaped, and to hide a host or a path too is the lesser fault.
_ADDRESS = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)(?P<rest>\S+)")
_PUNCTUATION = ",.:;)]}>\"'`"
_VALUE = re.compile(r"=[^&;#\s]*")

_SECRET_KEY = re.compile(
    r"(?i)(?:^|[?&;/_#])"
    r"((?:[a-z0-9.]*[_-])?(?:pass(?:word|wd)?|pwd|psw|token|secret|auth|sig(?:nature)?|"
    r"(?:api|access|stream)?_?key)=)"
    r"(?!\$\{)[^&;#]"
)
# A port and a path are no password: `host:554/a@b`.
_PASSWORD = re.compile(r"^[^/?#@:]*:(?!\d+/)(?P<password>[^?#@]+)@")


def redact(text: str) -> str:
    """Return `text` with user, password and query values of every address in it hidden.

    Values of `key=value` in a path go too: some cameras want their password there.

    Example:
        ```python
        redact("rtsp://admin:hunter2@10.0.0.7/live?token=abc: timed out")
        # "rtsp://***@10.0.0.7/live?token=***: timed out"
        ```
    """
    return _ADDRESS.sub(_redacted, text)


def _redacted(match: re.Match[str]) -> str:
    _user, at, place = match["rest"].rpartition("@")
    bare = place.rstrip(_PUNCTUATION)
    trail = place[len(bare) :]
    head, mark, query = bare.partition("?")
    head = _VALUE.sub(f"={HIDDEN}", head)
    if mark:
        query = _VALUE.sub(f"={HIDDEN}", query) if "=" in query else HIDDEN
    return f"{match['scheme']}{HIDDEN + at if at else ''}{head}{mark}{query}{trail}"


def secrets_of(address: str) -> set[str]:
    """Return the strings in an address that nobody else may read, as written and unescaped."""
    found: set[str] = set()
    for match in _ADDRESS.finditer(address):
        user, at, place = match["rest"].rpartition("@")
        if at:
            _name, colon, password = user.partition(":")
            found.add(password if colon else user)
        query = place.partition("?")[2]
        values = {pair.partition("=")[2] for pair in re.split("[&;#]", query)}
        # `channel=101` is no secret, and would tear other numbers apart.
        found |= {value for value in values if not value.isdecimal()}
    found |= {unquote(text) for text in found} | {unquote_plus(text) for text in found}
    return {text for text in found if len(text) >= FEWEST_LETTERS}


class Secrets:
    """Strings that must not be seen, wherever they turn up; for many threads."""

    def __init__(self) -> None:
        """Start without one."""
        self._lock = threading.Lock()
        self._hidden: frozenset[str] = frozenset()
        self._pattern: re.Pattern[str] | None = None

    def add(self, secret: str) -> None:
        """Hide a string from now on, as it is and as addresses write it.

        One of fewer than `FEWEST_LETTERS` is passed over.
        """
        if len(secret) >= FEWEST_LETTERS:
            self._hide({secret, quote(secret, safe=""), quote(secret), quote_plus(secret)})

    def add_address(self, address: str) -> None:
        """Hide the secrets of an address, see `secrets_of`."""
        self._hide(secrets_of(address))

    def redact(self, text: str) -> str:
        """Return `text` without the strings, and as `redact` leaves it."""
        pattern = self._pattern
        if pattern is not None:
            text = pattern.sub(HIDDEN, text)
        return redact(text)

    def _hide(self, secrets: set[str]) -> None:
        with self._lock:
            hidden = self._hidden | secrets
            if hidden == self._hidden:
                return
            # The longest first, or the rest of a longer one would be left standing.
            longest_first = sorted(hidden, key=len, reverse=True)
            self._pattern = re.compile("|".join(map(re.escape, longest_first)))
            self._hidden = frozenset(hidden)


def check_command_line(source: str) -> None:
    """Refuse a source with a password in it that came as an argument.

    Raises:
        SourceError: It has one; `${NAME}` instead of it is none.
    """
    scheme, found, rest = source.partition("://")
    if not found:
        return
    password = _PASSWORD.match(rest)
    stated = password is not None and not re.fullmatch(r"\$\{\w+\}", password["password"])
    if stated or _SECRET_KEY.search(rest):
        raise SourceError(
            f"{redact(source)}: expected no password on the command line, where every user of this "
            "host can read it in the list of processes; put the source into watch.yaml, or write "
            f"'{scheme}://USER:${{NAME}}@HOST/...' in single quotes with the password in the "
            "environment variable NAME"
        )
