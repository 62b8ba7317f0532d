"""What a camera's `source` means, and what time it was when its frames were taken."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal

from fgmclip.client.errors import SettingsError
from fgmclip.client.events.event import Clock
from fgmclip.client.gateway.address import with_login
from fgmclip.client.gateway.errors import SourceError
from fgmclip.client.gateway.secrets import redact
from fgmclip.client.gateway.settings import CameraSettings, Policy
from fgmclip.storage.text import one_line
from fgmclip.video.suffixes import VIDEO_SUFFIXES

Kind = Literal["file", "folder", "address", "webcam"]

SCHEMES = ("rtsp", "rtsps", "rtmp", "http", "https")

LONGEST_NAME = 64

_WEBCAM = re.compile(r"webcam:(\d{1,3})")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")

# 2026-11-24_10-15-00, 20261124T101500Z, 2026-11-24 10.15.00.250, 20261124-101500, ...T101500+0100.
# A zone west of Greenwich needs the T and digits without a break, or `-0100` could be a counter.
_NAME_TIME = re.compile(
    r"(?<!\d)(?P<year>(?:19|20)\d\d)([-_.]?)(?P<month>\d\d)\2(?P<day>\d\d)"
    r"(?P<gap>T|t|[-_ .]{1,2})"
    r"(?P<hour>\d\d)(?P<time_gap>[-_.:h]?)(?P<minute>\d\d)[-_.:m]?(?P<second>\d\d)(?!\d)"
    r"(?:\.(?P<fraction>\d{1,6})(?!\d))?"
    r"(?:(?P<utc>[Zz])(?![A-Za-z])|(?P<sign>[+-])(?P<zone>\d\d:?\d\d)(?!\d))?"
)

# Hours and minutes from Greenwich at which clocks stand somewhere (tz database, 2026).
_ZONES = frozenset(
    [f"{sign}{hour:02}00" for sign, most in (("+", 14), ("-", 12)) for hour in range(most + 1)]
    + ["-0930", "-0330", "+0330", "+0430", "+0530", "+0545", "+0630", "+0845", "+0930", "+1030"]
    + ["+1245", "+1345"]
)


@dataclass(frozen=True, slots=True, repr=False)
class Source:
    """Where a camera's frames come from.

    Attributes:
        kind: What it is.
        location: Path, address or device, with its secrets.
    """

    kind: Kind
    location: str

    def __repr__(self) -> str:
        """Return it without secrets."""
        return f"Source(kind={self.kind!r}, location={self.shown!r})"

    @property
    def is_live(self) -> bool:
        """Whether its frames come when they are taken, and it is opened again when it is lost."""
        return self.kind in ("address", "webcam")

    @property
    def shown(self) -> str:
        """It for people: one line without secrets."""
        return one_line(redact(self.location))

    @property
    def default_policy(self) -> Policy:
        """What happens to samples that the server is too slow for, where nobody said."""
        return "latest" if self.is_live else "block"


def parse_source(settings: CameraSettings) -> Source:
    """Return what a camera's settings name; a file need not be there yet.

    Args:
        settings: Of the camera.

    Raises:
        SourceError: The scheme is unknown, the address makes no sense, or a setting does not go
            with the kind.
    """
    source = _source(settings.source.get_secret_value(), settings.name)
    password = None if settings.password is None else settings.password.get_secret_value()
    if source.kind == "address":
        try:
            source = replace(source, location=with_login(source.location, settings.user, password))
        except SettingsError as error:
            raise SourceError(f"camera {settings.name}: source: {error}") from error
    elif settings.user is not None or password is not None:
        raise SourceError(
            f"camera {settings.name}: user and password do not go with a {source.kind}; leave them "
            "out"
        )
    recorded = {"start": settings.start, "boxes": settings.boxes}
    allowed = {"file": {"start", "boxes"}, "folder": {"start"}}.get(source.kind, set())
    for name, value in recorded.items():
        if value is not None and name not in allowed:
            raise SourceError(
                f"camera {settings.name}: {name} does not go with a {source.kind}; leave it out"
            )
    return source


def _source(text: str, camera: str) -> Source:
    if webcam := _WEBCAM.fullmatch(text):
        return Source("webcam", f"/dev/video{int(webcam[1])}")
    if scheme := _SCHEME.match(text):
        if scheme[1].lower() not in SCHEMES:
            raise SourceError(
                f"camera {camera}: expected an address that starts with "
                f"{', '.join(SCHEMES)}, got {one_line(scheme[1])}"
            )
        return Source("address", scheme[1].lower() + text[scheme.end(1) :])
    if not text:
        raise SourceError(f"camera {camera}: expected a source, got an empty one")
    return Source("folder" if os.path.isdir(text) else "file", text)


def find_recordings(folder: Path) -> list[Path]:
    """Return the recordings of a folder in the order of their names, hidden files left out.

    Raises:
        SourceError: It cannot be read, or has none.
    """
    try:
        found = sorted(
            path
            for path in folder.iterdir()
            if path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith(".")
        )
    except OSError as error:
        raise SourceError(f"{one_line(str(folder))}: {error.strerror}") from error
    if not found:
        raise SourceError(
            f"{one_line(str(folder))}: expected recordings "
            f"({', '.join(sorted(VIDEO_SUFFIXES))}), got none"
        )
    return found


def time_of_name(name: str, *, counted: bool = False) -> float | None:
    """Return the Unix seconds that a file's name states, or None.

    A time without a zone is one of this host's zone. Four digits that are no zone on Earth are a
    counter, as is `-0100` after a time with separators.

    Args:
        name: Of the file.
        counted: Whether `-` and four digits are a counter wherever they stand.

    Example:
        ```python
        time_of_name("20261124T101500Z.mkv")  # 1795515300.0
        ```
    """
    for match in _NAME_TIME.finditer(name):
        zone = "+0000" if match["utc"] else _zone(match)
        if zone not in _ZONES or (counted and zone[0] == "-"):
            zone = ""
        fields = "".join(match[key] for key in ("year", "month", "day", "hour", "minute", "second"))
        fraction = (match["fraction"] or "0").ljust(6, "0")
        form = "%Y%m%d%H%M%S%f" + ("%z" if zone else "")
        try:
            return datetime.strptime(fields + fraction + zone, form).timestamp()
        except ValueError:
            continue
    return None


def _zone(match: re.Match[str]) -> str:
    """Return what stands where a zone would, `+HHMM` or `-HHMM`; empty if it cannot be one."""
    if not match["sign"]:
        return ""
    basic = not match["time_gap"] or ":" in match["zone"]
    if match["sign"] == "-" and not (basic and match["gap"] in "Tt"):
        return ""
    return match["sign"] + match["zone"].replace(":", "")


def _is_counted(names: Iterable[str]) -> bool:
    """Whether the recordings of a folder are numbered where a zone could stand."""
    matches = (match for name in names for match in _NAME_TIME.finditer(name))
    return any((zone := _zone(match)).startswith("-") and zone not in _ZONES for match in matches)


class RecordingTimes:
    """When the first frame of each recording of a source was taken.

    With a stated `start` the first recording begins then, and later ones as much after it as their
    names say. Without it a recording's own name counts. One whose name says nothing begins where
    the one before ended; if there is none with a time, times are seconds of the media, which go on
    from one recording to the next: no two moments of a folder have one time.
    """

    def __init__(self, start: datetime | None, names: Iterable[str] = ()) -> None:
        """Begin before the first recording.

        Args:
            start: When the first recording began, if that was stated.
            names: Of all recordings: where one of them is numbered, all are.
        """
        self._counted = _is_counted(names)
        self._start = None if start is None else start.astimezone(timezone.utc).timestamp()
        self._first_named: float | None = None
        self._is_first = True
        self._clock: Clock = "media" if start is None else "wall"

    def begin(self, path: Path, media_end: float) -> tuple[Clock, float]:
        """Return the clock of the next recording and the time of its first frame on it.

        Args:
            path: Its file; those of a folder must come in order.
            media_end: Where on that clock the recording before ended; 0 for the first.
        """
        named = time_of_name(path.name, counted=self._counted)
        if self._is_first:
            self._first_named = named
        first, self._is_first = self._is_first, False
        begins = media_end
        if self._start is None and named is not None:
            self._clock, begins = "wall", named
        elif self._start is not None and first:
            begins = self._start
        elif self._start is not None and named is not None and self._first_named is not None:
            begins = self._start + named - self._first_named
        return self._clock, begins


def default_name(source: str, taken: Collection[str] = ()) -> str:
    """Return a camera's name for a source given without one.

    Args:
        source: As on the command line.
        taken: Names that other cameras have.
    """
    if webcam := _WEBCAM.fullmatch(source):
        name = f"webcam{webcam[1]}"
    elif scheme := _SCHEME.match(source):
        place = redact(source)[scheme.end() :].removeprefix("***@")
        name = re.split("[?#]", place)[0]
    else:
        path = Path(source)
        name = path.name if path.is_dir() else path.stem
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-_.")[:LONGEST_NAME] or "camera"
    unique, number = name, 1
    while unique in taken:
        number += 1
        suffix = f"-{number}"
        unique = name[: LONGEST_NAME - len(suffix)] + suffix
    return unique
