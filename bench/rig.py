"""A whole installation in processes that can be killed: camera, Triton, MQTT broker, gateway."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import paho.mqtt.client as mqtt
import psutil
from paho.mqtt.enums import CallbackAPIVersion

from fgmclip.spec import FgmclipError

TOPIC = "fgmclip/events"

_READY_SECONDS = 60.0


class RigError(FgmclipError):
    """A part of the installation cannot be started here."""


class Part:
    """One process, started by the same command each time, in a group of its own.

    Attributes:
        name: For people.
    """

    def __init__(
        self, name: str, command: Sequence[str], log: Path, *, port: int | None = None
    ) -> None:
        """Make it; `start` starts it.

        Args:
            name: For people.
            command: What to run.
            log: File that its output is appended to.
            port: It is ready when it listens there; at once if None.
        """
        self.name = name
        self._command = list(command)
        self._log = log
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Part:
        """Start it."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Kill it."""
        self.kill()

    @property
    def pid(self) -> int:
        """Of its process."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it and wait until it is ready.

        Raises:
            RigError: It is not ready in time.
        """
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=log, start_new_session=True
            )
        until = time.monotonic() + _READY_SECONDS
        while self._port is not None and not _listens(self._port):
            if self._process.poll() is not None or time.monotonic() > until:
                tail = self._log.read_text(encoding="utf-8", errors="replace")[-400:]
                raise RigError(f"{self.name}: expected it to listen on {self._port}, got: {tail}")
            time.sleep(0.1)

    def kill(self) -> None:
        """Kill its process as kill -9 does; what it started has to notice by itself."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def kill_all(self) -> None:
        """Kill its process and all that it started, so that nothing is left to start it again."""
        started = psutil.Process(self.pid).children(recursive=True)
        self.kill()
        for process in started:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def stop(self, seconds: float = 30.0) -> int:
        """End it as an operator does, and return its exit status."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(seconds)

    def memory_bytes(self) -> int:
        """Return what it and all that it started take, shared pages shared out among them."""
        process = psutil.Process(self.pid)
        total = 0
        for one in (process, *process.children(recursive=True)):
            try:
                total += one.memory_full_info().pss
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return total


def triton(repository: Path, port: int, folder: Path) -> Part:
    """Return a development server of a repository, on a fixed port."""
    command = [_fgmclip(), "serve", str(repository), "--grpc-port", str(port)]
    return Part("Triton", command, folder / "triton.log", port=port)


def broker(port: int, folder: Path) -> Part:
    """Return a mosquitto that keeps its sessions on disk.

    Raises:
        RigError: There is no mosquitto.
    """
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
    found = shutil.which("mosquitto", path=path)
    if found is None:
        raise RigError("expected mosquitto, got none; install it (apt-get install mosquitto)")
    config = folder / "mosquitto.conf"
    config.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence true\n"
        f"persistence_location {folder}/\nautosave_on_changes true\nautosave_interval 1\n"
        f"user {os.environ.get('USER', 'root')}\n",
        encoding="utf-8",
    )
    return Part("broker", [found, "-c", str(config)], folder / "mosquitto.log", port=port)


def gateway(config: dict[str, Any], folder: Path) -> Part:
    """Return `fgmclip watch` of a configuration."""
    file = folder / "watch.yaml"
    # JSON is YAML.
    file.write_text(json.dumps(config, indent=2), encoding="utf-8")
    command = [_fgmclip(), "watch", "--config", str(file), "--json", "--log-format", "json"]
    return Part("gateway", command, folder / "gateway.log")


def _fgmclip() -> str:
    return str(Path(sys.executable).with_name("fgmclip"))


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Subscriber:
    """Counts the events that arrive over MQTT, by message id; comes back when the broker does.

    Attributes:
        seen: How often each message id came.
        opened: Label and Unix seconds of the start of each event, by event id.
        latest: When the latest message came, monotonic seconds.
    """

    def __init__(self, port: int) -> None:
        """Connect and go on in a thread."""
        self.seen: Counter[str] = Counter()
        self.opened: dict[str, tuple[str, float]] = {}
        self.latest = 0.0
        self._lock = threading.Lock()
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id="subscriber", clean_session=False
        )
        self._client.reconnect_delay_set(1, 2)
        self._client.on_connect = lambda client, *_: client.subscribe(TOPIC, qos=1)
        self._client.on_message = self._take
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def close(self) -> None:
        """Leave."""
        self._client.loop_stop()
        self._client.disconnect()

    def wait(self, ready: Callable[[], bool], seconds: float) -> float:
        """Wait until something holds; return the seconds that took, NaN if it did not come."""
        started = time.monotonic()
        while time.monotonic() - started < seconds:
            if ready():
                return time.monotonic() - started
            time.sleep(0.1)
        return float("nan")

    def _take(self, _client: object, _data: object, message: mqtt.MQTTMessage) -> None:
        event = json.loads(message.payload)["after"]
        with self._lock:
            self.seen[event["message_id"]] += 1
            self.opened[event["id"]] = (event["label"], event["start_time"])
            self.latest = time.monotonic()
