"""What this room refuses.

FgmclipError
└── ModelError
    ├── BuildError              a spec names a network that cannot be built (also a ValueError)
    ├── InputError              tensors do not fit the network (also a ValueError)
    ├── GraphError              a submodule did not become a graph (also a RuntimeError)
    └── CheckpointError         a file of weights is refused (also a ValueError); has `path`
        ├── UnreadableError     it is cut off, damaged, or of an unknown kind
        ├── UnsafeError         reading it would run code
        ├── NoSpecError         nothing says which network it belongs to
        └── WeightsError        keys are missing, unexpected or misshapen, or values not finite
"""

from __future__ import annotations

from pathlib import Path

from fgmclip.spec.errors import FgmclipError


class ModelError(FgmclipError):
    """Base of this room's errors."""


class BuildError(ModelError, ValueError):
    """A spec names a network that cannot be built."""

    exit_code = 2


class InputError(ModelError, ValueError):
    """Tensors do not fit the network."""


class GraphError(ModelError, RuntimeError):
    """A submodule did not become an ONNX graph, or a graph cannot be counted."""


class CheckpointError(ModelError, ValueError):
    """A file of weights is refused.

    Attributes:
        path: The file.
    """

    def __init__(self, path: Path, problem: str) -> None:
        """Put the file's name before the problem."""
        super().__init__(f"{path}: {problem}")
        self.path = path


class UnreadableError(CheckpointError):
    """The file is cut off, damaged, or of a kind that is not read here."""


class UnsafeError(CheckpointError):
    """The file is a pickle that asks for more than tensors; it was not run."""


class NoSpecError(CheckpointError):
    """Nothing in or beside the file says which network it belongs to."""


class WeightsError(CheckpointError):
    """The file's tensors are not those of the network."""
