"""`Gateway`: cameras in, events out; starts, changes and ends everything in between."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from types import TracebackType

from fgmclip.client.answers import UNKNOWN
from fgmclip.client.errors import ClientError
from fgmclip.client.events.courier import Courier, CourierStatus
from fgmclip.client.events.errors import OutboxError
from fgmclip.client.events.event import Event
from fgmclip.client.events.outbox import Outbox
from fgmclip.client.gateway.board import Board
from fgmclip.client.gateway.camera import CameraLoop
from fgmclip.client.gateway.config import ConfigError
from fgmclip.client.gateway.parts import (
    build_parts,
    build_pool,
    build_sinks,
    build_sources,
    unknown_classes,
)
from fgmclip.client.gateway.services import Services
from fgmclip.client.gateway.settings import SinkSettings, WatchSettings
from fgmclip.client.sinks.mqtt import MqttSink
from fgmclip.client.sinks.sink import Sink
from fgmclip.client.sinks.thumbnails import SWEEP_SECONDS, Thumbnails
from fgmclip.client.web.page import LivePage
from fgmclip.spec import PublicManifest

log = logging.getLogger(__name__)

FLUSH_SECONDS = 10.0
"""How long a graceful stop waits for servers to decide on what was captured."""

DRAIN_SECONDS = 10.0
"""How long a graceful stop waits for sinks to take what was accepted; the rest waits on disk."""

MAKE_UP_SECONDS = 2.0
"""Between two looks after ends of events that the outbox's disk failed over."""

_FIXED = ("outbox", "web")


