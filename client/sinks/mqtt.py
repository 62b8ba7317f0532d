"""`MqttSink`: events to an MQTT broker, and what is going on as retained state."""

from __future__ import annotations

import contextlib
import json
import logging
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage, MQTTMessageInfo
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from fgmclip.client.errors import SettingsError
from fgmclip.client.events.event import Event
from fgmclip.client.gateway.address import with_login
from fgmclip.client.gateway.settings import MqttSettings
from fgmclip.client.sinks.errors import SinkUnavailableError
from fgmclip.client.sinks.mqtt_claim import (
    FIRST_YIELD_SECONDS,
    LONGEST_YIELD_SECONDS,
    SETTLE_SECONDS,
    SHORT_SESSIONS,
    Claim,
    shared_id,
)
from fgmclip.client.sinks.mqtt_topics import (
    NONE,
    OFF,
    OFFLINE,
    ON,
    ONLINE,
    Topics,
    event_payload,
)

KEEPALIVE_SECONDS = 15
"""A broker that says nothing for longer is taken for lost, and so is a gateway by the broker."""

ACKNOWLEDGE_SECONDS = 10.0
"""How long the broker may take to acknowledge a batch."""

RECONNECT_SECONDS = (1, 8)
"""The first and the longest wait before connecting again."""

LEAVE_SECONDS = 5.0

MAX_OPEN = 1000
"""Open events that are kept of one camera for its state."""

MAX_FOUND = 50_000
"""Configs of earlier runs that are looked at."""

_log = logging.getLogger(__name__)

_PORTS = {"mqtt": 1883, "mqtts": 8883}


