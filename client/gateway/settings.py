"""`WatchSettings`: what `watch.yaml` may say."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, SecretStr, field_validator, model_validator

from fgmclip.spec.base import FrozenSpec
from fgmclip.spec.labels import clean_label

Policy = Literal["latest", "drop-oldest", "block"]
Pace = Literal["fast", "live"]

_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
# A first `$` is the broker's own.
_TOPIC = r"^[^#+\s\x00-\x1f$][^#+\s\x00-\x1f]*$"

EXPECTED = {
    _NAME: "expected letters a to z, digits and . _ - alone, a letter or digit first",
    _TOPIC: "expected a topic without # + and blanks, and no $ first",
}
"""What the patterns below mean, for messages."""

Name = Annotated[str, Field(min_length=1, max_length=64, pattern=_NAME)]
"""Stands in topics, metrics and file names as it is."""

Probability = Annotated[float, Field(gt=0, le=1)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]


def _number(value: object) -> object:
    return int(value) if isinstance(value, str) and value.isdecimal() else value


class GateSettings(FrozenSpec):
    """The motion gate of a camera: skips encoding while nothing moves.

    Attributes:
        threshold: Part of the luma grid's points that must differ by more than `difference` from
            the sample before for it to count as motion.
        difference: Difference of luma that counts, as a part of white.
        heartbeat_seconds: A decision is made at least this often.
        linger_seconds: How long the gate stays open after the last motion, at least a window.
    """

    threshold: float = Field(default=0.002, ge=0, le=1)
    difference: float = Field(default=0.06, ge=0, le=1)
    heartbeat_seconds: Seconds = 10.0
    linger_seconds: float = Field(default=1.0, ge=0, le=3600)


class CameraSettings(FrozenSpec):
    """One source.

    Attributes:
        name: Names the camera in events, topics and metrics.
        source: A video file, a folder of recordings, an address (rtsp, rtsps, rtmp, http, https),
            or a webcam (`webcam:0`). `${NAME}` is taken from the environment, and encoded where it
            stands in an address.
        user: For the login, as is; exclusive with one in the source.
        password: For the login, as is.
        policy: What happens to samples that the server is too slow for; `block` for files and
            folders, `latest` for the others if absent.
        stride: Samples from one decision to the next.
        edge: Bring frames to the model's size here.
        start: When the first recording began; for files and folders. If absent, a time in a
            file's name counts, else times are those of the media.
        pace: `live` plays files in real time, `fast` as fast as they are answered.
        rtsp_transport: `tcp` or `udp`.
        stall_seconds: A live source that sends nothing for so long is connected again.
        boxes: JSON lines of a detector or tracker: `time` in seconds of the media and `boxes`, an
            object of pixels x0, y0, x1, y1 by track name; for files.
        annotate: Video file to write, with the actions drawn in.
        gate: The motion gate; off if absent.
    """

    name: Name
    source: SecretStr
    user: str | None = None
    password: SecretStr | None = None
    policy: Policy | None = None
    stride: int = Field(default=1, ge=1, le=64)
    edge: bool = True
    start: datetime | None = None
    pace: Pace = "fast"
    rtsp_transport: Literal["tcp", "udp"] = "tcp"
    stall_seconds: Seconds = 10.0
    boxes: Path | None = None
    annotate: Path | None = None
    gate: GateSettings | None = None

    @field_validator("start", mode="before")
    @classmethod
    def _is_no_number(cls, start: object) -> object:
        # 20261124 would be taken for seconds since 1970.
        if isinstance(start, (int, float)) or (isinstance(start, str) and start.strip().isdigit()):
            raise ValueError("expected a time, for example 2026-11-24T10:00:00+01:00")
        return start

    @field_validator("start")
    @classmethod
    def _zoned(cls, start: datetime | None) -> datetime | None:
        if start is not None and start.tzinfo is None:
            raise ValueError("expected a time with its zone, for example 2026-11-24T10:00:00+01:00")
        return start


class ClassRule(FrozenSpec):
    """When an action is an event.

    Attributes:
        start: A decision at or above this probability may begin one.
        keep: It goes on while decisions are at or above this one.
        min_seconds: How long it must last before it is reported.
        release_seconds: How long decisions must stay below `keep` before it ends.
    """

    start: Probability = 0.6
    keep: Probability = 0.4
    min_seconds: float = Field(default=0.5, ge=0, le=3600)
    release_seconds: float = Field(default=0.5, ge=0, le=3600)

    @model_validator(mode="after")
    def _hysteresis(self) -> ClassRule:
        if self.keep > self.start:
            raise ValueError(f"expected keep up to start ({self.start}), got {self.keep}")
        return self


class EventSettings(FrozenSpec):
    """Which decisions become events.

    Attributes:
        default: The rule of every class without one of its own.
        classes: Rules by class; null leaves a class out.
        unknown: Report `unknown` as an action as well, by the default rule: its probability is
            1 less the likeliest action's.
        max_gap_seconds: An open event without a decision for so long is interrupted.
    """

    default: ClassRule = ClassRule()
    classes: dict[str, ClassRule | None] = Field(default_factory=dict)
    unknown: bool = False
    max_gap_seconds: Seconds = 10.0

    @field_validator("classes")
    @classmethod
    def _spelled_as_the_model_does(
        cls, value: dict[str, ClassRule | None]
    ) -> dict[str, ClassRule | None]:
        return {clean_label(name): rule for name, rule in value.items()}


class OutboxSettings(FrozenSpec):
    """Where accepted events wait until every sink has them.

    Attributes:
        path: SQLite file.
        limit_mb: Disk that it may take; events beyond it are refused and counted.
    """

    path: Path = Path("fgmclip-outbox.sqlite")
    limit_mb: float = Field(default=256, gt=0)


class JsonLinesSettings(FrozenSpec):
    """One event a line, appended to a file.

    Attributes:
        path: The file.
    """

    path: Path


class MqttSettings(FrozenSpec):
    """An MQTT broker.

    Attributes:
        url: `mqtt://[USER:PASSWORD@]HOST[:PORT]`, or `mqtts://` with TLS.
        user: For the login, as is; exclusive with one in the url.
        password: For the login, as is.
        prefix: First part of every topic.
        discovery_prefix: Where Home Assistant looks for devices; null publishes none.
        client_id: Must differ between gateways on one broker.
        ca_file: Certificates to trust, for TLS; the system's if absent.
    """

    url: SecretStr
    user: str | None = None
    password: SecretStr | None = None
    prefix: str = Field(default="fgmclip", pattern=_TOPIC)
    discovery_prefix: str | None = Field(default="homeassistant", pattern=_TOPIC)
    client_id: str = Field(default="fgmclip", min_length=1, max_length=64)
    ca_file: Path | None = None


class WebhookSettings(FrozenSpec):
    """An address that takes events by POST.

    Attributes:
        url: `http://` or `https://`.
        user: Of basic authentication, as is; exclusive with one in the url.
        password: Of basic authentication, as is.
        secret: Key of the HMAC-SHA256 signature; unsigned if absent.
        timeout_seconds: How long an answer may take.
    """

    url: SecretStr
    user: str | None = None
    password: SecretStr | None = None
    secret: SecretStr | None = None
    timeout_seconds: Seconds = 10.0

    @field_validator("url")
    @classmethod
    def _is_http(cls, url: SecretStr) -> SecretStr:
        if not re.match(r"https?://", url.get_secret_value()):
            raise ValueError("expected an address that starts with http:// or https://")
        return url


class SinkSettings(FrozenSpec):
    """Where events go; none of them loses what another cannot take.

    Attributes:
        jsonl: A file of JSON lines.
        mqtt: An MQTT broker.
        webhook: An HTTP address.
    """

    jsonl: JsonLinesSettings | None = None
    mqtt: MqttSettings | None = None
    webhook: WebhookSettings | None = None


class ThumbnailSettings(FrozenSpec):
    """A picture of each event, as the model saw it; off unless stated.

    Attributes:
        directory: Folder of the JPEG files.
        retention_hours: They are removed after this time.
    """

    directory: Path
    retention_hours: float = Field(gt=0, le=24 * 366)


class WebSettings(FrozenSpec):
    """The live page, and `/metrics` for Prometheus.

    Attributes:
        port: Port to listen on; 0 takes a free one.
        host: Address to listen on.
    """

    port: int = Field(ge=0, le=65535)
    host: str = "127.0.0.1"


class ServerSettings(FrozenSpec):
    """How Triton servers are asked.

    Attributes:
        urls: `HOST:PORT` of each server's gRPC endpoint; any of them can answer.
        request_seconds: Deadline of one request.
        decision_seconds: Deadline of a decision, with its retries.
        health_seconds: Time between health checks of an endpoint.
        in_flight: Requests that one endpoint is given at once.
    """

    urls: tuple[str, ...] = Field(min_length=1)
    request_seconds: Seconds = 10.0
    decision_seconds: Seconds = 30.0
    health_seconds: Seconds = 1.0
    in_flight: int = Field(default=4, ge=1, le=256)


class WatchSettings(FrozenSpec):
    """The whole of `watch.yaml`.

    Attributes:
        version: Of this layout.
        servers: How servers are asked.
        cameras: The sources.
        events: Which decisions become events.
        outbox: Where events wait.
        sinks: Where events go.
        thumbnails: Pictures of events; off if absent.
        web: The live page and metrics; off if absent.
    """

    version: Annotated[Literal[1], BeforeValidator(_number)] = 1
    servers: ServerSettings
    cameras: tuple[CameraSettings, ...] = Field(min_length=1)
    events: EventSettings = EventSettings()
    outbox: OutboxSettings = OutboxSettings()
    sinks: SinkSettings = SinkSettings()
    thumbnails: ThumbnailSettings | None = None
    web: WebSettings | None = None

    @field_validator("cameras")
    @classmethod
    def _named_apart(cls, cameras: tuple[CameraSettings, ...]) -> tuple[CameraSettings, ...]:
        names = [camera.name for camera in cameras]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"expected each camera's name once, got {', '.join(twice)} twice")
        return cameras
