"""`MqttSink` against brokers that misbehave; a real one is in tests/e2e/test_mqtt.py."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from pydantic import SecretStr

from fgmclip.client.events.event import Event
from fgmclip.client.gateway.settings import MqttSettings
from fgmclip.client.sinks import mqtt
from fgmclip.client.sinks.errors import SinkUnavailableError
from fgmclip.client.sinks.mqtt import MqttSink

MakeEvent = Callable[..., Event]

ACCEPTED = b"\x20\x02\x00\x00"
"""A CONNACK of MQTT 3.1.1."""


class SilentBroker:
    """Takes connections and whatever comes, and acknowledges nothing but the connection."""

    def __init__(self) -> None:
        self.received = bytearray()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self._ends: list[socket.socket] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            end, _ = self._server.accept()
            self._ends.append(end)
            self.received += end.recv(4096)
            end.sendall(ACCEPTED)
            while data := end.recv(65536):
                self.received += data

    def close(self) -> None:
        for end in (*self._ends, self._server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._thread.join()


@pytest.fixture
def broker() -> Iterator[SilentBroker]:
    made = SilentBroker()
    yield made
    made.close()


def failure(sink: MqttSink, event: Event) -> str:
    with pytest.raises(SinkUnavailableError) as caught:
        sink.deliver([event])
    return str(caught.value)


def test_without_a_broker_events_are_not_taken(make_event: MakeEvent) -> None:
    sink = MqttSink(MqttSettings(url=SecretStr("mqtt://user:s3cret@127.0.0.1:1")))
    assert failure(sink, make_event()).startswith("127.0.0.1: ")
    sink.announce(["door"], ["hug"])
    sink.close()
    assert "closed" in failure(sink, make_event())


def test_a_broker_that_acknowledges_nothing_is_given_up_in_time_and_nothing_piles_up(
    broker: SilentBroker, make_event: MakeEvent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mqtt, "ACKNOWLEDGE_SECONDS", 0.1)
    monkeypatch.setattr(mqtt, "LEAVE_SECONDS", 0.1)
    sink = MqttSink(MqttSettings(url=SecretStr(f"mqtt://127.0.0.1:{broker.port}")))
    sink.start()
    for _ in range(500):
        if b"online" in broker.received:
            break
        time.sleep(0.01)
    for _ in range(5):
        assert "did not acknowledge" in failure(sink, make_event())
    # Each attempt was sent once: what was given up is not sent along with the next.
    assert broker.received.count(make_event().message_id.encode()) == 5 * 2
    broker.close()
    sink.close()
