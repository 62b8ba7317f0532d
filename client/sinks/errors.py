"""Errors of `fgmclip.client.sinks`.

ClientError
├── SinkUnavailableError     nothing is wrong with the events: try again later (ConnectionError)
└── SinkRefusedError         the receiver takes these events never (ValueError)

A message is one line, without secrets.
"""

from __future__ import annotations

from fgmclip.client.errors import ClientError


class SinkUnavailableError(ClientError, ConnectionError):
    """The receiver takes nothing now; the same events may be delivered later.

    Attributes:
        retry_seconds: How long it asked to be left alone; 0 where it did not say.
    """

    def __init__(self, message: str, retry_seconds: float = 0.0) -> None:
        """Say what happened.

        Args:
            message: One line, without secrets.
            retry_seconds: How long the receiver asked to be left alone.
        """
        super().__init__(message)
        self.retry_seconds = retry_seconds


class SinkRefusedError(ClientError, ValueError):
    """The receiver refused these events for good; delivering them again would not help."""
