"""`LivePage`: the cameras in a browser, and `/metrics`, on a thread of its own."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import json
import socket
import threading
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from fgmclip.client.gateway.board import Board
from fgmclip.client.gateway.metrics import BoardMetrics
from fgmclip.client.web.document import document
from fgmclip.client.web.errors import PageError, PageTakenError
from fgmclip.client.web.http import BoundedProtocol, Guard

PERIOD_SECONDS = 0.5
"""Between two messages of the stream."""

MOST_STREAMS = 32
"""Pages that are open at once."""

_START_SECONDS = 10.0


class LivePage:
    """A small HTTP server over the board.

    - `/`: the page.
    - `/api/state`: `Snapshot.to_json`.
    - `/api/stream`: server-sent events; the first is all of `/api/state`, the others leave out
      the decisions that were sent before.
    - `/metrics`: for Prometheus.
    - `/healthz`: 200 while the gateway lives.
    - `/readyz`: 200 while a server is healthy and no camera's thread has died, else 503 and why.
    """

    def __init__(self, board: Board, port: int, host: str = "127.0.0.1") -> None:
        """Take over where to listen; `start` listens.

        Args:
            board: What to show.
            port: Port to listen on; 0 takes a free one.
            host: Address to listen on.
        """
        self._board = board
        self._host = host
        self._port = port
        self._metrics = BoardMetrics(board)
        self._page, self._policy = document()
        self._streams = 0
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self.url = ""

    def start(self) -> str:
        """Listen, and return the page's address.

        Raises:
            PageError: The address cannot be had.
        """
        listener = self._listen()
        address, port = listener.getsockname()[:2]
        ip = ipaddress.ip_address(address)
        app = Guard(
            Starlette(
                routes=[
                    Route("/", self._show),
                    Route("/api/state", self._state),
                    Route("/api/stream", self._stream),
                    Route("/metrics", self._expose),
                    Route("/healthz", self._alive),
                    Route("/readyz", self._ready),
                ]
            ),
            policy=self._policy,
            loopback=ip.is_loopback,
        )
        config = uvicorn.Config(
            app,
            http=BoundedProtocol,
            ws="none",
            loop="asyncio",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=2,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, args=([listener],), name="live page", daemon=True
        )
        self._thread.start()
        self._wait_until_started()
        name = "localhost" if ip.is_unspecified else f"[{address}]" if ip.version == 6 else address
        self.url = f"http://{name}:{port}/"
        return self.url

    def probe(self) -> None:
        """Find out whether `start` could listen.

        Raises:
            PageTakenError: Somebody else listens there.
            PageError: The address cannot be had.
        """
        self._listen().close()

    def stop(self) -> None:
        """Close every page and stop listening; once stopped it may be started again."""
        if self._server is None or self._thread is None:
            return
        self._server.should_exit = True
        self._thread.join(timeout=10.0)
        self._server = self._thread = None

    def _listen(self) -> socket.socket:
        try:
            family, _, _, _, address = socket.getaddrinfo(
                self._host, self._port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            return socket.create_server(address[:2], family=family)
        except (OSError, OverflowError) as error:
            taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
            raise (PageTakenError if taken else PageError)(
                f"live page: expected an address and a port to listen on, got {self._host}:"
                f"{self._port}: {error}; choose another port, or 0 for a free one"
            ) from error

    def _wait_until_started(self) -> None:
        server, thread = self._server, self._thread
        pause = threading.Event()
        for _ in range(int(_START_SECONDS / 0.01)):
            if server is None or thread is None or server.started:
                return
            if not thread.is_alive():
                break
            pause.wait(0.01)
        self.stop()
        raise PageError(f"live page: expected it to start within {_START_SECONDS:g} s; see the log")

    async def _show(self, _request: Request) -> Response:
        return Response(self._page, media_type="text/html")

    async def _state(self, _request: Request) -> Response:
        snapshot = await asyncio.to_thread(self._board.snapshot)
        return JSONResponse(snapshot.to_json())

    async def _expose(self, request: Request) -> Response:
        accept = request.headers.get("accept", "")
        body, content_type = await asyncio.to_thread(self._metrics.render, accept)
        return Response(body, headers={"content-type": content_type})

    async def _alive(self, _request: Request) -> Response:
        return JSONResponse({"alive": True})

    async def _ready(self, _request: Request) -> Response:
        causes = await asyncio.to_thread(self._board.unready)
        return JSONResponse({"ready": not causes, "causes": causes}, 503 if causes else 200)

    async def _stream(self, request: Request) -> Response:
        if request.method == "HEAD":
            return Response(media_type="text/event-stream")
        if self._streams >= MOST_STREAMS:
            return Response(
                f"{MOST_STREAMS} pages are open already\n",
                status_code=503,
                headers={"retry-after": "5"},
            )
        return StreamingResponse(self._messages(), media_type="text/event-stream")

    async def _messages(self) -> AsyncIterator[str]:
        # Each message is made when the one before has been taken: nothing queues for a client
        # that reads slowly, it only sees fewer of them.
        self._streams += 1
        try:
            sent = 0
            while self._server is not None and not self._server.should_exit:
                # In a thread: the outbox may have to wait for its disk.
                snapshot = await asyncio.to_thread(self._board.snapshot, sent)
                sent = snapshot.number
                yield f"data: {_json(snapshot.to_json())}\n\n"
                await asyncio.sleep(PERIOD_SECONDS)
        finally:
            self._streams -= 1


def _json(fields: dict[str, Any]) -> str:
    return json.dumps(fields, allow_nan=False, separators=(",", ":"))
