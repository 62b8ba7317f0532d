"""What a gateway is built of: the one way for a run and for `--check`, so that they agree."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from fgmclip.client.endpoints.pool import EndpointPool
from fgmclip.client.events.outbox import checked_limit
from fgmclip.client.gateway.board import Board
from fgmclip.client.gateway.settings import (
    CameraSettings,
    EventSettings,
    ServerSettings,
    SinkSettings,
    WatchSettings,
)
from fgmclip.client.gateway.sources import Source, parse_source
from fgmclip.client.sinks.jsonl import JsonLinesSink
from fgmclip.client.sinks.mqtt import MqttSink
from fgmclip.client.sinks.sink import Sink
from fgmclip.client.sinks.webhook import WebhookSink
from fgmclip.client.timeouts import Timeouts
from fgmclip.client.web.page import LivePage


@dataclass(frozen=True, slots=True)
class Parts:
    """All that stands before anything is started, written or sent.

    Attributes:
        sources: What each camera watches, by name.
        pool: The servers.
        sinks: Where events go, by name; none is connected.
        outbox_bytes: Disk that waiting events may take.
        page: The live page; None where there is none.
    """

    sources: dict[str, Source]
    pool: EndpointPool
    sinks: dict[str, Sink]
    outbox_bytes: int
    page: LivePage | None

    def close(self) -> None:
        """Give back what no gateway took over."""
        for sink in self.sinks.values():
            sink.close()
        self.pool.close()


def build_parts(settings: WatchSettings, board: Board) -> Parts:
    """Build everything that settings name.

    Args:
        settings: What `watch.yaml` says.
        board: What the live page shows.

    Raises:
        SettingsError: An address, a certificate or a number has no meaning.
    """
    sources = build_sources(settings.cameras)
    outbox_bytes = checked_limit(int(settings.outbox.limit_mb * 2**20))
    sinks = build_sinks(settings.sinks)
    try:
        pool = build_pool(settings.servers)
        page = None
        if settings.web is not None:
            page = LivePage(board, settings.web.port, settings.web.host)
    except BaseException:
        for sink in sinks.values():
            sink.close()
        raise
    return Parts(sources, pool, sinks, outbox_bytes, page)


def build_sources(cameras: Iterable[CameraSettings]) -> dict[str, Source]:
    """Return what each camera watches, by name.

    Raises:
        SourceError: A source has no meaning.
    """
    return {camera.name: parse_source(camera) for camera in cameras}


def build_pool(servers: ServerSettings) -> EndpointPool:
    """Return the servers.

    Raises:
        SettingsError: An address has no meaning.
    """
    return EndpointPool(
        servers.urls,
        Timeouts(request_seconds=servers.request_seconds),
        decision_seconds=servers.decision_seconds,
        health_seconds=servers.health_seconds,
        in_flight=servers.in_flight,
    )


def build_sinks(settings: SinkSettings) -> dict[str, Sink]:
    """Return the sinks, none of them connected.

    Raises:
        SettingsError: An address or a certificate cannot be used.
    """
    sinks: dict[str, Sink] = {}
    if settings.jsonl is not None:
        sinks["jsonl"] = JsonLinesSink(settings.jsonl.path)
    if settings.webhook is not None:
        sinks["webhook"] = WebhookSink(settings.webhook)
    if settings.mqtt is not None:
        sinks["mqtt"] = MqttSink(settings.mqtt)
    return sinks


def unknown_classes(events: EventSettings, labels: Collection[str]) -> str:
    """Return what is wrong with `events.classes` for a model; empty if nothing is.

    Args:
        events: Rules by class.
        labels: The model's.
    """
    unknown = [name for name in events.classes if name not in labels]
    if not unknown:
        return ""
    said = ", ".join(repr(name) for name in unknown[:5])
    near = [close for name in unknown[:5] for close in difflib.get_close_matches(name, labels, 1)]
    hint = f"did you mean {', '.join(near)}?" if near else f"it has {', '.join(list(labels)[:12])}"
    return f"events.classes: expected classes of the model, got {said}; {hint}"
