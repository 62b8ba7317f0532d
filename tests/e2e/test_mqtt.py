"""A real mosquitto: what was accepted arrives, whoever is killed, and state is there at once."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion
from pydantic import SecretStr

from fgmclip.client.events.courier import Courier
from fgmclip.client.events.event import Event, event_id
from fgmclip.client.events.outbox import Outbox
from fgmclip.client.gateway.settings import MqttSettings
from fgmclip.client.sinks.errors import SinkUnavailableError
from fgmclip.client.sinks.mqtt import MqttSink

MOSQUITTO = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(MOSQUITTO is None, reason="no mosquitto on this machine"),
]


def opened(number: int, camera: str = "door", label: str = "hug") -> Event:
    return Event(
        id=event_id(camera, None, label, number, "wall", "m"),
        camera=camera,
        track=None,
        label=label,
        start=float(number),
        end=None,
        peak=0.9,
        peak_time=number + 0.5,
        state="open",
        clock="wall",
        model_tag="m",
    )


def ended(event: Event) -> Event:
    return replace(event, state="ended", end=event.start + 1)


def until(true: Callable[[], bool], what: str) -> None:
    for _ in range(1000):
        if true():
            return
        time.sleep(0.02)
    raise AssertionError(f"waited for 20 s in vain: {what}")


@dataclass
class Broker:
    """A mosquitto that forgets everything when it is killed."""

    config: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        assert MOSQUITTO is not None
        self.process = subprocess.Popen(
            [MOSQUITTO, "-c", str(self.config)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until(self._answers, "a port that mosquitto listens on")

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def _answers(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serve(folder: Path, *lines: str) -> Iterator[Broker]:
    port = free_port()
    config = folder / "mosquitto.conf"
    config.write_text(
        "\n".join([f"listener {port} 127.0.0.1", "persistence false", *lines, ""]), encoding="utf-8"
    )
    running = Broker(config, port)
    try:
        running.start()
        yield running
    finally:
        running.kill()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with serve(tmp_path, "allow_anonymous true") as running:
        yield running


@dataclass
class Watcher:
    """Hears everything from when it connects, what the broker retained first."""

    retained: dict[str, str] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    topics: list[tuple[str, str]] = field(default_factory=list)
    connected: bool = False

    def hear(self, client: Client, _: Any, message: MQTTMessage) -> None:
        payload = message.payload.decode()
        if message.topic == "fgmclip/client":
            # Whose client id it is comes and goes with the gateway.
            return
        self.topics.append((message.topic, payload))
        if message.topic == "fgmclip/events":
            self.events.append(json.loads(payload))
        elif payload:
            self.retained[message.topic] = payload
        else:
            self.retained.pop(message.topic, None)

    def knows(self, topics: int) -> Callable[[], bool]:
        return lambda: len(self.retained) == topics

    def messages(self) -> Counter[str]:
        return Counter(event["after"]["message_id"] for event in self.events)


@contextmanager
def watch(port: int) -> Iterator[Watcher]:
    watcher = Watcher()
    client = Client(CallbackAPIVersion.VERSION2)

    def subscribe(*_: Any) -> None:
        # QoS 0: an acknowledgement that a killed broker left unread would make the system throw
        # away what it had sent.
        client.subscribe("#", qos=0)

    def subscribed(*_: Any) -> None:
        watcher.connected = True

    client.on_message = watcher.hear
    client.on_connect = subscribe
    client.on_subscribe = subscribed
    client.reconnect_delay_set(1, 1)
    client.connect("127.0.0.1", port)
    client.loop_start()
    try:
        until(lambda: watcher.connected, "the watcher's subscription")
        yield watcher
    finally:
        client.disconnect()
        client.loop_stop()


class HeldSink(MqttSink):
    """Delivers nothing while nobody listens, as a broker throws such events away."""

    def __init__(self, settings: MqttSettings) -> None:
        self.listeners = threading.Event()
        self.listeners.set()
        super().__init__(settings)

    def deliver(self, events: Sequence[Event]) -> None:
        assert self.listeners.wait(30)
        super().deliver(events)


@contextmanager
def gateway(path: Path, port: int) -> Iterator[tuple[Outbox, HeldSink, Courier]]:
    """Everything from the outbox on."""
    outbox = Outbox(path / "outbox.sqlite", 2**22, ["mqtt"])
    sink = HeldSink(MqttSettings(url=SecretStr(f"mqtt://127.0.0.1:{port}")))
    sink.start()
    courier = Courier("mqtt", sink, outbox)
    courier.start()
    try:
        yield outbox, sink, courier
    finally:
        courier.stop(1)
        outbox.close()


def test_events_arrive_and_state_follows_them(broker: Broker, tmp_path: Path) -> None:
    with watch(broker.port) as seen:
        with gateway(tmp_path, broker.port) as (outbox, sink, courier):
            sink.announce(["door", "yard"], ["hug", "Hand shaking"])
            until(lambda: "fgmclip/yard/action" in seen.retained, "announced state")
            states = {
                topic: state
                for topic, state in seen.retained.items()
                if topic.startswith("fgmclip/")
            }
            shaking = next(topic for topic in states if "door/hand_shaking-" in topic)
            assert states == {
                "fgmclip/available": "online",
                "fgmclip/door/action": "none",
                "fgmclip/door/hug": "OFF",
                shaking: "OFF",
                "fgmclip/yard/action": "none",
                "fgmclip/yard/hug": "OFF",
                shaking.replace("door", "yard"): "OFF",
            }
            configs = [topic for topic in seen.retained if topic.startswith("homeassistant/")]
            assert len(configs) == 6

            hug, shake = opened(1), opened(2, label="Hand shaking")
            outbox.accept(hug)
            until(lambda: seen.retained["fgmclip/door/action"] == "hug", "the action")
            assert seen.retained["fgmclip/door/hug"] == "ON"
            outbox.accept(shake)
            until(lambda: seen.retained["fgmclip/door/action"] == "Hand shaking", "the action")
            assert seen.retained[shaking] == "ON"
            outbox.accept(ended(shake))
            until(lambda: seen.retained["fgmclip/door/action"] == "hug", "the action")
            outbox.accept(ended(hug))
            until(lambda: seen.retained["fgmclip/door/action"] == "none", "the action")
            until(lambda: seen.retained["fgmclip/door/hug"] == "OFF", "the class")
            assert [(event["type"], event["after"]["label"]) for event in seen.events] == [
                ("new", "hug"),
                ("new", "Hand shaking"),
                ("end", "Hand shaking"),
                ("end", "hug"),
            ]
            assert seen.retained["fgmclip/yard/hug"] == "OFF"
            assert courier.status().delivered == 4
        until(lambda: seen.retained["fgmclip/available"] == "offline", "the farewell")


def test_a_broker_killed_and_restarted_gets_everything(broker: Broker, tmp_path: Path) -> None:
    events = [opened(number) for number in range(300)]
    kick = opened(1000, label="kick")
    accepted = {kick.message_id}
    accepted |= {message.message_id for event in events for message in (event, ended(event))}
    with (
        watch(broker.port) as seen,
        gateway(tmp_path, broker.port) as (outbox, sink, courier),
    ):
        sink.announce(["door"], ["hug", "kick"])
        outbox.accept(kick)
        until(lambda: seen.retained.get("fgmclip/door/kick") == "ON", "the class")
        for first in (0, 100, 200):
            for event in events[first : first + 50]:
                assert outbox.accept(event)
                assert outbox.accept(ended(event))
            # A delivery that is under way is cut off; the next one waits until somebody listens.
            sink.listeners.clear()
            broker.kill()
            for event in events[first + 50 : first + 100]:
                assert outbox.accept(event)
                assert outbox.accept(ended(event))
            seen.connected = False
            broker.start()
            until(lambda: seen.connected, "the watcher's subscription")
            with watch(broker.port) as late:
                until(late.knows(7), "state in a broker that forgot it")
                assert late.retained["fgmclip/available"] == "online"
                assert late.retained["fgmclip/door/kick"] == "ON"
                assert late.retained["fgmclip/door/hug"] in ("ON", "OFF")
            sink.listeners.set()
            until(lambda: outbox.waiting("mqtt") == 0, "the outbox to be empty")
        until(lambda: set(seen.messages()) == accepted, "every accepted message")
        assert courier.status().refused == 0
    firsts = list(dict.fromkeys(event["after"]["message_id"] for event in seen.events))
    assert firsts == [kick.message_id] + [
        message.message_id for event in events for message in (event, ended(event))
    ]


def test_a_sink_that_takes_over_knows_what_is_going_on(broker: Broker) -> None:
    settings = MqttSettings(url=SecretStr(f"mqtt://127.0.0.1:{broker.port}"))
    sink = MqttSink(settings)
    sink.start([opened(1), opened(2, label="kick"), opened(3, camera="gone")])
    try:
        sink.announce(["door"], ["hug", "kick", "wave"])
        with watch(broker.port) as seen:
            until(seen.knows(9), "the state")
            assert seen.retained["fgmclip/door/action"] == "kick"
            assert [
                seen.retained[f"fgmclip/door/{label}"] for label in ("hug", "kick", "wave")
            ] == [
                "ON",
                "ON",
                "OFF",
            ]
            sink.deliver([ended(opened(2, label="kick"))])
            until(lambda: seen.retained["fgmclip/door/action"] == "hug", "the action")
            assert seen.retained["fgmclip/door/kick"] == "OFF"
    finally:
        sink.close()


def test_no_event_is_lost_while_the_broker_is_away(broker: Broker, tmp_path: Path) -> None:
    events = [opened(number) for number in range(200)]
    broker.kill()
    with gateway(tmp_path, broker.port) as (outbox, sink, courier):
        sink.announce(["door"], ["hug"])
        for event in events:
            assert outbox.accept(event)
            assert outbox.accept(ended(event))
        until(lambda: courier.status().failures > 1, "failures")
        assert outbox.waiting("mqtt") == 400
    with gateway(tmp_path, broker.port) as (outbox, sink, courier):
        sink.listeners.clear()
        broker.start()
        with watch(broker.port) as seen:
            sink.listeners.set()
            until(lambda: outbox.waiting("mqtt") == 0, "the outbox to be empty")
            until(lambda: len(seen.messages()) == 400, "every message")
    assert [event["after"]["start_time"] for event in seen.events[:4]] == [0, 0, 1, 1]


GATEWAY = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from test_mqtt import ended, gateway, opened

with gateway(Path(sys.argv[2]), int(sys.argv[3])) as (outbox, sink, courier):
    sink.announce(["door"], ["hug"])
    for event in outbox.interrupt_open():
        print(event.message_id, flush=True)
    number = int(sys.argv[4])
    while True:
        number += 1
        for event in (opened(number), ended(opened(number))):
            if outbox.accept(event):
                print(event.message_id, flush=True)
"""


