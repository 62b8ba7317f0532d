"""Passwords of every sign reach real cameras, brokers and webhooks, and are read nowhere."""

from __future__ import annotations

import base64
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from fgmclip.bench.rtsp_camera import RtspCamera, find_gstreamer, free_port
from fgmclip.client.errors import SettingsError
from fgmclip.client.events.event import Event
from fgmclip.client.gateway.config import ConfigError, check_config, hide_secrets
from fgmclip.client.gateway.errors import SourceError
from fgmclip.client.gateway.secrets import Secrets
from fgmclip.client.gateway.settings import WatchSettings
from fgmclip.client.gateway.sources import parse_source
from fgmclip.client.sinks.errors import SinkUnavailableError
from fgmclip.client.sinks.mqtt import MqttSink
from fgmclip.client.sinks.webhook import WebhookSink
from fgmclip.video.errors import LiveSourceError
from fgmclip.video.live import SeenPicture, read_live

USER = "view er"
PASSWORD = "12#34/5?6%7@8:9 +&=\u00fc$"
ENCODED = "12%2334%2F5%3F6%257%408%3A9%20%2B%26%3D%C3%BC%24"
ENVIRONMENT = {"CAM_USER": USER, "CAM_PASSWORD": PASSWORD, "TOKEN": "a/b:c?d"}
MOSQUITTO = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
MOSQUITTO_PASSWD = shutil.which("mosquitto_passwd")


def settings(environment: dict[str, str] = ENVIRONMENT, **fields: Any) -> WatchSettings:
    least: dict[str, Any] = {
        "servers": {"urls": ["localhost:8001"]},
        "cameras": [{"name": "door", "source": "door.mp4"}],
    }
    return check_config(least | fields, "watch.yaml", environment)


def camera(source: str, **fields: str) -> dict[str, Any]:
    return {"cameras": [{"name": "door", "source": source} | fields]}


def location(source: str, environment: dict[str, str] = ENVIRONMENT, **fields: str) -> str:
    return parse_source(settings(environment, **camera(source, **fields)).cameras[0]).location


LOGINS = ["variables", "fields", "whole"]


def stated(way: str, scheme: str, place: str) -> tuple[dict[str, str], dict[str, str], str]:
    """Return fields, environment and address of a login that is stated in one of the `LOGINS`."""
    if way == "fields":
        return {"user": "${CAM_USER}", "password": "${CAM_PASSWORD}"}, {}, f"{scheme}://{place}"
    if way == "whole":
        return {}, {"URL": f"{scheme}://view%20er:{ENCODED}@{place}"}, "${URL}"
    return {}, {}, f"{scheme}://${{CAM_USER}}:${{CAM_PASSWORD}}@{place}"


