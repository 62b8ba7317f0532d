"""`Thumbnails`: a picture of each event in a folder, for a limited time."""

from __future__ import annotations

import logging
import os
import re
import time
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fgmclip.client.events.event import Event
from fgmclip.client.gateway.settings import ThumbnailSettings
from fgmclip.storage.atomic import TEMPORARY, writing

MAX_FILES = 10_000
"""Beyond it the oldest pictures go before their time."""

SWEEP_SECONDS = 60.0
"""How often `save` looks for pictures whose time is over."""

_QUALITY = 85
# A killed gateway's temporaries go when a picture's time would be over.
_OURS = re.compile(rf"({re.escape(TEMPORARY)}.*-)?[0-9a-f]{{32}}\.jpg")

_log = logging.getLogger(__name__)


class Thumbnails:
    """JPEG files named after event ids; other files in the folder are left alone.

    No failure of the disk keeps an event from being reported.
    """

    def __init__(self, settings: ThumbnailSettings) -> None:
        """Look at nothing yet; the folder is made when first needed.

        Args:
            settings: Folder and retention time.
        """
        self._directory = settings.directory
        self._retention_seconds = settings.retention_hours * 3600
        self._swept = float("-inf")

    def save(self, event: Event, pixels: NDArray[np.uint8]) -> Event:
        """Write the picture of an event that opens.

        Args:
            event: The event.
            pixels: PIXELS_U8 [S,S,3], RGB: what the model saw.

        Returns:
            The event with the file's name, or as it was if there could be no picture.
        """
        if time.monotonic() - self._swept >= SWEEP_SECONDS:
            self.sweep()
        path = self._directory / f"{event.id}.jpg"
        image = Image.fromarray(np.ascontiguousarray(pixels))
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            with writing(path) as stream:
                image.save(stream, "JPEG", quality=_QUALITY)
        except OSError as error:
            _log.warning("thumbnails: %s: %s", self._directory, error.strerror or error)
            return event
        return replace(event, thumbnail=str(path))

    def attach(self, event: Event) -> Event:
        """Return an event that ended with the name of the picture that it opened with, if any."""
        path = self._directory / f"{event.id}.jpg"
        return replace(event, thumbnail=str(path)) if path.is_file() else event

    def sweep(self) -> None:
        """Remove pictures whose time is over; to be called now and then, events or none."""
        self._swept = time.monotonic()
        try:
            with os.scandir(self._directory) as entries:
                found = [
                    (entry.stat(follow_symlinks=False).st_mtime, entry.path)
                    for entry in entries
                    if _OURS.fullmatch(entry.name) and entry.is_file(follow_symlinks=False)
                ]
        except FileNotFoundError:
            return
        except OSError as error:
            _log.warning("thumbnails: %s: %s", self._directory, error.strerror or error)
            return
        oldest = time.time() - self._retention_seconds
        found.sort(reverse=True)
        for number, (modified, path) in enumerate(found):
            if number >= MAX_FILES or modified < oldest:
                try:
                    os.unlink(path)
                except OSError as error:
                    _log.warning("thumbnails: %s: %s", path, error.strerror or error)
