"""Errors of `fgmclip.kernels`.

ValueError
└── KernelError    an argument is not what an operation takes
RuntimeError
├── DeviceError    there is no GPU that could run the kernels, or it failed while it did
└── BuildError     the CUDA kernels were not built, or cannot be

Not below `FgmclipError`: that class lives beside pydantic, which a stock Triton container, where
the kernels run too, need not have.
"""


class KernelError(ValueError):
    """An argument was refused: the message says what was expected, what came, and the remedy."""


class DeviceError(RuntimeError):
    """No GPU here can run the kernels, or one failed: a machine's fault, not a caller's."""


class BuildError(RuntimeError):
    """The fat binary is missing or stale, or nvcc did not make it.

    Attributes:
        log: What the compiler said, in full.
    """

    def __init__(self, message: str, log: str = "") -> None:
        """Keep what the compiler said beside the one-line message."""
        super().__init__(message)
        self.log = log
