"""Follow a repository: call when the configs of its ensembles changed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from fgmclip.serve.errors import ServeError
from fgmclip.serve.guard import Report
from fgmclip.serve.models import read_repository
from fgmclip.serve.releases import Releases

POLL_SECONDS = 0.5


class Watch:
    """A thread that compares the ensembles with those it saw last.

    A failed reload is reported, and tried again when the configs change the next time or the
    server was started anew.
    """

    def __init__(
        self, repository: Path, releases: Releases, reload: Callable[[], None], report: Report
    ) -> None:
        """Name what to follow.

        Args:
            repository: Directory of models.
            releases: What is served of it; `reload` changes that.
            reload: What to do when the repository holds others.
            report: Told in one line what changed, or why it did not.
        """
        self._repository = repository
        self._releases = releases
        self._seen = dict(releases.served)
        self._damaged = releases.damaged
        self._reload = reload
        self._report = report
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to look at the repository."""
        self._thread = threading.Thread(target=self._run, name="fgmclip-watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end; what goes wrong from now on is not reported."""
        self._stopped.set()

    def join(self) -> None:
        """Wait until the thread has ended."""
        if self._thread is not None:
            self._thread.join()

    def look_again(self) -> None:
        """Compare with what is served: what was seen may have been lost with a server."""
        self._seen = dict(self._releases.served)

    def _run(self) -> None:
        while not self._stopped.wait(POLL_SECONDS):
            try:
                self._look()
            except ServeError as error:
                if not self._stopped.is_set():
                    self._report(str(error))

    def _look(self) -> None:
        state = read_repository(self._repository)
        for damage in state.damaged:
            if damage not in self._damaged:
                self._report(f"{self._repository}: {damage}; it is not served")
        self._damaged = state.damaged
        if state.ensembles != self._seen:
            self._seen = state.ensembles
            before = self._releases.names
            self._reload()
            # The files may have changed, and changed back, since they were compared.
            self.look_again()
            self._report(
                f"serving {self._releases.names} instead of {before}: {', '.join(self._seen)}"
            )
