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


class Watch:
    """A thread that compares the ensembles with those it saw last.

    A failed reload is logged, and tried again when the configs change the next time.
    """

    def __init__(
        self, repository: Path, served: Mapping[str, Ensemble], reload: Callable[[], None]
    ) -> None:
        """Name what to follow.

        Args:
            repository: Directory of models.
            served: Its ensembles as they are served; `reload` changes them.
            reload: What to do when they are others.
        """
        self._repository = repository
        self._served = served
        self._seen = dict(served)
        self._reload = reload
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to look at the repository."""
        self._thread = threading.Thread(target=self._run, name="fgmclip-watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end; what goes wrong from now on is not logged."""
        self._stopped.set()

    def join(self) -> None:
        """Wait until the thread has ended."""
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(POLL_SECONDS):
            try:
                ensembles = read_ensembles(self._repository)
                if ensembles != self._seen:
                    self._seen = ensembles
                    self._reload()
                    # The files may have changed, and changed back, since they were compared.
                    self._seen = dict(self._served)
                    _LOG.info("serving the repository's new state: %s", ", ".join(ensembles))
            except ServeError as error:
                if not self._stopped.is_set():
                    _LOG.error("%s", error)
