"""Errors of `fgmclip.export`.

FgmclipError
└── ExportError              something about a release or a repository is wrong
    ├── RepositoryError      a directory is not, or is no longer, a repository of ours (ValueError)
    ├── BusyError            another process is publishing into the repository (BlockingIOError)
    └── GateError            a graph or a chain did not prove itself: nothing was published; exit 4
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fgmclip.spec.errors import FgmclipError

if TYPE_CHECKING:
    from fgmclip.export.gate import Verdict


class ExportError(FgmclipError):
    """Base of every error that export raises on purpose."""


class RepositoryError(ExportError, ValueError):
    """A directory or a manifest in it is not what a repository of this version holds."""


class BusyError(ExportError, BlockingIOError):
    """Another process is publishing into the same repository."""


class GateError(ExportError):
    """An engine did not prove itself, so nothing was published.

    Attributes:
        verdicts: What the gate saw of every engine; empty where it did not come that far.
    """

    exit_code = 4

    def __init__(self, message: str, verdicts: Sequence[Verdict] = ()) -> None:
        """Refuse, with what was seen."""
        super().__init__(message)
        self.verdicts = tuple(verdicts)
