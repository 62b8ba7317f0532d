"""`WebhookSink` against a real HTTP server in this process."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from pydantic import SecretStr

from fgmclip.client.errors import SettingsError
from fgmclip.client.events.event import Event
from fgmclip.client.gateway.settings import WebhookSettings
from fgmclip.client.sinks.errors import SinkRefusedError, SinkUnavailableError
from fgmclip.client.sinks.signature import sign, verify_signature
from fgmclip.client.sinks.webhook import WebhookSink

MakeEvent = Callable[..., Event]


@dataclass
class Receiver:
    """What it answers next, and what came."""

    url: str = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    pause: float = 0.0
    came: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    state = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            state.came.append((self.path, dict(self.headers), body))
            time.sleep(state.pause)
            self.send_response(state.status)
            for name, value in state.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def connect(receiver: Receiver) -> Iterator[Callable[..., WebhookSink]]:
    made: list[WebhookSink] = []

    def make(path: str = "/hook", **fields: object) -> WebhookSink:
        url = SecretStr(receiver.url + path)
        made.append(WebhookSink(WebhookSettings.model_validate({"url": url, **fields})))
        return made[-1]

    yield make
    for sink in made:
        sink.close()


def test_a_batch_is_posted_and_signed(
    receiver: Receiver, connect: Callable[..., WebhookSink], make_event: MakeEvent
) -> None:
    events = [make_event(1), make_event(2)]
    sink = connect(secret=SecretStr("key"))
    sink.deliver(events)
    sink.deliver(events)
    (path, headers, body), (_, again, _) = receiver.came
    assert path == "/hook"
    assert headers["Content-Type"] == "application/json"
    assert [Event.from_json(fields) for fields in json.loads(body)["events"]] == events
    assert json.loads(body)["events"][0]["message_id"] == events[0].message_id
    assert verify_signature("key", headers["X-Fgmclip-Signature"], body)
    assert headers["X-Fgmclip-Delivery"] == again["X-Fgmclip-Delivery"]
    sink.deliver(events[:1])
    assert receiver.came[2][1]["X-Fgmclip-Delivery"] != headers["X-Fgmclip-Delivery"]
    connect().deliver(events)
    assert "X-Fgmclip-Signature" not in receiver.came[-1][1]


def test_a_signature_holds_for_its_body_key_and_time_alone() -> None:
    header = sign("key", b"{}", 1000)
    assert header.startswith("t=1000,v1=")
    assert verify_signature("key", header, b"{}", now=1299)
    assert not verify_signature("other", header, b"{}", now=1000)
    assert not verify_signature("key", header, b"{ }", now=1000)
    assert not verify_signature("key", header, b"{}", now=1301)
    assert not verify_signature("key", header, b"{}", now=699)
    assert not verify_signature("key", header.replace("t=1000", "t=1001"), b"{}", now=1000)
    assert not verify_signature("key", header, b"{}")
    for broken in ("", "v1=00", "t=1000", header.upper(), header + ",v1=0", "t=x,v1=" + "0" * 64):
        assert not verify_signature("key", broken, b"{}", now=1000)
    # From OpenSSL: printf '1000.{}' | openssl dgst -sha256 -hmac key
    assert header.endswith("c32de42341dece79a1511c9e7f74a2734112edcfcf48943c976faf07047065db")


@pytest.mark.parametrize("status", [401, 403, 404, 407, 408, 425, 429, 500, 502, 503, 599, 304])
def test_such_answers_are_tried_again(
    receiver: Receiver, connect: Callable[..., WebhookSink], make_event: MakeEvent, status: int
) -> None:
    receiver.status = status
    with pytest.raises(SinkUnavailableError, match=str(status)) as caught:
        connect().deliver([make_event()])
    assert caught.value.retry_seconds == 0


@pytest.mark.parametrize("status", [400, 410, 413, 422])
def test_such_answers_are_for_good(
    receiver: Receiver, connect: Callable[..., WebhookSink], make_event: MakeEvent, status: int
) -> None:
    receiver.status = status
    with pytest.raises(SinkRefusedError, match=str(status)):
        connect().deliver([make_event()])


@pytest.mark.parametrize(
    ("value", "least", "most"),
    [
        (lambda: "17", 17, 17),
        (lambda: formatdate(time.time() + 3600, usegmt=True), 3500, 3601),
        (lambda: formatdate(0, usegmt=True), 0, 0),
        (lambda: "soon", 0, 0),
        (lambda: "-5", 0, 0),
    ],
    ids=["seconds", "a date", "a past date", "words", "a negative number"],
)
def test_retry_after_is_passed_on(
    receiver: Receiver,
    connect: Callable[..., WebhookSink],
    make_event: MakeEvent,
    value: Callable[[], str],
    least: float,
    most: float,
) -> None:
    receiver.status, receiver.headers = 503, {"Retry-After": value()}
    with pytest.raises(SinkUnavailableError) as caught:
        connect().deliver([make_event()])
    assert least <= caught.value.retry_seconds <= most


def test_a_redirect_is_not_followed(
    receiver: Receiver, connect: Callable[..., WebhookSink], make_event: MakeEvent
) -> None:
    receiver.status, receiver.headers = 307, {"Location": "/elsewhere?token=s3cret"}
    with pytest.raises(SinkUnavailableError, match="redirect") as caught:
        connect().deliver([make_event()])
    assert len(receiver.came) == 1
    assert "s3cret" not in str(caught.value)


def test_silence_and_absence_are_tried_again(
    receiver: Receiver, connect: Callable[..., WebhookSink], make_event: MakeEvent
) -> None:
    receiver.pause = 0.5
    with pytest.raises(SinkUnavailableError, match="ReadTimeout"):
        connect(timeout_seconds=0.1).deliver([make_event()])
    nobody = WebhookSink(WebhookSettings(url=SecretStr("http://127.0.0.1:1/")))
    with pytest.raises(SinkUnavailableError, match="refused"):
        nobody.deliver([make_event()])
    nobody.close()


def test_secrets_of_the_address_are_said_nowhere(
    receiver: Receiver,
    connect: Callable[..., WebhookSink],
    make_event: MakeEvent,
    caplog: pytest.LogCaptureFixture,
) -> None:
    sink = connect("/hook?token=s3cret", secret=SecretStr("s3cret"))
    with caplog.at_level(logging.INFO):
        sink.deliver([make_event()])
        receiver.status = 500
        with pytest.raises(SinkUnavailableError) as caught:
            sink.deliver([make_event()])
    assert receiver.came[0][0] == "/hook?token=s3cret"
    assert "s3cret" not in caplog.text + str(caught.value)
    for url in ("http://u:s3cret@[::1/", "http://u:s3cret@:99999/", "http:///s3cret"):
        with pytest.raises(SettingsError) as refused:
            WebhookSink(WebhookSettings(url=SecretStr(url)))
        assert "s3cret" not in str(refused.value)
