"""What guards the page: who may ask, what answers say, and how much of it there may be."""

from __future__ import annotations

import asyncio

import h11
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

MOST_CONNECTIONS = 64
"""Beyond these a connection is closed at once: files of the gateway are for its cameras."""

SILENT_SECONDS = 10.0
"""A connection that asks for nothing in this time, or not to the end of it, is closed."""

STUCK_SECONDS = 10.0
"""A client that reads nothing for so long, while something waits for it, is cut off."""

_LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "[::1]")

_HEADERS = {
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


class Guard:
    """Adds security headers to every answer, and refuses names that are not this host's."""

    def __init__(self, app: ASGIApp, *, policy: str, loopback: bool) -> None:
        """Stand before an application.

        Args:
            app: What answers.
            policy: Content-Security-Policy of every answer.
            loopback: Whether only this host can connect. A page elsewhere could then make its own
                name point here (DNS rebinding), so `Host` has to name this host.
        """
        self._app = app
        self._headers = {**_HEADERS, "content-security-policy": policy}
        self._loopback = loopback

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self._headers)
            await send(message)

        host = _without_port(Headers(scope=scope).get("host", ""))
        if self._loopback and host not in _LOOPBACK_HOSTS:
            refusal = PlainTextResponse(
                "expected a Host header of localhost, 127.0.0.1 or [::1]; a proxy has to set it\n",
                status_code=421,
            )
            await refusal(scope, receive, send_guarded)
            return
        await self._app(scope, receive, send_guarded)


def _without_port(host: str) -> str:
    name, colon, port = host.lower().rpartition(":")
    return name if colon and port.isdigit() else host.lower()


class BoundedProtocol(H11Protocol):
    """HTTP for at most `MOST_CONNECTIONS` clients, none of which can hold anything up."""

    _stuck: asyncio.TimerHandle | None = None
    _unfinished: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, or close it if there are too many."""
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            transport.abort()
            return
        # uvicorn's own timer begins with the first answer only.
        self.timeout_keep_alive_task = self.loop.call_later(
            SILENT_SECONDS, self.timeout_keep_alive_handler
        )

    def data_received(self, data: bytes) -> None:
        """Take a part of a request; all of it has to come in time, however it is dealt out."""
        super().data_received(data)
        if self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
            self._forget_unfinished()
        elif self._unfinished is None:
            self._unfinished = self.loop.call_later(SILENT_SECONDS, self.transport.abort)

    def pause_writing(self) -> None:
        """Wait for a client that does not read, but not for ever."""
        super().pause_writing()
        if self._stuck is None:
            self._stuck = self.loop.call_later(STUCK_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on: the client reads."""
        self._forget_stuck()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Clear up."""
        self._forget_stuck()
        self._forget_unfinished()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def _forget_stuck(self) -> None:
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None

    def _forget_unfinished(self) -> None:
        if self._unfinished is not None:
            self._unfinished.cancel()
            self._unfinished = None