def test_a_gateway_killed_leaves_its_will_and_loses_nothing(broker: Broker, tmp_path: Path) -> None:
    accepted: list[str] = []
    with watch(broker.port) as seen:
        for round in range(3):
            given = (Path(__file__).parent, tmp_path, broker.port, 10**6 * round)
            child = subprocess.Popen(
                [sys.executable, "-c", GATEWAY, *map(str, given)],
                stdout=subprocess.PIPE,
                encoding="utf-8",
            )
            assert child.stdout is not None
            try:
                accepted += [child.stdout.readline().strip() for _ in range(300)]
                until(lambda: seen.retained.get("fgmclip/available") == "online", "presence")
            finally:
                child.send_signal(signal.SIGKILL)
                accepted += child.stdout.read().split()
                child.wait()
                child.stdout.close()
            until(lambda: seen.retained["fgmclip/available"] == "offline", "the last will")
        with gateway(tmp_path, broker.port) as (outbox, _, _):
            interrupted = outbox.interrupt_open()
            until(lambda: outbox.waiting("mqtt") == 0, "the outbox to be empty")
        until(lambda: set(accepted) <= set(seen.messages()), "every accepted message")
    closed = {name for name in seen.messages() if not name.endswith(":open")}
    assert {f"{event.id}:interrupted" for event in interrupted} <= closed
    assert {name.split(":")[0] for name in seen.messages()} == {n.split(":")[0] for n in closed}


