"""Errors of `fgmclip.serve`.

FgmclipError
└── ServeError               a server on this machine could not be run
    ├── TritonMissingError   there is no tritonserver that could be started (FileNotFoundError)
    ├── RepositoryError      the directory holds nothing that can be served (ValueError)
    ├── PortError            a port is taken or is none (OSError)
    ├── SharedMemoryError    the machine gives too little shared memory (OSError)
    ├── StartError           Triton refused to start (RuntimeError)
    ├── ReadyTimeoutError    Triton did not become ready in time (TimeoutError)
    ├── ServerDiedError      Triton ended by itself, or its server is not running (RuntimeError)
    └── ReloadError          a newly published release cannot be served (RuntimeError)

A message is one line. Steps raise none of these: see `fgmclip.serve.steps.step`.
"""

from __future__ import annotations

from fgmclip.spec.errors import FgmclipError


class ServeError(FgmclipError):
    """Base of every error that a server on this machine raises on purpose."""


class TritonMissingError(ServeError, FileNotFoundError):
    """There is no tritonserver on this machine that could be started."""


class RepositoryError(ServeError, ValueError):
    """The directory is no repository, or holds no ensemble that can be served."""

    exit_code = 2


class PortError(ServeError, OSError):
    """The port that the caller named cannot be listened on."""

    exit_code = 2


class SharedMemoryError(ServeError, OSError):
    """The machine gives the Python backend too little shared memory."""


class StartError(ServeError, RuntimeError):
    """Triton refused to start; the message carries the reason from its log."""


class ReadyTimeoutError(ServeError, TimeoutError):
    """Triton did not become ready in time."""


class ServerDiedError(ServeError, RuntimeError):
    """Triton ended by itself, or the server was asked while it is not running."""


class ReloadError(ServeError, RuntimeError):
    """A newly published release cannot be served; the old one still answers."""