@pytest.mark.parametrize(
    ("source", "expanded"),
    [
        ("rtsp://${CAM_USER}:${CAM_PASSWORD}@h/a", f"rtsp://view%20er:{ENCODED}@h/a"),
        ("rtsp://x-${CAM_PASSWORD}@[::1]:554/a", f"rtsp://x-{ENCODED}@[::1]:554/a"),
        ("http://h/${TOKEN}/x", "http://h/a/b:c%3Fd/x"),
        ("http://h/x?k=${TOKEN}&l=1", "http://h/x?k=a%2Fb%3Ac%3Fd&l=1"),
        ("http://${HOST}:81/x", "http://cam_1:81/x"),
        ("${URL}", "rtsp://u:p%23@h/x?y=z"),
        ("${URL}&k=${TOKEN}", "rtsp://u:p%23@h/x?y=z&k=a%2Fb%3Ac%3Fd"),
        ("rtsp://u:$${TOKEN}@h", "rtsp://u:${TOKEN}@h"),
        ("recordings/${TOKEN}", "recordings/a/b:c?d"),
    ],
)
def test_a_value_is_encoded_where_it_stands(source: str, expanded: str) -> None:
    environment = ENVIRONMENT | {"HOST": "cam_1", "URL": "rtsp://u:p%23@h/x?y=z"}
    if "$$" in source:
        source = settings(environment, **camera(source)).cameras[0].source.get_secret_value()
        assert source == expanded
    else:
        assert location(source, environment) == expanded


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("rtsp://user:12#34@127.0.0.1/a", "give user and password as fields"),
        ("rtsp://user:p/w@127.0.0.1/a", "give user and password as fields"),
        ("rtsp://user:50%off@127.0.0.1/a", "two hexadecimal digits after %"),
        ("rtsp://fe80::1/a", "an IPv6 address in brackets"),
        ("rtsp://cam:0/a", "a port from 1 to 65535"),
        ("rtsp://cam:65536/a", "a port from 1 to 65535"),
        ("rtsp://cam:554 /a", "without blanks"),
        ("rtsp:///a", "expected HOST"),
        ("rtsp://${TOKEN}@cam/a", "expected a user alone in TOKEN"),
        ("rtsp://u:${EMPTY}@cam/a", "expected EMPTY in the environment, got an empty one"),
        ("rtsp://u:${MISSING}@cam/a", "cameras.0.source: expected MISSING in the environment"),
        ("rtsp://u:${MY-PW}@cam/a", "expected .* of letters, digits and _"),
        ("rtsp://u:${PW:-x}@cam/a", "expected .* of letters, digits and _"),
    ],
)
def test_an_address_that_would_mean_another_host_is_refused(source: str, said: str) -> None:
    with pytest.raises((ConfigError, SourceError), match=said) as refused:
        location(source, ENVIRONMENT | {"EMPTY": ""})
    for secret in ("12#34", "p/w", "50%off", "a/b"):
        assert secret not in str(refused.value)
    assert refused.value.exit_code == 2


@pytest.mark.parametrize(
    ("source", "fields", "said"),
    [
        ("rtsp://u:p@cam/a", {"user": "u", "password": "p"}, "expected the login once"),
        ("rtsp://cam/a", {"password": "p"}, "expected user beside password"),
        ("rtsp://cam/a", {"user": "a:b", "password": "p"}, "user without a colon"),
        ("door.mp4", {"user": "u", "password": "p"}, "do not go with a file"),
    ],
)
def test_a_login_that_cannot_be_is_refused(source: str, fields: dict[str, str], said: str) -> None:
    with pytest.raises(SourceError, match=said):
        location(source, ENVIRONMENT, **fields)


def test_a_password_shows_in_no_text_however_it_is_written() -> None:
    secrets = Secrets()
    both = settings(
        **camera("rtsp://cam/a", user="u", password="${CAM_PASSWORD}"),
        sinks={"mqtt": {"url": "mqtt://u:${CAM_PASSWORD}@b"}},
    )
    hide_secrets(both, secrets)
    for text in (PASSWORD, ENCODED, f"Login {PASSWORD} failed", f"rtsp://u:{ENCODED}@cam/a"):
        assert "34" not in secrets.redact(text)
    assert "34" not in repr(both)
    assert "34" not in repr(parse_source(both.cameras[0]))


