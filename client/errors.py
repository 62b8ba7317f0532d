"""Errors of `fgmclip.client`.

FgmclipError
└── ClientError              talking to a server went wrong
    ├── SettingsError        an address or a timeout has no meaning (ValueError); exit 2
    ├── ConnectError         no server answers there, or it takes no requests now (ConnectionError)
    │   └── OverloadedError      the server has more to do than it can answer in time
    ├── RequestTimeoutError  the answer did not come in time (TimeoutError)
    ├── ServerError          the server failed over a request that it took (RuntimeError)
    │   └── ModelNotFoundError   the server does not have the model (LookupError)
    ├── ManifestError        the server is not one of ours, or of an unknown format (ValueError)
    └── RefusedError         the input was refused, here or by the server (ValueError)
        └── TagMismatchError     an answer or a stream's history belongs to another release

A message is one line; where the server said why, it is kept in full.
"""

from __future__ import annotations

from fgmclip.spec.errors import FgmclipError


class ClientError(FgmclipError):
    """Base of every error that the client raises on purpose."""


class SettingsError(ClientError, ValueError):
    """An address or a timeout that the caller gave has no meaning."""

    exit_code = 2


class ConnectError(ClientError, ConnectionError):
    """No server answers at the address, or it takes no requests now; trying again may help."""


class OverloadedError(ConnectError):
    """The server refused at once what it could not answer in time; newer frames may be taken."""


class RequestTimeoutError(ClientError, TimeoutError):
    """The server took the request, and the answer did not come in time."""


class ServerError(ClientError, RuntimeError):
    """The server failed over a request that it took; sending it again need not help."""


class ModelNotFoundError(ServerError, LookupError):
    """The server does not have the model, or has not loaded it."""


class ManifestError(ClientError, ValueError):
    """The server publishes no manifest that this version of fgmclip understands."""


class RefusedError(ClientError, ValueError):
    """The input was refused; the message says what was expected, what came, and the remedy."""


class TagMismatchError(RefusedError):
    """A stream's history, or an answer, is of another release than the one that is published."""
