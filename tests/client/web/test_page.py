"""The live page over plain HTTP: answers, refusals, limits, and a clean end."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from fgmclip.client.endpoints.endpoint import EndpointStatus
from fgmclip.client.gateway.board import Board
from fgmclip.client.web import http, page
from fgmclip.client.web.errors import PageError
from fgmclip.client.web.page import LivePage


@pytest.fixture
def board() -> Board:
    board = Board()
    board.camera("door").became("live")
    board.camera("door").decided(1.0, "wave", 0.9, None, 0.2, 1)
    board.watch("endpoints", lambda: (EndpointStatus("h:1", True, 0, 0, 0, 0, 0),))
    return board


@pytest.fixture
def live(board: Board) -> Iterator[LivePage]:
    live = LivePage(board, 0)
    live.start()
    yield live
    live.stop()


@pytest.fixture
def client(live: LivePage) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=live.url, timeout=10, trust_env=False) as client:
        yield client


def messages(response: httpx.Response) -> Iterator[dict[str, Any]]:
    for line in response.iter_lines():
        if line.startswith("data: "):
            yield json.loads(line[6:])


def wait_until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def connect(live: LivePage) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", httpx.URL(live.url).port or 0), 10)
    connection.settimeout(10)
    return connection


def is_closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def test_state_is_the_boards(client: httpx.Client, board: Board) -> None:
    state = client.get("/api/state").json()
    assert state["cameras"][0]["name"] == "door"
    assert state["cameras"][0]["actions"][0]["label"] == "wave"
    assert state.keys() == board.snapshot().to_json().keys()


def test_the_stream_sends_each_decision_once(client: httpx.Client, board: Board) -> None:
    with client.stream("GET", "/api/stream") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        came = messages(response)
        first = next(came)
        board.camera("door").decided(2.0, "kick", 0.8, None, 0.2, 1)
        second = next(came)
    assert [point["label"] for point in first["cameras"][0]["history"]] == ["wave"]
    assert [point["label"] for point in second["cameras"][0]["history"]] == ["kick"]


def test_metrics_are_prometheus_text(client: httpx.Client) -> None:
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    assert 'fgmclip_camera_decisions_total{camera="door"} 1.0' in answer.text


def test_alive_and_ready_are_two_questions(client: httpx.Client, board: Board) -> None:
    assert client.get("/readyz").status_code == 200
    board.watch("endpoints", lambda: ())
    assert client.get("/healthz").status_code == 200
    unready = client.get("/readyz")
    assert unready.status_code == 503
    assert unready.json() == {"ready": False, "causes": ["no server is healthy"]}


def test_the_page_needs_nothing_from_elsewhere(client: httpx.Client) -> None:
    html = client.get("/").text
    addresses = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?([^"')\s>]+)""", html)
    assert [a for a in addresses if not a.startswith(("data:", "#", "/api/"))] == []
    assert "innerHTML" not in html


def test_the_policy_allows_this_script_and_this_style_alone(client: httpx.Client) -> None:
    answer = client.get("/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for tag in ("script", "style"):
        (text,) = re.findall(f"<{tag}>(.*?)</{tag}>", answer.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def test_every_answer_is_guarded(client: httpx.Client) -> None:
    for path in ("/", "/api/state", "/metrics", "/nothing"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff", path
        assert "frame-ancestors 'none'" in headers["content-security-policy"], path
        assert "access-control-allow-origin" not in headers, path


def test_a_name_that_is_not_this_hosts_is_refused(client: httpx.Client) -> None:
    for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example", "[::1].x", ""):
        answer = client.get("/api/state", headers={"host": host})
        assert answer.status_code == 421, host
        assert "door" not in answer.text
    for host in ("localhost", "LOCALHOST:1", "127.0.0.1:99", "[::1]:80", "[::1]"):
        assert client.get("/healthz", headers={"host": host}).status_code == 200, host


def test_beyond_loopback_any_name_may_be_this_hosts(board: Board) -> None:
    live = LivePage(board, 0, "0.0.0.0")
    url = live.start()
    try:
        assert url.startswith("http://localhost:")
        answer = httpx.get(f"{url}healthz", headers={"host": "gateway.example"}, trust_env=False)
        assert answer.status_code == 200
    finally:
        live.stop()


def test_ipv6(board: Board) -> None:
    live = LivePage(board, 0, "::1")
    try:
        url = live.start()
    except PageError:
        pytest.skip("this machine has no IPv6")
    assert httpx.get(f"{url}healthz", trust_env=False).status_code == 200
    live.stop()


def test_nothing_can_be_changed(client: httpx.Client) -> None:
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        assert client.request(method, "/api/state").status_code == 405, method


def test_head_of_the_stream_ends(client: httpx.Client) -> None:
    assert client.head("/api/stream").status_code == 200


def test_streams_are_bounded(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "MOST_STREAMS", 1)
    with client.stream("GET", "/api/stream") as first:
        came = messages(first)
        next(came)
        with client.stream("GET", "/api/stream") as refused:
            assert refused.status_code == 503
            assert "retry-after" in refused.headers
        next(came)

    def is_answered() -> bool:
        with client.stream("GET", "/api/stream") as again:
            return again.status_code == 200

    # The page that was closed makes room.
    wait_until(is_answered)


def test_a_client_that_stops_reading_is_cut_off(
    board: Board, live: LivePage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "STUCK_SECONDS", 0.2)
    monkeypatch.setattr(page, "PERIOD_SECONDS", 0.0)
    for number in range(100):
        board.camera(str(number)).became("stalled", "x" * 300)
    with connect(live) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(b"GET /api/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        wait_until(lambda: live._streams == 1)
        wait_until(lambda: live._streams == 0)


def test_connections_are_bounded(live: LivePage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MOST_CONNECTIONS", 2)
    kept = [connect(live), connect(live)]
    for connection in kept:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(12) == b"HTTP/1.1 200"
    with connect(live) as beyond:
        assert is_closed(beyond)
    for connection in kept:
        connection.close()


def test_a_connection_that_asks_for_nothing_is_closed(
    live: LivePage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "SILENT_SECONDS", 0.1)
    with connect(live) as connection:
        assert is_closed(connection)


def test_a_busy_port_is_said_with_the_remedy(live: LivePage, board: Board) -> None:
    port = httpx.URL(live.url).port
    assert port is not None
    with pytest.raises(PageError, match=f"127.0.0.1:{port}: .*choose another port") as caught:
        LivePage(board, port).start()
    assert isinstance(caught.value, OSError)


def test_an_address_of_nobody_is_said(board: Board) -> None:
    with pytest.raises(PageError, match="expected an address and a port"):
        LivePage(board, 0, "192.0.2.1").start()


def test_stop_ends_open_streams_and_frees_the_port(board: Board) -> None:
    live = LivePage(board, 0)
    url = live.start()
    with httpx.stream("GET", f"{url}api/stream", timeout=10, trust_env=False) as response:
        came = messages(response)
        next(came)
        live.stop()
        assert len(list(came)) <= 2
    assert not [thread for thread in threading.enumerate() if thread.name == "live page"]
    live.stop()
    again = LivePage(board, httpx.URL(url).port or 0)
    assert again.start() == url
    again.stop()
