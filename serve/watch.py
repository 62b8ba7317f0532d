"""Follow a repository: call when the configs of its ensembles changed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from fgmclip.serve.errors import ServeError
from fgmclip.serve.models import Ensemble, read_ensembles

POLL_SECONDS = 0.5

_LOG = logging.getLogger(__name__)


class Watch(threading.Thread):
    """A thread that compares the ensembles with those it saw last.

    A failed reload is logged, and tried again when the configs change the next time.
    """

    def __init__(
        self, repository: Path, served: Mapping[str, Ensemble], reload: Callable[[], None]
    ) -> None:
        """Name what to follow.

        Args:
            repository: Directory of models.
            served: Its ensembles as they are served now.
            reload: What to do when they are others.
        """
        super().__init__(name="fgmclip-watch", daemon=True)
        self._repository = repository
        self._seen = dict(served)
        self._reload = reload
        self._stopped = threading.Event()

    def run(self) -> None:
        """Look at the repository until stopped."""
        while not self._stopped.wait(POLL_SECONDS):
            try:
                ensembles = read_ensembles(self._repository)
                if ensembles != self._seen:
                    self._seen = ensembles
                    self._reload()
                    _LOG.info("serving the repository's new state: %s", ", ".join(ensembles))
            except ServeError as error:
                _LOG.error("%s", error)

    def stop(self) -> None:
        """End the thread, after the reload that it may be in."""
        self._stopped.set()
        self.join()
