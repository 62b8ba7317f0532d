"""`CameraPipeline`: from a source to samples in a queue; runs in a worker's decoding thread."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from urllib.parse import urlsplit

from fgmclip.client.events.event import Clock
from fgmclip.client.gateway.annotate import Annotator
from fgmclip.client.gateway.backoff import Backoff
from fgmclip.client.gateway.boxes import BoxesFile
from fgmclip.client.gateway.messages import Counts, Damaged, Ended, Lost, Opened
from fgmclip.client.gateway.queue import SampleQueue
from fgmclip.client.gateway.secrets import Secrets
from fgmclip.client.gateway.settings import CameraSettings
from fgmclip.client.gateway.sources import RecordingTimes, Source, find_recordings
from fgmclip.client.proxies import by_proxy, reach_own_host_directly
from fgmclip.client.streams.samples import SamplePreparer
from fgmclip.spec import ModelSpec
from fgmclip.spec.errors import FgmclipError
from fgmclip.storage.text import one_line
from fgmclip.video.damage import Damage
from fgmclip.video.decode import read_pictures
from fgmclip.video.errors import VideoError
from fgmclip.video.frames import Frame, Layout
from fgmclip.video.grid import Gap, Sample, sample_grid
from fgmclip.video.live import SeenPicture, read_live
from fgmclip.video.pacing import BurstPacer

LAYOUT: Layout = "rgb"
"""As `ActionClient.classify` reads files: a stream's answers are those of clips."""

STEADY_SECONDS = 10.0
"""A connection that held for so long was a good one: the next wait is short again."""

HANG_SECONDS = 30.0
"""A decoder that gives nothing for so long, beyond what a stall may take, hangs."""


@dataclass(frozen=True, slots=True)
class Resume:
    """Where a new worker of a camera goes on.

    Attributes:
        after: Name of the last recording of a folder that was begun; None for none.
        media_end: Where the times of the last recording ended.
        index: Largest index that a sample may have had.
    """

    after: str | None = None
    media_end: float = 0.0
    index: int = -2


@dataclass(frozen=True, slots=True)
class WorkerTask:
    """What a worker is told once, over its pipe.

    Attributes:
        settings: Of the camera.
        source: What they name, with its secrets.
        spec: The model's spec.
        resume: Where it goes on.
    """

    settings: CameraSettings
    source: Source
    spec: ModelSpec
    resume: Resume


class _Stopped(Exception):  # noqa: N818  (no error: the way out of a loop of generators)
    """The gateway wants no more."""


