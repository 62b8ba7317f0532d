"""Change a running server over to what its repository holds now."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from fgmclip.serve.control import CallError, Control, reason
from fgmclip.serve.errors import ReloadError, RepositoryError, StartError
from fgmclip.serve.logs import short_reason
from fgmclip.serve.models import (
    Ensemble,
    compile_steps,
    proof_of,
    read_repository,
    releases_of,
    runs_in_python,
    steps_of,
)

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

    Attributes:
        damaged: What is wrong with ensembles of the repository that are not served for it.
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
        self._served: dict[str, Ensemble] = {}
        self._loaded: dict[str, None] = {}
        self._deadlines: dict[str, float] = {}
        # Of a step: another release has other names.
        self._in_python: dict[str, bool] = {}
        self.damaged: tuple[str, ...] = ()
        self.read()
        self._closed = threading.Event()
        self._drain: threading.Thread | None = None

    @property
    def served(self) -> Mapping[str, Ensemble]:
        """The ensembles that are served, by name; a view that follows every reload."""
        return MappingProxyType(self._served)

    @property
    def names(self) -> str:
        """The releases that the ensembles name, for people: `r7`."""
        return releases_of(tuple(self._served.values()))

    @property
    def steps(self) -> tuple[str, ...]:
        """Every step that a server has to run, those of a replaced release included.

        A server loads them by name: Triton drops a step that came as an ensemble's dependency as
        soon as the ensemble no longer names it, under the requests that still need it.
        """
        return tuple(self._loaded)

    @property
    def needed(self) -> tuple[str, ...]:
        """The steps that the ensembles name and that run in processes of their own.

        Those of a release that is only being tried are not among them: they may go.
        """
        steps = steps_of(tuple(self._served.values()))
        for step in steps:
            if step not in self._in_python:
                self._in_python[step] = runs_in_python(self._repository, step)
        return tuple(step for step in steps if self._in_python[step])

    def read(self) -> None:
        """Take what the repository holds now for what is served, before a server is started.

        Raises:
            RepositoryError: It holds nothing that can be served.
        """
        with self._lock:
            state = read_repository(self._repository)
            self._served.clear()
            self._served.update(state.ensembles)
            self.damaged = state.damaged
            self._start_with_served()

    def forget_retired(self) -> None:
        """Take only what the ensembles name, before a server is started anew."""
        with self._lock:
            self._start_with_served()

    def on_disk(self) -> tuple[list[str], list[Ensemble]]:
        """Return what is served as the repository has it, by name, and what it has otherwise now.

        Raises:
            RepositoryError: It holds nothing that can be served.
        """
        present = read_repository(self._repository).ensembles
        changed = [item for name, item in self._served.items() if present.get(name) != item]
        return [name for name, item in self._served.items() if item not in changed], changed

    def load(self, ensembles: Iterable[Ensemble]) -> None:
        """Load ensembles as they were served, whatever the repository names by now.

        Raises:
            StartError: One cannot be loaded.
        """
        for ensemble in ensembles:
            try:
                config, _ = proof_of(self._repository, ensemble, ensemble.name)
                self._control.load(ensemble.name, self._timeout, config=config)
            except (OSError, CallError) as error:
                raise StartError(
                    f"{self._repository}: {ensemble.name}: {short_reason(reason(error))}"
                ) from error

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
            ensembles = read_repository(self._repository).ensembles
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

    def _start_with_served(self) -> None:
        self._loaded.clear()
        self._loaded.update(steps_of(self._served.values()))
        self._deadlines = {}
        compile_steps(self._repository, self._loaded)

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
        except (OSError, CallError) as error:
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
