"""Errors of `fgmclip.client.endpoints`.

ClientError
└── ConnectError
    ├── NoEndpointError     none of the servers takes requests now
    ├── TurnedAwayError     a server went out of use before a request was sent to it
    └── OverloadedError
        └── NoSlotError     a server's slots were taken for the whole of a request's time
"""

from __future__ import annotations

from fgmclip.client.errors import ConnectError, OverloadedError


class NoEndpointError(ConnectError):
    """None of several servers took requests in the time that a decision had."""


class TurnedAwayError(ConnectError):
    """A server went out of use while a request waited for it; nothing was sent."""


class NoSlotError(OverloadedError):
    """A server had as much in flight as it is given at once, for as long as a request may take."""
