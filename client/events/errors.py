"""Errors of `fgmclip.client.events`.

ClientError
└── OutboxError              the outbox's file cannot be used (OSError)
    └── OutboxInUseError     another gateway has it (BlockingIOError); exit 2

A message is one line.
"""

from __future__ import annotations

from fgmclip.client.errors import ClientError


class OutboxError(ClientError, OSError):
    """The outbox's file cannot be read or written."""


class OutboxInUseError(OutboxError, BlockingIOError):
    """Another gateway has the outbox's file."""

    exit_code = 2
