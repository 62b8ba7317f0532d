"""Two gateways with one MQTT client id: one waits and says for whom, and nobody loses anything."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion
from pydantic import SecretStr

from fgmclip.bench.rtsp_camera import free_port
from fgmclip.client.events.event import Event
from fgmclip.client.gateway.settings import MqttSettings
from fgmclip.client.sinks import mqtt
from fgmclip.client.sinks.errors import SinkUnavailableError
from fgmclip.client.sinks.mqtt import MqttSink
from fgmclip.client.sinks.mqtt_claim import Claim

MOSQUITTO = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[int]:
    if MOSQUITTO is None:
        pytest.skip("no mosquitto on this machine")
    port, config = free_port(), tmp_path / "mosquitto.conf"
    config.write_text(
        f"listener {port} 127.0.0.1\npersistence false\nallow_anonymous true\n", encoding="utf-8"
    )
    process = subprocess.Popen(
        [MOSQUITTO, "-c", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(500):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.02)
        yield port
    finally:
        process.kill()
        process.wait()


@contextmanager
def watched(port: int) -> Iterator[dict[str, str]]:
    """What the broker has retained, kept up to date."""
    retained: dict[str, str] = {}
    client = Client(CallbackAPIVersion.VERSION2)

    def hear(_client: Client, _: Any, message: MQTTMessage) -> None:
        if message.payload:
            retained[message.topic] = message.payload.decode()
        else:
            retained.pop(message.topic, None)

    def subscribe(*_: Any) -> None:
        client.subscribe("#")

    client.on_message = hear
    client.on_connect = subscribe
    client.connect("127.0.0.1", port)
    client.loop_start()
    try:
        yield retained
    finally:
        client.disconnect()
        client.loop_stop()


def gateway(port: int, *cameras: str) -> MqttSink:
    sink = MqttSink(MqttSettings(url=SecretStr(f"mqtt://127.0.0.1:{port}")))
    sink.start()
    sink.announce(cameras, ["hug"])
    return sink


def delivers(sink: MqttSink, event: Event) -> str:
    try:
        sink.deliver([event])
    except SinkUnavailableError as error:
        return str(error)
    return ""


def until(true: Callable[[], bool], what: str) -> None:
    for _ in range(1000):
        if true():
            return
        time.sleep(0.02)
    raise AssertionError(f"waited for 20 s in vain: {what}")


def discovered(retained: dict[str, str], camera: str) -> bool:
    return any(f"/{camera}__" in topic for topic in retained if topic.startswith("homeassistant/"))


def test_the_younger_of_two_with_one_id_waits_until_the_elder_has_gone(
    broker: int, monkeypatch: pytest.MonkeyPatch, event: Event
) -> None:
    monkeypatch.setattr(mqtt, "FIRST_YIELD_SECONDS", 2)
    monkeypatch.setattr(mqtt, "SETTLE_SECONDS", 2.0)
    with watched(broker) as retained:
        elder = gateway(broker, "door")
        until(lambda: delivers(elder, event) == "", "the first gateway's delivery")
        younger = gateway(broker, "yard")
        try:
            until(
                lambda: "is used by the gateway on" in delivers(younger, event),
                "the second to notice",
            )
            said = delivers(younger, event)
            assert said.startswith("127.0.0.1: client id 'fgmclip' is used by the gateway on ")
            assert repr(socket.gethostname()) in said
            assert said.endswith("give each gateway its own sinks.mqtt.client_id and prefix")
            until(lambda: delivers(elder, event) == "", "the first gateway's delivery")
            assert discovered(retained, "door")
            assert discovered(retained, "yard")
            elder.close()
            until(lambda: delivers(younger, event) == "", "the second to take over")
            assert discovered(retained, "yard")
        finally:
            elder.close()
            younger.close()
        until(lambda: "fgmclip/client" not in retained, "the claim to be given up")


def test_what_a_killed_gateway_left_is_removed_once_nobody_takes_the_id_back(
    broker: int, monkeypatch: pytest.MonkeyPatch, event: Event
) -> None:
    monkeypatch.setattr(mqtt, "SETTLE_SECONDS", 1.0)
    killed = Claim("0" * 16, "elsewhere", 7, time.time() - 60)
    stale = "homeassistant/sensor/fgmclip_fgmclip/gone__action/config"
    with watched(broker) as retained:
        client = Client(CallbackAPIVersion.VERSION2)
        client.connect("127.0.0.1", broker)
        client.loop_start()
        for topic, payload in (
            ("fgmclip/client", killed.to_json()),
            (stale, json.dumps({"state_topic": "fgmclip/gone/action"})),
        ):
            client.publish(topic, payload, qos=1, retain=True).wait_for_publish(5)
        client.disconnect()
        client.loop_stop()
        sink = gateway(broker, "door")
        try:
            until(lambda: delivers(sink, event) == "", "a delivery at once")
            until(lambda: discovered(retained, "door"), "its own discovery")
            assert stale in retained
            until(lambda: stale not in retained, "the camera that is gone to be removed")
        finally:
            sink.close()


def test_the_younger_gives_way_and_of_two_at_once_just_one() -> None:
    first, second = Claim("a", "h", 1, 10.0), Claim("b", "h", 2, 11.0)
    assert second.gives_way_to(first)
    assert not first.gives_way_to(second)
    twin = Claim("c", "h", 3, 10.0)
    assert twin.gives_way_to(first) is not first.gives_way_to(twin)


@pytest.mark.parametrize(
    "payload", [b"", b"{", b"[]", b"{}", b'{"instance": 1}', b"\xff", b"[" * 10_000]
)
def test_what_is_no_claim_is_passed_over(payload: bytes) -> None:
    assert Claim.read(payload) is None


def test_a_claim_is_read_back() -> None:
    claim = Claim.own()
    assert Claim.read(claim.to_json().encode()) == claim
