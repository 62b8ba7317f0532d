"""`WebhookSink`: events to an HTTP address, signed."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime

import httpx

from fgmclip import __version__
from fgmclip.client.errors import SettingsError
from fgmclip.client.events.event import Event
from fgmclip.client.gateway.address import with_login
from fgmclip.client.gateway.settings import WebhookSettings
from fgmclip.client.proxies import by_proxy, http_variables, is_own_host
from fgmclip.client.sinks.errors import SinkRefusedError, SinkUnavailableError
from fgmclip.client.sinks.signature import DELIVERY_HEADER, SIGNATURE_HEADER, sign

RETRIED = (401, 403, 404, 407, 408, 425, 429)
"""Answers below 500 that say nothing about the events."""


class WebhookSink:
    """Posts each batch as `{"events": [...]}`; any 2xx means that the receiver has it.

    Redirects are not followed: a signed body goes to the address that was configured alone.
    """

    def __init__(self, settings: WebhookSettings) -> None:
        """Connect to nothing yet.

        Args:
            settings: Address, key and deadline.

        Raises:
            SettingsError: The address has no meaning.
        """
        # It logs whole addresses, and those may hold keys.
        for name in ("httpx", "httpcore"):
            logging.getLogger(name).setLevel(logging.WARNING)
        self._secret = settings.secret
        password = None if settings.password is None else settings.password.get_secret_value()
        try:
            self._url = httpx.URL(
                with_login(settings.url.get_secret_value(), settings.user, password)
            )
        except SettingsError as error:
            raise SettingsError(f"sinks.webhook.url: {error}") from error
        except (httpx.InvalidURL, ValueError):
            # Its text holds the address.
            raise SettingsError("sinks.webhook.url: expected an http or https address") from None
        if not self._url.host:
            raise SettingsError("sinks.webhook.url: expected a host in it, got none")
        self._by = by_proxy(self._url.host, http_variables(self._url.scheme))
        try:
            self._client = httpx.Client(
                timeout=settings.timeout_seconds,
                follow_redirects=False,
                headers={
                    "Content-Type": "application/json",
                    "User-Agent": f"fgmclip/{__version__}",
                },
                # A transport of its own looks for no proxy.
                transport=httpx.HTTPTransport() if is_own_host(self._url.host) else None,
            )
        except (ImportError, httpx.InvalidURL, ValueError) as error:
            # Another scheme than http, or a SOCKS proxy without its library.
            raise SettingsError(
                "sinks.webhook.url: expected an HTTP proxy in the environment, got another"
                f"{self._by or ' for other hosts'}"
            ) from error

    def deliver(self, events: Sequence[Event]) -> None:
        """Post the events; see `Sink.deliver`."""
        body = json.dumps({"events": [event.to_json() for event in events]}).encode("ascii")
        ids = "\n".join(event.message_id for event in events)
        headers = {DELIVERY_HEADER: hashlib.sha256(ids.encode()).hexdigest()[:32]}
        if self._secret is not None:
            headers[SIGNATURE_HEADER] = sign(
                self._secret.get_secret_value(), body, int(time.time())
            )
        try:
            # Streamed, as the answer's body is never looked at, however long it is.
            with self._client.stream("POST", self._url, content=body, headers=headers) as answer:
                self._judge(answer)
        except httpx.HTTPError as error:
            what = str(error) if isinstance(error, httpx.ConnectError) else type(error).__name__
            raise SinkUnavailableError(f"{self._url.host}: {what}{self._by}") from error

    def close(self) -> None:
        """Close the connections; a second call does nothing."""
        self._client.close()

    def _judge(self, answer: httpx.Response) -> None:
        status = answer.status_code
        if answer.is_success:
            return
        if answer.has_redirect_location:
            raise SinkUnavailableError(
                f"{self._url.host}: answered {status}, a redirect; name the final address in "
                "sinks.webhook.url"
            )
        said = f"{self._url.host}: answered {status}{self._by}"
        if 400 <= status < 500 and status not in RETRIED:
            raise SinkRefusedError(said)
        raise SinkUnavailableError(said, _seconds(answer.headers.get("Retry-After", "")))


def _seconds(retry_after: str) -> float:
    """Return what a Retry-After header asks for, seconds; 0 where it says nothing."""
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after)
    try:
        when = parsedate_to_datetime(retry_after)
    except ValueError:
        return 0.0
    if when.tzinfo is None:
        when = when.replace(tzinfo=timezone.utc)
    return max(0.0, (when - datetime.now(timezone.utc)).total_seconds())
