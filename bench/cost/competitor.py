"""What takes part in a race: `Competitor`, and the keys that comparisons are drawn to."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from fgmclip.bench.cost.report import Entry
from fgmclip.spec import FgmclipError

SERVED = "served"
"""Key of our server with the rung that the gate chose: what others are compared with."""

EAGER = "eager-fp32"
"""Key of eager PyTorch fp32: what baselines are compared by, as it follows the machine's speed."""

NAIVE = "naive-triton"
"""Key of a Triton repository set up without us."""


class CompetitorError(FgmclipError):
    """A competitor cannot run here, or ended by itself; its message is why it has no times."""


class Competitor(Protocol):
    """One entry of a report that can be timed."""

    @property
    def entry(self) -> Entry:
        """The entry without its latency; if its `why` says why it cannot run, it is not opened."""

    def open(self) -> AbstractContextManager[Callable[[], float]]:
        """Start it, in a process of its own that sleeps whenever it is not asked.

        Returns:
            Runs one clip and returns how long that took, milliseconds. Opening may take long
            (engines, compilation, a first clip unseen): the first run is ready to be timed.

        Raises:
            CompetitorError: It cannot run here; at opening or in any run.
        """
