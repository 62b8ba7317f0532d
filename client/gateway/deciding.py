"""`Deciding`: a worker's samples through gate, window, server and tracker into the outbox."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from fgmclip.client.action import ActionClient
from fgmclip.client.errors import ClientError
from fgmclip.client.events.event import Clock, Event
from fgmclip.client.events.tracker import EventTracker
from fgmclip.client.gateway.annotate import Shown
from fgmclip.client.gateway.board import CameraBoard
from fgmclip.client.gateway.gate import MotionGate
from fgmclip.client.gateway.messages import Samples
from fgmclip.client.gateway.services import Services
from fgmclip.client.gateway.settings import CameraSettings
from fgmclip.client.streams.client import StreamClient
from fgmclip.client.streams.results import StreamDecision, WindowReset
from fgmclip.client.streams.samples import StreamSample

log = logging.getLogger(__name__)

Show = Callable[[float, Shown], None]
"""Tells whoever draws what was decided for a time, by track."""


class Deciding:
    """What happens to a camera's samples; belongs to the camera's thread.

    An event is committed to the outbox before anybody hears of it.

    Attributes:
        decisions: How many were made.
        outdated: Whether the servers have gone over to a model that takes other samples.
    """

    def __init__(
        self,
        settings: CameraSettings,
        services: Services,
        client: ActionClient,
        board: CameraBoard,
        show: Show,
        *,
        live: bool,
    ) -> None:
        """Start with an empty window.

        Args:
            settings: The camera's.
            services: What all cameras share.
            client: Asks this camera's servers.
            board: Where the camera is counted.
            show: Called with the decisions of each window.
            live: Whether what is opened again goes on; recordings are each for themselves.

        Raises:
            ClientError: The manifest cannot be read.
        """
        self._services = services
        self._client = client
        self._board = board
        self.decisions = 0
        self.outdated = False
        self._show = show
        self._live = live
        self._held: dict[str | None, tuple[dict[str, float], str]] = {}
        self._stream = StreamClient(client, stride=settings.stride, edge=settings.edge)
        self._gate = None
        if settings.gate is not None:
            clip = client.manifest.spec.clip
            self._gate = MotionGate(settings.gate, clip.dt, clip.frames)
        self._camera = settings.name
        self._clock: Clock = "wall"
        self._tracker = EventTracker(settings.name, services.events, self._clock)
        self._sample: StreamSample | None = None
        self._captured = 0.0
        self._arrived = time.monotonic()
        self._gated = 0
        self._failed = False

    def opened(self, clock: Clock) -> None:
        """Begin a source, or the next recording of a folder."""
        if self._sample is not None and not self._live:
            self._accept(self._tracker.finish(self._sample.time))
            self._held.clear()
        if clock != self._clock:
            self._accept(self._tracker.interrupt())
            self._clock = clock
            self._tracker = EventTracker(self._camera, self._services.events, clock)

    def advance(self, message: Samples) -> None:
        """Move the window on, and decide if it is time to.

        Raises:
            ClientError: No server decided; the samples wait for `decide` or the next call.
        """
        self._captured, self._arrived = message.captured, time.monotonic()
        sees = False
        for sample in message.samples:
            self._sample = sample
            for reset in self._stream.add(sample):
                self._lost(reset)
            moves = self._gate is None or self._gate.sees(sample)
            if not moves and not self._failed and self._stream.due:
                self._gated += 1
            sees = sees or moves
        if self._gate is not None:
            self._board.gate(sees)
            # What was decided before servers failed stands for nothing: until one decides again
            # they are asked as without a gate, so that the failure shows for as long as it lasts.
            if not sees and not self._failed:
                self._board.became("idle")
                self._hold(message.samples[-1])
                return
        self.decide()

    def decide(self) -> None:
        """Decide if it is time to, on samples that came before.

        Raises:
            ClientError: No server decided; the samples wait.
        """
        self._failed = True
        answers = self._stream.decide()
        self._failed = False
        decided = [item for item in answers if isinstance(item, StreamDecision)]
        for item in answers:
            if isinstance(item, WindowReset):
                self._lost(item)
        if not decided:
            return
        self.decisions += len(decided)
        latency = time.time() - self._captured
        skipped = decided[0].skipped_decisions - min(self._gated, decided[0].skipped_decisions)
        self._gated = 0
        if skipped:
            self._board.skipped(skipped)
        for item in decided:
            decision = item.decision
            self._board.decided(
                item.time,
                decision.label,
                decision.probability,
                item.track,
                latency,
                item.samples,
                decision.top,
            )
            labels = self._client.manifest.spec.labels
            probabilities = dict(zip(labels, map(float, decision.probabilities), strict=True))
            self._held[item.track] = (probabilities, item.model_tag)
            events = self._tracker.decide(item.time, probabilities, item.track, item.model_tag)
            self._accept(events, seen=True)
        shown = {item.track: (item.decision.label, item.decision.probability) for item in decided}
        self._show(decided[0].time, shown)
        self._board.became("live")

    def wait(self) -> None:
        """Tell that time passes without samples."""
        if self._sample is not None:
            passed = time.monotonic() - self._arrived
            self._accept(self._tracker.pause(self._sample.time + passed))

    def end(self, *, interrupted: bool) -> None:
        """Decide what is left, and end or interrupt the events that are open."""
        try:
            self.decide()
        except ClientError as error:
            log.warning("no last decision: %s", error, extra={"camera": self._camera})
        if interrupted or self._sample is None:
            self._accept(self._tracker.interrupt())
        else:
            self._accept(self._tracker.finish(self._sample.time))

    def _lost(self, reset: WindowReset) -> None:
        self.outdated = self.outdated or reset.reason == "release"
        if reset.reason != "tracks":
            self._board.reset(reset.reason)
            self._held.clear()
        if reset.skipped_decisions:
            self._board.skipped(reset.skipped_decisions)
        for track in reset.ended:
            self._held.pop(track, None)
            self._accept(self._tracker.lose(track))

    def _hold(self, sample: StreamSample) -> None:
        """Let the last decisions stand for a sample in which nothing moved."""
        for track, (probabilities, tag) in self._held.items():
            self._accept(self._tracker.decide(sample.time, probabilities, track, tag), seen=True)

    def _accept(self, events: Sequence[Event], *, seen: bool = False) -> None:
        """Commit events, then tell of those that were accepted.

        Args:
            events: Opened, ended or interrupted ones.
            seen: Whether the latest sample decided them.
        """
        for event in events:
            accepted = self._pictured(event)
            if not self._services.outbox.accept(accepted):
                if event.state == "open":
                    message = "event refused, the outbox is full or its disk fails: %s"
                    log.warning(message, event.label, extra={"camera": event.camera})
                continue
            self._board.evented(accepted, time.time() - self._captured if seen else None)
            self._services.report(accepted)

    def _pictured(self, event: Event) -> Event:
        """Return the event with its picture: as the model saw the sample that opened it."""
        thumbnails, sample = self._services.thumbnails, self._sample
        if thumbnails is None:
            return event
        if event.state != "open":
            return thumbnails.attach(event)
        if sample is None or "PIXELS_U8" not in sample.tensors:
            return event
        names = (None,) if sample.tracks is None else sample.tracks
        if event.track not in names:
            return event
        return thumbnails.save(event, sample.tensors["PIXELS_U8"][names.index(event.track)])
