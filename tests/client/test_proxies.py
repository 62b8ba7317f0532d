"""Proxies of the environment: never for one's own host, and named where they fail."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from pydantic import SecretStr

from fgmclip.client.errors import ConnectError, SettingsError
from fgmclip.client.events.event import Event
from fgmclip.client.gateway.settings import WebhookSettings
from fgmclip.client.proxies import (
    GRPC_VARIABLES,
    by_proxy,
    http_variables,
    is_own_host,
    reach_own_host_directly,
)
from fgmclip.client.sinks.errors import SinkUnavailableError
from fgmclip.client.sinks.webhook import WebhookSink
from fgmclip.client.timeouts import Timeouts
from fgmclip.client.transport import GrpcTransport

ELSEWHERE = "192.0.2.1"
"""An address of documentation: no host has it."""

EVENT = Event("1" * 32, "door", None, "hug", 1.0, None, 0.9, 1.5, "open", "wall", "m")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> str:
    """A proxy that nobody answers at, with a password."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{probe.getsockname()[1]}"
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://user:hunter2@{place}")
    return place


@pytest.fixture
def receiver() -> Iterator[int]:
    """The port of a webhook on this host."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = HTTPServer(("0.0.0.0", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()
    thread.join()


def webhook(url: str) -> WebhookSink:
    return WebhookSink(WebhookSettings.of(url=SecretStr(url), timeout_seconds=5))


@pytest.mark.parametrize(
    ("host", "own"),
    [
        ("localhost", True),
        ("LOCALHOST.", True),
        ("cam.localhost", True),
        ("127.0.0.1", True),
        ("127.8.9.10", True),
        ("[::1]", True),
        ("::1", True),
        ("0.0.0.0", True),
        (socket.gethostname(), True),
        (ELSEWHERE, False),
        ("[2001:db8::1]", False),
        ("localhost.example.com", False),
        ("camera", False),
    ],
)
def test_ones_own_host_is_known(host: str, own: bool) -> None:
    assert is_own_host(host) is own


def test_a_webhook_of_this_host_is_reached_without_the_proxy(proxy: str, receiver: int) -> None:
    for host in ("127.0.0.1", "127.0.0.2", "localhost"):
        sink = webhook(f"http://{host}:{receiver}/")
        sink.deliver([EVENT])
        sink.close()


def test_a_webhook_that_a_proxy_fails_names_it(proxy: str) -> None:
    sink = webhook(f"http://{ELSEWHERE}/")
    with pytest.raises(SinkUnavailableError) as refused:
        sink.deliver([EVENT])
    sink.close()
    assert f"(through the proxy {proxy} that http_proxy names; put {ELSEWHERE} into" in str(
        refused.value
    )
    assert "hunter2" not in str(refused.value)


def test_a_proxy_of_another_kind_is_named(monkeypatch: pytest.MonkeyPatch, receiver: int) -> None:
    monkeypatch.setenv("ALL_PROXY", "foo://127.0.0.1:9")
    with pytest.raises(SettingsError, match=r"expected an HTTP proxy .* that ALL_PROXY names"):
        webhook(f"http://{ELSEWHERE}/")
    sink = webhook(f"http://127.0.0.1:{receiver}/")
    sink.deliver([EVENT])
    sink.close()


def test_a_server_behind_a_proxy_that_fails_names_it(proxy: str) -> None:
    transport = GrpcTransport(f"{ELSEWHERE}:8001", Timeouts(connect_seconds=5))
    with pytest.raises(ConnectError) as refused:
        transport.model_parameters("fgm_clip", timeout_seconds=5)
    transport.close()
    assert f"(through the proxy {proxy} that http_proxy names" in str(refused.value)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("host", ["127.0.0.2", socket.gethostname()])
def test_a_server_of_this_host_is_asked_without_the_proxy(proxy: str, host: str) -> None:
    transport = GrpcTransport(f"{host}:1", Timeouts(connect_seconds=5))
    with pytest.raises(ConnectError) as refused:
        transport.model_parameters("fgm_clip", timeout_seconds=5)
    transport.close()
    assert proxy not in str(refused.value)
    assert "proxy" not in str(refused.value)


@pytest.mark.parametrize(
    ("exceptions", "named"),
    [
        ("", True),
        ("other.example", True),
        ("example.com", False),
        (".example.com", False),
        ("a, cam.example.com", False),
        ("*", False),
    ],
)
def test_exceptions_of_the_environment_count(
    proxy: str, monkeypatch: pytest.MonkeyPatch, exceptions: str, named: bool
) -> None:
    monkeypatch.setenv("no_proxy", exceptions)
    assert bool(by_proxy("cam.example.com", http_variables("http"))) is named
    assert bool(by_proxy("cam.example.com", GRPC_VARIABLES)) is named


def test_networks_among_the_exceptions_count_for_grpc(
    proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "192.0.2.0/24")
    assert by_proxy(ELSEWHERE, GRPC_VARIABLES) == ""
    assert by_proxy(ELSEWHERE, http_variables("http")) != ""


def test_a_camera_of_this_host_is_an_exception_for_ffmpeg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "example.com")
    reach_own_host_directly("http://127.0.0.1:81/live")
    assert os.environ["no_proxy"] == "example.com,127.0.0.1"
    reach_own_host_directly(f"http://{ELSEWHERE}/live")
    assert os.environ["no_proxy"] == "example.com,127.0.0.1"
