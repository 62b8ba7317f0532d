"""`CameraLoop`: the thread of one camera."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from fgmclip.client.action import ActionClient
from fgmclip.client.errors import (
    ClientError,
    ConnectError,
    ManifestError,
    OverloadedError,
    RefusedError,
    RequestTimeoutError,
    TagMismatchError,
)
from fgmclip.client.gateway.board import CameraBoard
from fgmclip.client.gateway.deciding import Deciding
from fgmclip.client.gateway.messages import (
    Counts,
    Damaged,
    Ended,
    Lost,
    Message,
    Opened,
    Samples,
    Waiting,
)
from fgmclip.client.gateway.services import Services
from fgmclip.client.gateway.settings import CameraSettings
from fgmclip.client.gateway.sources import parse_source
from fgmclip.client.gateway.worker import CameraWorker
from fgmclip.client.timeouts import Timeouts
from fgmclip.spec import PublicManifest

log = logging.getLogger(__name__)

WAIT_SECONDS = 0.5
"""How long a worker may wait for a sample until it says that none came."""

RETRY_SECONDS = 2.0
"""Between two attempts of a decision that all the pool's own retries did not bring about."""


class CameraLoop(threading.Thread):
    """Asks a worker process for samples and a server for decisions, in turn.

    Attributes:
        settings: The camera's.
        cause: Why it ended, if not at the end of its source or because it was told to.
    """

    def __init__(self, settings: CameraSettings, services: Services, board: CameraBoard) -> None:
        """Take over what it needs; `start` starts it."""
        super().__init__(name=f"camera {settings.name}", daemon=True)
        self.settings = settings
        self.cause: str | None = None
        self._services = services
        self._board = board
        self._stopping = threading.Event()
        source = parse_source(settings)
        self._patient = (settings.policy or source.default_policy) == "block"
        self._client = ActionClient(
            services.servers.urls[0],
            timeouts=Timeouts(request_seconds=services.servers.request_seconds),
            transport=services.pool.transport(settings.name),
        )

    def stop(self) -> None:
        """Ask it to end: what was captured is still decided, open events are interrupted."""
        self._stopping.set()

    def run(self) -> None:
        """Watch until the source ends or `stop` is called; no failure goes further than here."""
        try:
            while (manifest := self._manifest()) is not None:
                if self._watch(manifest):
                    return
        except Exception as error:
            # A fault of ours must not be silent, nor take the other cameras with it.
            log.exception("camera failed", extra={"camera": self.settings.name})
            self._end(f"unexpected {type(error).__name__}: {error}")

    def _manifest(self) -> PublicManifest | None:
        """Return what the servers publish, however long it takes; None where asked to stop."""
        while not self._stopping.is_set():
            try:
                return self._client.manifest
            except ClientError as error:
                self._failed(error)
                self._stopping.wait(RETRY_SECONDS)
        return None

    def _watch(self, manifest: PublicManifest) -> bool:
        """Run one worker; return whether the camera has ended, else it takes a new one."""
        self._services.met(manifest)
        worker = CameraWorker(self.settings, manifest.spec)
        deciding = Deciding(
            self.settings,
            self._services,
            self._client,
            self._board,
            worker.show,
            live=worker.source.is_live,
        )
        worker.start()
        try:
            while not self._stopping.is_set():
                message = worker.next(WAIT_SECONDS)
                refused: RefusedError | None = None
                try:
                    if not self._take(deciding, message):
                        return True
                except RefusedError as error:
                    refused = error
                if deciding.outdated:
                    deciding.end(interrupted=True)
                    return False
                if self._client.manifest != manifest:
                    manifest = self._client.manifest
                    self._services.met(manifest)
                if refused is not None and self._patient:
                    # It would be refused again and again.
                    deciding.end(interrupted=True)
                    self._end(str(refused))
                    return True
            if self._finish(worker, deciding):
                deciding.end(interrupted=True)
                self._end(None)
            return True
        finally:
            worker.stop()

    def _finish(self, worker: CameraWorker, deciding: Deciding) -> bool:
        """Decide on what was captured so far; return whether the source could go on.

        The first decision that fails ends it: servers that are out are not waited for again and
        again.
        """
        told = time.time()
        while True:
            message = worker.next(0.0)
            if isinstance(message, Waiting):
                return True
            if not isinstance(message, Samples):
                if not self._take(deciding, message):
                    return False
                continue
            self._board.counted(message.counts)
            try:
                deciding.advance(message)
            except ClientError as error:
                self._failed(error)
                return True
            # A source goes on meanwhile: a long recording would be decoded to its end.
            if message.captured > told:
                return True

    def _take(self, deciding: Deciding, message: Message) -> bool:
        """Act on what a worker says; return whether more will follow."""
        match message:
            case Opened():
                self._board.opened(message.what, message.width, message.height, message.clock)
                deciding.opened(message.clock)
            case Samples():
                self._board.counted(message.counts)
                self._decide(deciding, message)
            case Waiting():
                self._board.counted(message.counts)
                deciding.wait()
            case Lost():
                self._board.became("reconnecting", message.cause)
                self._warn("source lost: %s", message.cause)
                deciding.wait()
            case Damaged():
                self._warn("damaged recording %s", f"{message.what}: {message.cause}")
            case Ended():
                self._board.counted(message.counts)
                deciding.end(interrupted=message.cause is not None)
                self._end(message.cause)
                if message.cause is None and not deciding.decisions:
                    self._explain(message.counts)
                return False
        return True

    def _decide(self, deciding: Deciding, message: Samples) -> None:
        """Decide on samples; where nothing may be dropped, go on until a server has decided.

        Raises:
            RefusedError: The server does not take them.
        """
        attempt: Callable[[], None] = lambda: deciding.advance(message)  # noqa: E731
        while True:
            try:
                attempt()
                return
            except ClientError as error:
                self._failed(error)
                if not self._patient:
                    # Samples come, but for events it is as if none did.
                    deciding.wait()
                # Servers that are changing over to another release soon agree with their manifest.
                if isinstance(error, RefusedError) and not isinstance(error, TagMismatchError):
                    raise
            if not self._patient or self._stopping.wait(RETRY_SECONDS):
                return
            attempt = deciding.decide

    def _end(self, cause: str | None) -> None:
        self.cause = cause
        self._board.became("ended" if cause is None else "failed", cause or "")
        if cause is not None:
            self._warn("camera ended: %s", cause)

    def _explain(self, counts: Counts) -> None:
        """Say why a recording came to its end without one decision."""
        clip = self._client.manifest.spec.clip
        cause = (
            f"no decision: expected {clip.frames} samples one after another, {clip.dt:g} s apart, "
            f"got {counts.samples} in all and {counts.gaps} without a frame"
        )
        self._board.became("ended", cause)
        self._warn("%s", cause)

    def _failed(self, error: ClientError) -> None:
        self._board.failed_request(_kind(error))
        self._board.became("stalled", str(error))
        self._warn("no decision: %s", error)

    def _warn(self, message: str, what: object) -> None:
        log.warning(message, what, extra={"camera": self.settings.name})


def _kind(error: ClientError) -> str:
    kinds: dict[type[ClientError], str] = {
        OverloadedError: "overloaded",
        ConnectError: "unreachable",
        RequestTimeoutError: "timeout",
        RefusedError: "refused",
        ManifestError: "manifest",
    }
    return next((name for kind, name in kinds.items() if isinstance(error, kind)), "failed")
