"""Errors of `fgmclip.kernels`.

ValueError
└── KernelError    an argument is not what an operation takes

Not below `FgmclipError`: that class lives beside pydantic, which a stock Triton container, where
the kernels run too, need not have.
"""


class KernelError(ValueError):
    """An argument was refused: the message says what was expected, what came, and the remedy."""
