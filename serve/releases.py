"""Change a running server over to what its repository holds now."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from fgmclip.serve.control import CallError, Control, reason
from fgmclip.serve.errors import ReloadError, RepositoryError
from fgmclip.serve.logs import short_reason
from fgmclip.serve.models import Ensemble, compile_steps, proof_of, read_ensembles, steps_of

DRAIN_SECONDS = 30.0
"""How long the steps of a replaced release stay, for the requests that entered before.

Triton looks a step up when a request reaches it: one that began in the old release needs the old
release's later steps.
"""

_LOOK_SECONDS = 0.5
_LOG = logging.getLogger(__name__)


class Releases:
    """What a server serves: ensembles, and the steps loaded for them.

    Args:
        repository: Directory of models.
        control: Calls to the server.
        timeout_seconds: How long one model may take to load.
    """

    def __init__(self, repository: Path, control: Control, timeout_seconds: float) -> None:
        """Read the repository; the server is not asked for anything.

        Raises:
            RepositoryError: It holds nothing that can be served.
        """
        self._repository = repository
        self._control = control
        self._timeout = timeout_seconds
        self._lock = threading.Lock()
        self._served = read_ensembles(repository)
        self._loaded = steps_of(self._served.values())
        compile_steps(repository, self._loaded)
        self._deadlines: dict[str, float] = {}
        self._closed = threading.Event()
        self._drain: threading.Thread | None = None

    @property
    def served(self) -> Mapping[str, Ensemble]:
        """The ensembles that are served, by name; a view that follows every reload."""
        return MappingProxyType(self._served)

    @property
    def models(self) -> tuple[str, ...]:
        """Every model that a server has to load at its start.

        The steps by name too: Triton drops a step that came as an ensemble's dependency as soon as
        the ensemble no longer names it, under the requests that still need it.
        """
        return (*self._loaded, *self._served)

    def reload(self) -> None:
        """Serve what the repository holds now, while requests go on.

        The steps of a new release are loaded first, under their own names, then each ensemble's
        config proves itself under another name: Triton takes a served ensemble down when its new
        config does not fit its steps. Only then do the ensembles change over, each to the config
        that was proven: the file may hold another release's by now, whose steps are not loaded.

        Raises:
            ReloadError: The new release cannot be served; the old one still answers.
            RepositoryError: An ensemble that is served vanished or became unreadable.
        """
        with self._lock:
            ensembles = read_ensembles(self._repository)
            for name in self._served:
                if name not in ensembles:
                    raise RepositoryError(
                        f"{self._repository / name / 'config.pbtxt'}: expected the config of an "
                        "ensemble that is being served; activate a release again with "
                        "'fgmclip repo activate'"
                    )
            changed = [item for name, item in ensembles.items() if item != self._served.get(name)]
            fresh = self._load_steps(changed)
            try:
                configs = [self._proven(ensemble) for ensemble in changed]
            except ReloadError:
                self._drop(fresh)
                raise
            for ensemble, config in zip(changed, configs, strict=True):
                self._load(ensemble.name, config)
                self._served[ensemble.name] = ensemble
            self._retire()

    def close(self) -> None:
        """End the wait for retired steps; they end with the server."""
        self._closed.set()
        if self._drain is not None:
            self._drain.join()

    def _load_steps(self, ensembles: Iterable[Ensemble]) -> list[str]:
        fresh = [step for step in steps_of(ensembles) if step not in self._loaded]
        compile_steps(self._repository, fresh)
        try:
            for step in fresh:
                self._load(step)
        except ReloadError:
            self._drop(fresh)
            raise
        self._loaded.update(dict.fromkeys(fresh))
        return fresh

    def _load(self, model: str, config: str = "") -> None:
        try:
            self._control.load(model, self._timeout, config=config)
        except CallError as error:
            raise self._refusal(model, reason(error)) from error

    def _proven(self, ensemble: Ensemble) -> str:
        """Return an ensemble's config as JSON, after it loaded under another name."""
        name = f"{ensemble.name}__proof"
        try:
            config, files = proof_of(self._repository, ensemble, name)
            self._control.prove(name, config, files, self._timeout)
            config, _ = proof_of(self._repository, ensemble, ensemble.name)
        except OSError as error:
            raise self._refusal(ensemble.name, str(error)) from error
        except CallError as error:
            raise self._refusal(ensemble.name, reason(error)) from error
        return config

    def _refusal(self, model: str, why: str) -> ReloadError:
        return ReloadError(
            f"{self._repository}: the new release cannot be served and the old one stays: "
            f"{model}: {short_reason(why)}"
        )

    def _drop(self, steps: Iterable[str]) -> None:
        for step in steps:
            self._unload(step)
            self._loaded.pop(step, None)

    def _unload(self, model: str) -> None:
        try:
            self._control.unload(model)
        except CallError as error:
            _LOG.warning("%s stays loaded: %s", model, short_reason(reason(error)))

    def _retire(self) -> None:
        """Give every step that no ensemble names any more its time to leave."""
        needed = steps_of(self._served.values())
        deadline = time.monotonic() + DRAIN_SECONDS
        self._deadlines = {
            step: self._deadlines.get(step, deadline) for step in self._loaded if step not in needed
        }
        if self._deadlines and self._drain is None:
            self._drain = threading.Thread(
                target=self._drop_retired, name="fgmclip-drain", daemon=True
            )
            self._drain.start()

    def _drop_retired(self) -> None:
        while not self._closed.wait(_LOOK_SECONDS):
            with self._lock:
                now = time.monotonic()
                for step in [step for step, end in self._deadlines.items() if end <= now]:
                    self._unload(step)
                    del self._deadlines[step], self._loaded[step]