def test_cameras_and_classes_that_are_gone_leave_the_broker(broker: Broker, tmp_path: Path) -> None:
    with gateway(tmp_path, broker.port) as (outbox, sink, _):
        sink.announce(["door", "yard"], ["hug", "kick"])
        outbox.accept(opened(1, "yard"))
        until(lambda: outbox.waiting("mqtt") == 0, "the outbox to be empty")
    foreign = ["mosquitto_pub", "-p", str(broker.port), "-r", "-m", "{}", "-t"]
    if shutil.which(foreign[0]) is not None:
        subprocess.run([*foreign, "homeassistant/sensor/another/yard__action/config"], check=True)
    with watch(broker.port) as seen:
        until(lambda: len(seen.retained) >= 13, "what the first run left")
        others = {topic: state for topic, state in seen.retained.items() if "another" in topic}
        with gateway(tmp_path, broker.port) as (_, sink, _):
            sink.announce(["door"], ["hug"])
            until(lambda: len(seen.retained) == 5 + len(others), "the rest to be removed")
            assert {t for t in seen.retained if t.startswith("fgmclip/")} == {
                "fgmclip/available",
                "fgmclip/door/action",
                "fgmclip/door/hug",
            }
            assert others.items() <= seen.retained.items()
            sink.announce(["gate"], ["hug"])
            until(lambda: "fgmclip/gate/hug" in seen.retained, "the new camera")
            until(lambda: len(seen.retained) == 5 + len(others), "the old camera to be removed")
            assert not any("door" in topic for topic in seen.retained)