class MqttSink:
    """One connection, made anew by itself for as long as the sink lives; MQTT 3.1.1.

    Events go with QoS 1 and are delivered once the broker acknowledges them. State is retained and
    told again at each connect, so that a broker that forgot it knows it at once.

    Attributes:
        on_connect: Called at each connect, from a thread of its own: what waits may be delivered.
    """

    def __init__(self, settings: MqttSettings) -> None:
        """Connect to nothing yet: `start` does, or the first delivery.

        Args:
            settings: Where the broker is, and first parts of topics.

        Raises:
            SettingsError: The address or the certificates cannot be used.
        """
        self.on_connect: Callable[[], None] = lambda: None
        self._topics = Topics.from_settings(settings)
        self._lock = threading.Lock()
        self._connected = False
        self._closed = False
        self._session = 0
        self._cause = "not connected yet"
        self._announced = False
        self._configs: dict[str, str] = {}
        self._found: dict[str, str] = {}
        self._states: dict[str, str] = {}
        self._client_id = settings.client_id
        self._claim = Claim.own()
        self._claimed = False
        self._cleans = False
        self._rival: Claim | None = None
        self._yields = 0
        self._short = 0
        self._began = 0.0
        self._open: dict[str, dict[str, str]] = {}
        self._client = Client(CallbackAPIVersion.VERSION2, settings.client_id)
        # A batch is bounded and goes as a whole.
        self._client.max_inflight_messages_set(0)
        self._client.reconnect_delay_set(*RECONNECT_SECONDS)
        self._client.will_set(self._topics.available, OFFLINE, qos=1, retain=True)
        self._client.on_connect = self._on_connect
        self._client.on_connect_fail = self._on_connect_fail
        self._client.on_disconnect = self._on_disconnect
        self._client.on_message = self._on_message
        self._host = self._aim(settings)

    def start(self, going_on: Iterable[Event] = ()) -> None:
        """Begin to connect.

        Args:
            going_on: Events that are open already, for the state: another sink delivered them.
        """
        self._states.update(self._follow(going_on))
        self._client.loop_start()

    def announce(self, cameras: Iterable[str], labels: Iterable[str]) -> None:
        """Say which cameras and actions there are; those of before that are gone are removed.

        From now on state is kept of these alone. Without it there is state of what events came of,
        and no discovery.

        Args:
            cameras: Names of the cameras.
            labels: Actions that may become events.
        """
        names, actions = tuple(cameras), tuple(labels)
        configs: dict[str, str] = {}
        for camera in names:
            configs |= self._topics.configs(camera, actions)
        with self._lock:
            self._open = {name: self._open[name] for name in names if name in self._open}
            states: dict[str, str] = {}
            for camera in names:
                labels = list(self._open.get(camera, {}).values())
                states[self._topics.action(camera)] = labels[-1] if labels else NONE
                for label in actions:
                    states[self._topics.label(camera, label)] = ON if label in labels else OFF
            gone = self._states.keys() - states.keys()
            stale = (self._configs | self._found).keys() - configs.keys()
            forgotten = {self._found[topic] for topic in stale & self._found.keys()}
            self._announced = True
            self._found = {}
            self._configs = configs
            self._states = states
            if self._connected:
                for topic in stale | gone | (forgotten - states.keys()):
                    self._retain(topic, "")
                self._tell()

    def deliver(self, events: Sequence[Event]) -> None:
        """Publish the events, then the state that follows from them; see `Sink.deliver`."""
        with self._lock:
            connected, session, cause = self._connected, self._session, self._cause
            if not self._closed:
                # Does nothing while its thread lives, and it should for ever.
                self._client.loop_start()
        if not connected:
            raise SinkUnavailableError(f"{self._host}: {cause}")
        sent = [
            self._client.publish(self._topics.events, event_payload(event), qos=1)
            for event in events
        ]
        self._await(sent, session)
        with self._lock:
            for topic, state in self._follow(events).items():
                if self._states.get(topic) == state or (
                    self._announced and topic not in self._states
                ):
                    continue
                self._states[topic] = state
                if self._connected:
                    self._retain(topic, state)

    def close(self) -> None:
        """Say that the gateway is offline and disconnect; a second call does nothing."""
        with self._lock:
            if self._closed:
                return
            connected, self._connected = self._connected, False
            self._closed, self._cause = True, "closed"
        if connected:
            self._retain(self._topics.claim, "")
            told = self._client.publish(self._topics.available, OFFLINE, qos=1, retain=True)
            with contextlib.suppress(RuntimeError):
                told.wait_for_publish(LEAVE_SECONDS)
        self._client.disconnect()
        self._client.drop_out_messages()
        # It waits for its thread, and that for a broker which may have stopped reading.
        leaving = threading.Thread(target=self._client.loop_stop, daemon=True)
        leaving.start()
        leaving.join(LEAVE_SECONDS)

    def _aim(self, settings: MqttSettings) -> str:
        """Take the address apart; return its host."""
        password = None if settings.password is None else settings.password.get_secret_value()
        try:
            url = urlsplit(with_login(settings.url.get_secret_value(), settings.user, password))
            host, port = url.hostname or "", url.port
            host.encode("idna")
        except SettingsError as error:
            raise SettingsError(f"sinks.mqtt.url: {error}") from error
        except ValueError:
            # Its text may hold the address.
            url, host, port = urlsplit(""), "", None
        if url.scheme not in _PORTS or not host or url.path.strip("/") or url.query or url.fragment:
            raise SettingsError(
                "sinks.mqtt.url: expected mqtt://[USER:PASSWORD@]HOST[:PORT] or mqtts://..."
            )
        if url.username is not None:
            word = None if url.password is None else unquote(url.password)
            self._client.username_pw_set(unquote(url.username), word)
        if url.scheme == "mqtts":
            try:
                context = ssl.create_default_context(cafile=settings.ca_file)
            except OSError as error:
                raise SettingsError(f"sinks.mqtt.ca_file: {settings.ca_file}: {error}") from error
            self._client.tls_set_context(context)
        self._client.connect_async(host, port or _PORTS[url.scheme], KEEPALIVE_SECONDS)
        return host

    def _await(self, sent: Iterable[MQTTMessageInfo], session: int) -> None:
        until = time.monotonic() + ACKNOWLEDGE_SECONDS
        for info in sent:
            try:
                while not info.is_published():
                    with self._lock:
                        lost = not self._connected or self._session != session
                    if lost:
                        raise SinkUnavailableError(f"{self._host}: lost the connection")
                    if time.monotonic() > until:
                        self._client.drop_out_messages()
                        raise SinkUnavailableError(
                            f"{self._host}: did not acknowledge in {ACKNOWLEDGE_SECONDS:g} s"
                        )
                    info.wait_for_publish(0.1)
            except (RuntimeError, ValueError) as error:
                raise SinkUnavailableError(f"{self._host}: {error}") from error

    def _follow(self, events: Iterable[Event]) -> dict[str, str]:
        """Follow what is open; return the states that it gives, by topic."""
        states = {}
        for event in events:
            going_on = self._open.setdefault(event.camera, {})
            going_on.pop(event.id, None)
            if event.state == "open":
                going_on[event.id] = event.label
                if len(going_on) > MAX_OPEN:
                    del going_on[next(iter(going_on))]
            labels = list(going_on.values())
            states[self._topics.label(event.camera, event.label)] = (
                ON if event.label in labels else OFF
            )
            states[self._topics.action(event.camera)] = labels[-1] if labels else NONE
            if not going_on:
                del self._open[event.camera]
        return states

    def _tell(self) -> None:
        """Publish all state, discovery included."""
        for topic, payload in (self._configs | self._states).items():
            self._retain(topic, payload)

    def _retain(self, topic: str, payload: str) -> None:
        # QoS 0: what is lost with the connection is told again at the next, in the right order.
        self._client.publish(topic, payload, qos=0, retain=True)

    def _on_connect(
        self,
        client: Client,
        _: Any,
        flags: ConnectFlags,
        reason: ReasonCode,
        more: Properties | None,
    ) -> None:
        with self._lock:
            if self._closed:
                return
            if reason.is_failure:
                self._cause = f"the broker refused the connection: {reason}"
                return
            # The outbox gives again what was not acknowledged.
            client.drop_out_messages()
            self._session += 1
            self._connected = True
            self._began = time.monotonic()
            self._cleans, self._rival = False, None
            # Whose claim the broker has comes before our own comes back.
            client.subscribe(self._topics.claim)
            self._retain(self._topics.claim, self._claim.to_json())
            self._retain(self._topics.available, ONLINE)
            self._tell()
        self.on_connect()

    def _on_connect_fail(self, client: Client, _: Any) -> None:
        with self._lock:
            if not self._closed:
                self._cause = "no broker answers"

    def _on_disconnect(
        self,
        client: Client,
        _: Any,
        flags: DisconnectFlags,
        reason: ReasonCode,
        more: Properties | None,
    ) -> None:
        with self._lock:
            if self._connected:
                self._cause = "lost the connection"
                settled = time.monotonic() - self._began > SETTLE_SECONDS
                self._short = 0 if settled else self._short + 1
                if self._short >= SHORT_SESSIONS:
                    self._cause += (
                        f" {self._short} times just after it was made; another client may have the "
                        f"client id {self._client_id!r}, give each gateway its own"
                    )
            self._connected = False

    def _on_claim(self, client: Client, payload: bytes) -> None:
        """Find out whether another gateway has this client id, and who leaves it to whom."""
        claim = Claim.read(payload)
        if claim is None:
            return
        with self._lock:
            if claim.instance == self._claim.instance:
                if self._rival is None:
                    self._settle(client)
                elif not self._claimed or self._claim.gives_way_to(self._rival):
                    # A claim that a killed gateway left, or one who went while we waited?
                    later = threading.Timer(SETTLE_SECONDS, self._settled, (self._session,))
                    later.daemon = True
                    later.start()
                self._claimed = True
                return
            self._rival = claim
            if not self._claimed:
                return
            # Ours was there, so whoever wrote this one lives and takes the id from us.
            shared = shared_id(self._client_id, claim)
            if not self._claim.gives_way_to(claim):
                _log.warning("sink mqtt: %s: %s", self._host, shared)
                return
            wait = min(LONGEST_YIELD_SECONDS, FIRST_YIELD_SECONDS * 2**self._yields)
            self._yields += 1
            self._connected = False
            self._cause = shared
            # It comes back and ends this connection; until then and for a while nothing is told.
            client.reconnect_delay_set(wait, wait)

    def _settled(self, session: int) -> None:
        """Take what nobody has taken from us."""
        with self._lock:
            if self._closed or session != self._session or not self._client.is_connected():
                return
            waited, self._connected, self._yields = not self._connected, True, 0
            self._client.reconnect_delay_set(*RECONNECT_SECONDS)
            self._settle(self._client)
            if waited:
                self._tell()
        if waited:
            self.on_connect()

    def _settle(self, client: Client) -> None:
        """Begin to look after what earlier runs left: it is nobody else's."""
        if not self._cleans and self._topics.all_configs is not None:
            client.subscribe(self._topics.all_configs)
        self._cleans = True

    def _on_message(self, client: Client, _: Any, message: MQTTMessage) -> None:
        """Take a claim, or a config that the broker has kept, perhaps of a camera that is gone."""
        if message.topic == self._topics.claim:
            self._on_claim(client, bytes(message.payload))
            return
        try:
            fields = json.loads(message.payload) if message.retain else None
        except ValueError:
            return
        state = fields.get("state_topic") if isinstance(fields, dict) else None
        if not isinstance(state, str) or not state.startswith(f"{self._topics.prefix}/"):
            return
        with self._lock:
            if not self._announced:
                if len(self._found) < MAX_FOUND:
                    self._found[message.topic] = state
            elif self._connected and message.topic not in self._configs:
                self._retain(message.topic, "")
                if state not in self._states:
                    self._retain(state, "")