def test_a_value_is_in_no_message_even_where_it_is_no_secret() -> None:
    with pytest.raises(ConfigError) as refused:
        settings(servers={"urls": ["h:1"], "in_flight": "${CAM_PASSWORD}"})
    assert "34" not in str(refused.value)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if missing := find_gstreamer():
        pytest.skip(f"no RTSP camera: {missing}")
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            "libx264", rate=25, options={"preset": "ultrafast", "g": "5", "bf": "0"}
        )
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(250):
            picture = np.full((48, 64, 3), number % 200, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def live(address: str) -> Iterator[SeenPicture]:
    return read_live(address, layout="rgb", stall_seconds=5, rtsp_transport="tcp")


@pytest.mark.parametrize(
    ("scheme", "ways"), [("basic", ["variables"]), ("digest", ["fields", "whole"])]
)
def test_a_camera_lets_every_password_in(film: Path, scheme: str, ways: list[str]) -> None:
    with RtspCamera(film, login=(USER, PASSWORD), digest=scheme == "digest") as guarded:
        place = f"127.0.0.1:{guarded.port}/camera"
        for way in ways:
            fields, environment, address = stated(way, "rtsp", place)
            pictures = live(location(address, ENVIRONMENT | environment, **fields))
            assert next(pictures).picture.size == (48, 64)
        wrong = location(f"rtsp://{place}", user=USER, password="wrong#password")
        with pytest.raises(LiveSourceError) as refused:
            next(live(wrong))
        assert "wrong" not in str(refused.value)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    if MOSQUITTO is None or MOSQUITTO_PASSWD is None:
        pytest.skip("no mosquitto on this machine")
    folder, port = tmp_path_factory.mktemp("broker"), free_port()
    passwords = folder / "passwords"
    subprocess.run(
        [MOSQUITTO_PASSWD, "-b", "-c", str(passwords), USER, PASSWORD],
        check=True,
        capture_output=True,
    )
    # mosquitto gives up root's rights before it reads the file.
    folder.chmod(0o755)
    passwords.chmod(0o644)
    config = folder / "mosquitto.conf"
    config.write_text(
        f"listener {port} 127.0.0.1\npersistence false\nallow_anonymous false\n"
        f"password_file {passwords}\nuser root\n",
        encoding="utf-8",
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


def delivered(sink: MqttSink, event: Event) -> str:
    """Deliver an event as a courier would, and return why that did not come about."""
    sink.start()
    said = ""
    try:
        for _ in range(500):
            try:
                sink.deliver([event])
            except SinkUnavailableError as error:
                said = str(error)
                if "not connected yet" not in said:
                    return said
                time.sleep(0.02)
            else:
                return ""
    finally:
        sink.close()
    return said


@pytest.mark.parametrize("way", LOGINS)
def test_a_broker_lets_every_password_in(broker: int, way: str, event: Event) -> None:
    fields, environment, address = stated(way, "mqtt", f"127.0.0.1:{broker}")
    mqtt = settings(ENVIRONMENT | environment, sinks={"mqtt": {"url": address} | fields}).sinks.mqtt
    assert mqtt is not None
    assert delivered(MqttSink(mqtt), event) == ""


def test_a_brokers_refusal_is_said(broker: int, event: Event) -> None:
    mqtt = settings(sinks={"mqtt": {"url": f"mqtt://u:wr%23ong@127.0.0.1:{broker}"}}).sinks.mqtt
    assert mqtt is not None
    assert (
        delivered(MqttSink(mqtt), event)
        == "127.0.0.1: the broker refused the connection: Not authorized"
    )


def test_a_literal_password_that_hides_the_host_is_refused() -> None:
    mqtt = settings(sinks={"mqtt": {"url": "mqtt://user:12#34@127.0.0.1"}}).sinks.mqtt
    assert mqtt is not None
    with pytest.raises(SettingsError, match="give user and password as fields") as refused:
        MqttSink(mqtt)
    assert "12" not in str(refused.value)


@pytest.fixture(scope="module", params=["127.0.0.1", "::1"])
def receiver(request: pytest.FixtureRequest) -> Iterator[str]:
    """A webhook that asks for the login, at one address of each family."""
    expected = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200 if self.headers["Authorization"] == expected else 401)
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    class Server(HTTPServer):
        address_family = socket.AF_INET6 if ":" in request.param else socket.AF_INET

    try:
        server = Server((request.param, 0), Handler)
    except OSError as error:
        pytest.skip(f"{request.param}: {error}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    host = f"[{request.param}]" if ":" in request.param else request.param
    yield f"{host}:{server.server_port}/events"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("way", LOGINS)
def test_a_webhook_lets_every_password_in(receiver: str, way: str, event: Event) -> None:
    fields, environment, address = stated(way, "http", receiver)
    sinks = {"webhook": {"url": address} | fields}
    webhook = settings(ENVIRONMENT | environment, sinks=sinks).sinks.webhook
    assert webhook is not None
    sink = WebhookSink(webhook)
    sink.deliver([event])
    sink.close()


def test_a_webhooks_refusal_shows_no_password(receiver: str, event: Event) -> None:
    webhook = settings(sinks={"webhook": {"url": f"http://u:wr%23ong@{receiver}"}}).sinks.webhook
    assert webhook is not None
    sink = WebhookSink(webhook)
    with pytest.raises(SinkUnavailableError, match="answered 401") as refused:
        sink.deliver([event])
    sink.close()
    assert "ong" not in str(refused.value)
