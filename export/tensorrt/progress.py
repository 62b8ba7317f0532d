"""A build's progress, from the builder's own monitor, as one number between 0 and 1."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Progress = Callable[[str, float], None]
"""Called with the innermost phase and how much of the build is done."""


@dataclass
class _Phase:
    parent: str | None
    steps: int
    done: int = 0


class BuildProgress:
    """What the builder says about its phases; a step counts for as much as its siblings.

    The phases are nested and of unequal length, so the share never runs backwards, but it is no
    promise of time.
    """

    def __init__(self, report: Progress) -> None:
        """Start at nothing.

        Args:
            report: Called after each change.
        """
        self.interrupted = False
        self._report = report
        self._phases: dict[str, _Phase] = {}
        self._share = 0.0

    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
        """Note that a phase begins."""
        self._phases[phase_name] = _Phase(parent_phase, max(num_steps, 1))
        self._tell(phase_name)

    def step_complete(self, phase_name: str, step: int) -> bool:
        """Note that a step ended; False ends the build."""
        if phase_name in self._phases:
            self._phases[phase_name].done = step + 1
        self._tell(phase_name)
        return not self.interrupted

    def phase_finish(self, phase_name: str) -> None:
        """Note that a phase ended."""
        phase = self._phases.pop(phase_name, None)
        if phase is not None and phase.parent is None:
            self._share = 1.0
        self._tell(phase_name)

    def monitor(self, module: Any) -> Any:
        """Return an `IProgressMonitor` of a library that reports here.

        Args:
            module: The library's module.
        """
        base = module.IProgressMonitor

        def start(monitor: Any) -> None:
            base.__init__(monitor)

        def phase_start(monitor: Any, name: str, parent: str | None, steps: int) -> None:
            self.phase_start(name, parent, steps)

        def step_complete(monitor: Any, name: str, step: int) -> bool:
            return self.step_complete(name, step)

        def phase_finish(monitor: Any, name: str) -> None:
            self.phase_finish(name)

        members = {
            "__init__": start,
            "phase_start": phase_start,
            "step_complete": step_complete,
            "phase_finish": phase_finish,
        }
        return type("Monitor", (base,), members)()

    def _tell(self, innermost: str) -> None:
        roots = [name for name, phase in self._phases.items() if phase.parent is None]
        if roots:
            self._share = max(self._share, self._done(roots[0]))
        try:
            self._report(innermost, min(self._share, 1.0))
        except KeyboardInterrupt:
            # Ctrl-C reaches Python only here; an exception inside the builder would end the
            # process, so the build is asked to stop instead.
            self.interrupted = True

    def _done(self, name: str) -> float:
        phase = self._phases[name]
        children = [child for child, item in self._phases.items() if item.parent == name]
        inside = self._done(children[-1]) if children else 0.0
        return min((phase.done + inside) / phase.steps, 1.0)