# paho leaves a socket whose handshake failed to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_tls_and_a_password(tmp_path: Path) -> None:
    if shutil.which("openssl") is None or shutil.which("mosquitto_passwd") is None:
        pytest.skip("no openssl or mosquitto_passwd on this machine")
    key, certificate, users = (tmp_path / name for name in ("key.pem", "cert.pem", "users"))
    make = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
    names = f"-addext subjectAltName=IP:127.0.0.1 -keyout {key} -out {certificate}"
    add = f"mosquitto_passwd -c -b {users} cam s3/cr@t"
    for command in (f"{make} {names}", add):
        subprocess.run(command.split(), check=True, capture_output=True)
    with serve(
        tmp_path,
        # It would give up root, where it has it, before it reads the files.
        "user root",
        f"certfile {certificate}",
        f"keyfile {key}",
        f"password_file {users}",
        "allow_anonymous false",
    ) as running:
        url = "mqtts://cam:{}@127.0.0.1:" + str(running.port)
        good, wrong, distrusted = (
            MqttSink(MqttSettings(url=SecretStr(url.format(password)), ca_file=trusted))
            for password, trusted in (
                ("s3%2Fcr%40t", certificate),
                ("n0pe", certificate),
                ("s3%2Fcr%40t", None),
            )
        )
        try:
            until(lambda: delivers(good) == "", "a delivery")
            until(lambda: "refused" in delivers(wrong), "a refusal")
            assert "n0pe" not in delivers(wrong)
            until(lambda: "no broker" in delivers(distrusted), "distrust")
        finally:
            for sink in (good, wrong, distrusted):
                sink.close()
                sink.close()


def delivers(sink: MqttSink) -> str:
    try:
        sink.deliver([opened(1)])
    except SinkUnavailableError as error:
        return str(error)
    return ""