class Gateway:
    """Many cameras, a thread and a process each; use it in a `with` statement.

    Attributes:
        board: What is going on, for pages and metrics.
    """

    def __init__(
        self, settings: WatchSettings, board: Board, *, report: Callable[[Event], None]
    ) -> None:
        """Take over the settings; nothing is started yet.

        Args:
            settings: What `watch.yaml` says.
            board: Where everything is counted.
            report: Called with every accepted event, from any thread.
        """
        self.board = board
        self._settings = settings
        self._report = report
        self._loops: dict[str, CameraLoop] = {}
        self._couriers: dict[str, Courier] = {}
        self._mqtt: MqttSink | None = None
        self._page: LivePage | None = None
        self._thumbnails: Thumbnails | None = None
        self._labels: tuple[str, ...] | None = None
        self._changing = threading.Lock()
        self._sinking = threading.Lock()
        self._swept = self._made_up = time.monotonic()

    def __enter__(self) -> Gateway:
        """Start everything.

        Raises:
            OutboxError: Another gateway has the outbox, or it cannot be written.
            SettingsError: An address has no meaning.
        """
        settings = self._settings
        parts = build_parts(settings, self.board)
        self._pool = parts.pool
        try:
            self._outbox = Outbox(settings.outbox.path, parts.outbox_bytes, parts.sinks)
        except BaseException:
            parts.close()
            raise
        try:
            for event in self._outbox.interrupt_open():
                self._report(event)
            self.board.watch("outbox", self._outbox.status)
            self.board.watch("endpoints", lambda: self._pool.status())
            self.board.watch("sinks", self._sink_status)
            self.board.watch("dead", self._dead)
            if parts.page is not None:
                self._page = parts.page
                log.info("live page at %s", self._page.start())
            self._start_sinks(parts.sinks, self._outbox.open_events())
            self._start_cameras(settings)
        except BaseException:
            self._end()
            parts.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Decide what was captured, end open events, hand over what sinks take, and stop."""
        self._end()

    @property
    def page_url(self) -> str | None:
        """Address of the live page; None where there is none."""
        return None if self._page is None else self._page.url

    def wait(self, seconds: float) -> bool:
        """Wait for all sources to end, and look after what needs it; return whether they have."""
        if self._thumbnails is not None and time.monotonic() - self._swept > SWEEP_SECONDS:
            self._swept = time.monotonic()
            self._thumbnails.sweep()
        if time.monotonic() - self._made_up > MAKE_UP_SECONDS:
            self._made_up = time.monotonic()
            self._make_up()
        until = time.monotonic() + seconds
        for loop in list(self._loops.values()):
            loop.join(max(0.0, until - time.monotonic()))
        return not any(loop.is_alive() for loop in self._loops.values())

    @property
    def failed(self) -> list[str]:
        """Names of the cameras that ended for another reason than the end of their source."""
        return sorted(name for name, loop in self._loops.items() if loop.cause is not None)

    def reload(self, settings: WatchSettings) -> None:
        """Go over to other settings: what did not change goes on undisturbed.

        Where anything is raised the old settings go on.

        Raises:
            SettingsError: An address has no meaning, or something changed that only a restart can
                change.
            OutboxError: Sinks changed, and the disk cannot be written.
        """
        with self._changing:
            old = self._settings
            for name in _FIXED:
                if getattr(old, name) != getattr(settings, name):
                    raise ConfigError(f"{name}: cannot change while running; restart the gateway")
            # All that may be refused comes before anything is stopped for good.
            build_sources(settings.cameras)
            pool = None if settings.servers == old.servers else build_pool(settings.servers)
            try:
                self._change_sinks(old.sinks, settings.sinks)
            except ClientError:
                if pool is not None:
                    pool.close()
                raise
            self._settings = settings
            with self._sinking:
                self._announce()
            shared = (settings.events, settings.thumbnails) == (old.events, old.thumbnails)
            kept = {camera.name: camera for camera in settings.cameras}
            gone = [
                loop
                for name, loop in self._loops.items()
                if pool is not None or not shared or kept.get(name) != loop.settings
            ]
            if pool is not None:
                # Servers are left because they are out, it may be.
                _flush(gone)
                self._pool.close()
                self._pool = pool
            self._stop_cameras(gone)
            self._start_cameras(settings)

    def _change_sinks(self, old: SinkSettings, new: SinkSettings) -> None:
        if new == old:
            return
        sinks = build_sinks(new)
        try:
            self._outbox.set_sinks(sinks)
        except OutboxError:
            for sink in sinks.values():
                sink.close()
            raise
        self._stop_sinks(drain_seconds=0.0)
        # Not before: what ended meanwhile would be open for ever.
        going_on: list[Event] = []
        try:
            going_on = self._outbox.open_events()
        except OutboxError as error:
            log.error("sinks are not told of what is open already: %s", error)
        self._start_sinks(sinks, going_on)

    def _start_sinks(self, sinks: Mapping[str, Sink], going_on: Iterable[Event]) -> None:
        with self._sinking:
            self._mqtt = None
            for name, sink in sinks.items():
                courier = self._couriers[name] = Courier(name, sink, self._outbox)
                if isinstance(sink, MqttSink):
                    self._mqtt = sink
                    sink.on_connect = courier.hurry
                    sink.start(going_on)
                courier.start()
            self._announce()

    def _stop_sinks(self, drain_seconds: float) -> None:
        until = time.monotonic() + drain_seconds
        with self._sinking:
            couriers, self._couriers = self._couriers, {}
        for courier in couriers.values():
            courier.stop(max(0.0, until - time.monotonic()))

    def _met(self, manifest: PublicManifest) -> None:
        """Take notice of the actions that the servers know."""
        labels = manifest.spec.labels
        with self._sinking:
            if labels != self._labels:
                self._labels = labels
                if fault := unknown_classes(self._settings.events, labels):
                    # Another release may have them; whoever starts a gateway by hand sees it.
                    log.warning("%s", fault)
                self._announce()

    def _announce(self) -> None:
        if self._mqtt is None or self._labels is None:
            return
        events = self._settings.events
        reported = [name for name in self._labels if events.classes.get(name, events.default)]
        if events.unknown:
            reported.append(UNKNOWN)
        self._mqtt.announce(_names(self._settings), reported)

    def _start_cameras(self, settings: WatchSettings) -> None:
        self._thumbnails = None
        if settings.thumbnails is not None:
            self._thumbnails = Thumbnails(settings.thumbnails)
        services = Services(
            pool=self._pool,
            servers=settings.servers,
            events=settings.events,
            outbox=self._outbox,
            thumbnails=self._thumbnails,
            met=self._met,
            report=self._report,
        )
        for camera in settings.cameras:
            if camera.name not in self._loops:
                loop = CameraLoop(camera, services, self.board.camera(camera.name))
                self._loops[camera.name] = loop
                loop.start()

    def _stop_cameras(self, loops: Sequence[CameraLoop]) -> None:
        # All are asked first, so that they end side by side.
        for loop in loops:
            loop.stop()
        for loop in loops:
            loop.join()
            del self._loops[loop.settings.name]
            self.board.remove(loop.settings.name)

    def _make_up(self) -> None:
        """See to ends of events that the disk failed over, and tell of those that it has now."""
        for event in self._outbox.make_up():
            if event.camera in self._loops:
                self.board.camera(event.camera).evented(event)
            self._report(event)

    def _sink_status(self) -> dict[str, CourierStatus]:
        return {name: courier.status() for name, courier in list(self._couriers.items())}

    def _dead(self) -> list[str]:
        return [name for name, loop in list(self._loops.items()) if not loop.is_alive()]

    def _end(self) -> None:
        with self._changing:
            _flush(self._loops.values())
            endpoints = self._pool.status()
            self._pool.close()
            for loop in self._loops.values():
                loop.join()
            self._make_up()
            self._stop_sinks(DRAIN_SECONDS)
            if self._page is not None:
                self._page.stop()
            # Whoever looks at the board later sees how it ended.
            outbox = self._outbox.status()
            self.board.watch("outbox", lambda: outbox)
            self.board.watch("endpoints", lambda: endpoints)
            self._outbox.close()


def _flush(loops: Collection[CameraLoop]) -> None:
    """Ask cameras to end; who waits for a server after `FLUSH_SECONDS` has waited long enough."""
    until = time.monotonic() + FLUSH_SECONDS
    for loop in loops:
        loop.stop()
    for loop in loops:
        loop.join(max(0.0, until - time.monotonic()))


def _names(settings: WatchSettings) -> list[str]:
    return [camera.name for camera in settings.cameras]