class CameraPipeline:
    """Decodes, samples and prepares until the source ends or `stop`; bounded by its queue."""

    def __init__(self, task: WorkerTask) -> None:
        """Make a pipeline; `run` is the body of its thread.

        Args:
            task: What to watch.
        """
        self._task = task
        settings, clip = task.settings, task.spec.clip
        self._dt = clip.dt
        policy = settings.policy or task.source.default_policy
        self.queue = SampleQueue(policy, clip.frames)
        self.annotator = (
            None if settings.annotate is None else Annotator(settings.annotate, clip.window_seconds)
        )
        self._secrets = Secrets()
        self._secrets.add_address(task.source.location)
        self._preparer = SamplePreparer(task.spec, edge=settings.edge, threads=1)
        self._frames = self._samples = self._gaps = 0
        self._lost = 0
        self._damage = Damage()
        self._connections = 0
        self._resume = task.resume
        self._known = threading.Event()
        self._known.set()
        self._stop = threading.Event()
        self._beat = time.monotonic()
        self._waits = False
        self._shown: tuple[str, tuple[int, int], Clock] | None = None

    @property
    def counts(self) -> Counts:
        """What was counted so far."""
        reconnects = max(0, self._connections - 1)
        lost = self._lost + self._damage.lost
        return Counts(self._frames, self._samples, self.queue.dropped, self._gaps, reconnects, lost)

    @property
    def resume(self) -> Resume:
        """Where another worker would go on if this one died now."""
        return self._resume

    @property
    def hangs(self) -> bool:
        """Whether the decoder has given nothing for longer than anything good takes."""
        patience = HANG_SECONDS
        if self._task.source.is_live:
            patience += self._task.settings.stall_seconds
        return not self._waits and time.monotonic() - self._beat > patience

    @property
    def wants_to_tell(self) -> bool:
        """Whether the thread waits until the gateway knows where it is."""
        return not self._known.is_set()

    def told(self, resume: Resume) -> None:
        """Take note that the gateway knows where to go on."""
        if resume == self._resume:
            self._known.set()

    def stop(self) -> None:
        """Let the thread end at the next frame."""
        self._stop.set()
        self._known.set()
        self.queue.close()

    def run(self) -> None:
        """Follow the source to its end; the last thing in the queue is `Ended`, unless stopped."""
        try:
            cause = self._follow_live() if self._task.source.is_live else self._follow_recordings()
        except _Stopped:
            return
        finally:
            if self.annotator is not None:
                self.annotator.close()
            self._waits = True
        self.queue.tell(Ended(cause, self.counts))

    def _follow_live(self) -> str:
        source, settings = self._task.source, self._task.settings
        backoff = Backoff()
        reach_own_host_directly(source.location)
        while True:
            began = time.monotonic()
            pictures = read_live(
                source.location,
                layout=LAYOUT,
                stall_seconds=settings.stall_seconds,
                rtsp_transport=settings.rtsp_transport,
                damage=self._begin_damage(),
            )
            self._beat = began
            try:
                self._follow(self._paced(pictures), source.shown, "wall")
                cause = "the stream ended"
            except MemoryError:
                raise
            except Exception as error:  # a stream may find a bug in any decoder below us
                if isinstance(error, _Stopped):
                    raise
                cause = self._cause(error) + self._by_proxy()
            if self._shown is not None and time.monotonic() - began > STEADY_SECONDS:
                backoff.reset()
            self._shown = None
            delay = backoff.next()
            self.queue.tell(Lost(cause, delay))
            self._wait(delay)

    def _follow_recordings(self) -> str | None:
        source, settings = self._task.source, self._task.settings
        try:
            paths = [Path(source.location)]
            if source.kind == "folder":
                paths = find_recordings(paths[0])
        except FgmclipError as error:
            return self._cause(error)
        times = RecordingTimes(settings.start, [path.name for path in paths])
        failures: list[str] = []
        failed = 0
        for path in paths:
            clock, start = times.begin(path, self._resume.media_end)
            if self._task.resume.after is not None and path.name <= self._task.resume.after:
                continue
            self._begin_recording(path.name, source.kind == "folder")
            try:
                self._follow(self._recorded(path, start), one_line(str(path)), clock)
                if self._damage.lost:
                    self.queue.tell(Damaged(one_line(path.name), str(self._damage)))
            except MemoryError:
                raise
            except Exception as error:  # a file may find a bug in any decoder below us
                if isinstance(error, _Stopped):
                    raise
                failed += 1
                failures = [*failures, f"{one_line(path.name)}: {self._cause(error)}"][:3]
        if not failed:
            return None
        if source.kind == "file":
            return failures[0].partition(": ")[2]
        return f"{failed} of {len(paths)} recordings failed: {'; '.join(failures)}"

    def _begin_recording(self, name: str, in_folder: bool) -> None:
        """Let the gateway know which recording is next: one that kills us is not tried again."""
        self._shown = None
        self._resume = replace(self._resume, after=name)
        if in_folder:
            self._waits = True
            self._known.clear()
            self.queue.wake()
            if not self._stop.is_set():
                self._known.wait()
            self._waits = False
        self._beat = time.monotonic()

    def _recorded(self, path: Path, start: float) -> Iterator[SeenPicture]:
        live_pace = self._task.settings.pace == "live"
        began = time.monotonic()
        run = 0
        size: tuple[int, int] | None = None
        for picture in read_pictures(path, layout=LAYOUT, damage=self._begin_damage()):
            if live_pace:
                self._wait(began + picture.time - time.monotonic())
            run += size is not None and picture.size != size
            size = picture.size
            yield SeenPicture(picture.time, start + picture.time, time.time(), run, picture)

    def _paced(self, pictures: Iterable[SeenPicture]) -> Iterator[SeenPicture]:
        """Hold pictures that come in bursts back, so that no burst is taken for an overload."""
        run = -1
        for picture in pictures:
            if picture.run != run:
                run, pacer = picture.run, BurstPacer()
            self._wait(pacer.wait(picture.time, time.monotonic()))
            yield picture

    def _begin_damage(self) -> Damage:
        """Count anew, for a recording or a connection of its own."""
        self._lost += self._damage.lost
        self._damage = Damage()
        return self._damage

    def _follow(self, pictures: Iterable[SeenPicture], what: str, clock: Clock) -> None:
        """Make samples of all pictures; what breaks off is raised after the last good one."""
        broken: list[Exception] = []

        def good() -> Iterator[SeenPicture]:
            try:
                yield from self._watched(pictures, what, clock)
            except Exception as error:
                broken.append(error)

        boxes = self._task.settings.boxes
        reader = None if boxes is None else BoxesFile(boxes, self._dt)
        try:
            for _, run in groupby(good(), key=lambda picture: picture.run):
                self._sample(run, reader)
        finally:
            if reader is not None:
                reader.close()
            # PyAV's frames and their side data hold each other, and one frame its decoder's pool.
            gc.collect()
        if broken:
            raise broken[0]

    def _watched(
        self, pictures: Iterable[SeenPicture], what: str, clock: Clock
    ) -> Iterator[SeenPicture]:
        boxes = self._task.settings.boxes
        annotator = self.annotator
        reader = None if annotator is None or boxes is None else BoxesFile(boxes, self._dt)
        try:
            for picture in pictures:
                if self._stop.is_set():
                    raise _Stopped
                self._beat = time.monotonic()
                self._frames += 1
                self._open(picture, what, clock)
                if annotator is not None:
                    annotator.add(picture, {} if reader is None else reader.at(picture.time))
                yield picture
                end = max(self._resume.media_end, picture.seen + self._dt)
                self._resume = replace(self._resume, media_end=end)
        finally:
            if reader is not None:
                reader.close()

    def _open(self, picture: SeenPicture, what: str, clock: Clock) -> None:
        size = picture.picture.size
        if self._shown == (what, size, clock):
            return
        if self._shown is None and self._task.source.is_live:
            self._connections += 1
        self._shown = (what, size, clock)
        self.queue.tell(Opened(what, size[1], size[0], clock))

    def _sample(self, run: Iterable[SeenPicture], boxes: BoxesFile | None) -> None:
        # Two more than any index before: a new run never seems to go on from an old one.
        base = self._resume.index + 2
        converted: SeenPicture | None = None
        frame: Frame | None = None
        for item in sample_grid(run, self._dt):
            if isinstance(item, Gap):
                self._gaps += item.count
                continue
            seen = item.frame
            if frame is None or seen is not converted:
                converted, frame = seen, seen.picture.frame()
            index = base + item.index
            prepared = self._preparer.prepare(
                Sample(index, item.time, frame), None if boxes is None else boxes.at(item.time)
            )
            self._samples += 1
            self._resume = replace(self._resume, index=index)
            self._waits = True
            put = self.queue.put(
                replace(prepared, time=seen.seen + (item.time - seen.time)), seen.arrived
            )
            self._beat = time.monotonic()
            self._waits = False
            if not put:
                raise _Stopped

    def _wait(self, seconds: float) -> None:
        if seconds > 0:
            self._waits = True
            self._stop.wait(seconds)
            self._waits = False
            self._beat = time.monotonic()
        if self._stop.is_set():
            raise _Stopped

    def _by_proxy(self) -> str:
        parts = urlsplit(self._task.source.location)
        # FFmpeg looks at this one for https as well, and at none for the rest.
        variables = ("http_proxy",) if parts.scheme in ("http", "https") else ()
        return by_proxy(parts.hostname or "", variables)

    def _cause(self, error: Exception) -> str:
        if isinstance(error, VideoError):
            said = error.cause
        elif isinstance(error, FgmclipError):
            said = str(error)
        else:
            said = f"unexpected {type(error).__name__}: {error}"
        return one_line(self._secrets.redact(said))[:400]
