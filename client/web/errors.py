"""Errors of `fgmclip.client.web`.

ClientError
└── PageError            the live page cannot be shown at this address (OSError); exit 2
    └── PageTakenError   another program listens there
"""

from __future__ import annotations

from fgmclip.client.errors import ClientError


class PageError(ClientError, OSError):
    """The live page cannot be shown at the address that was asked for."""

    exit_code = 2


class PageTakenError(PageError):
    """Another program, or another gateway, listens at the live page's address."""
