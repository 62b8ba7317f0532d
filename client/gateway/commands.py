"""Behind `fgmclip watch`: from a command line to a gateway that runs until it is told to end."""

from __future__ import annotations

import json
import logging
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console

from fgmclip.client.errors import ClientError
from fgmclip.client.gateway.board import Board
from fgmclip.client.gateway.config import ConfigError, check_config, hide_secrets, read_config
from fgmclip.client.gateway.console import WatchConsole
from fgmclip.client.gateway.gateway import Gateway
from fgmclip.client.gateway.logs import LogFormat, gateway_logs
from fgmclip.client.gateway.secrets import Secrets, check_command_line
from fgmclip.client.gateway.settings import WatchSettings
from fgmclip.client.gateway.sources import default_name

log = logging.getLogger(__name__)

ONE_END_SECONDS = 0.5
"""A signal to end that comes so soon after the first is the same one: GNU timeout tells its child
and then the whole group."""

_LOOK_SECONDS = 0.25
_ENDING = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True, slots=True)
class WatchArguments:
    """What the command line says beside its sources.

    Attributes:
        config: `watch.yaml`; its cameras come before those of the command line.
        urls: Servers; they replace those of the file.
        web: Port of the live page.
        events: File of JSON lines to append events to.
        annotate: Folder for annotated videos, of the command line's sources.
        start: When their first recording began.
        live: Whether files among them are played in real time.
    """

    config: Path | None = None
    urls: tuple[str, ...] = ()
    web: int | None = None
    events: Path | None = None
    annotate: Path | None = None
    start: str | None = None
    live: bool = False

    @property
    def passing(self) -> bool:
        """Whether nobody waits for events: what is printed is all there is, no outbox stays."""
        return self.config is None and self.events is None


def watch_settings(sources: tuple[str, ...], arguments: WatchArguments) -> WatchSettings:
    """Return checked settings of a command line.

    Raises:
        SettingsError: Nothing to watch, a secret on the command line, or a wrong setting.
    """
    fields: dict[str, Any] = {} if arguments.config is None else read_config(arguments.config)
    cameras = fields.get("cameras") or []
    if sources and isinstance(cameras, list):
        names = {str(camera.get("name")) for camera in cameras if isinstance(camera, dict)}
        for source in sources:
            check_command_line(source)
            name = default_name(source, names)
            names.add(name)
            cameras = [*cameras, _camera(name, source, arguments)]
    if not cameras:
        raise ConfigError("cameras: expected a SOURCE or --config with cameras, got neither")
    fields["cameras"] = cameras
    if arguments.urls:
        servers = fields.get("servers")
        servers = servers if isinstance(servers, dict) else {}
        fields["servers"] = servers | {"urls": list(arguments.urls)}
    if arguments.web is not None:
        fields["web"] = {"port": arguments.web}
    if arguments.events is not None:
        sinks = fields.get("sinks")
        sinks = sinks if isinstance(sinks, dict) else {}
        fields["sinks"] = sinks | {"jsonl": {"path": str(arguments.events)}}
        if arguments.config is None:
            fields["outbox"] = {"path": f"{arguments.events}.outbox"}
    what = "command line" if arguments.config is None else str(arguments.config)
    return check_config(fields, what)


def run_watch(
    sources: tuple[str, ...],
    arguments: WatchArguments,
    *,
    log_format: LogFormat,
    as_json: bool,
    console: Console,
) -> int:
    """Watch until every source has ended or a signal comes; SIGHUP reads a file again.

    Args:
        sources: Files, folders, addresses, webcams.
        arguments: What else the command line says.
        log_format: Text or JSON lines, on standard error.
        as_json: Print events as JSON lines and nothing else on standard output.
        console: Where to print.

    Returns:
        The exit code: 0, or 1 if any camera failed.

    Raises:
        SettingsError: A setting has no meaning.
        OutboxError: The outbox cannot be had.
    """
    settings = watch_settings(sources, arguments)
    secrets, wanted = Secrets(), _Signals()
    hide_secrets(settings, secrets)
    with ExitStack() as stack:
        stack.enter_context(gateway_logs(log_format, hide=secrets.redact))
        stack.enter_context(wanted.caught(reloads=arguments.config is not None))
        if arguments.passing:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="fgmclip-watch-"))
            outbox = settings.outbox.replace(path=Path(folder) / "outbox.sqlite")
            settings = settings.replace(outbox=outbox)
        board = Board()
        watching = stack.enter_context(WatchConsole(board, console, as_json=as_json))
        gateway = stack.enter_context(Gateway(settings, board, report=watching.event))
        if gateway.page_url is not None and not as_json:
            console.print(f"live page: {gateway.page_url}", highlight=False)
        while not wanted.end.is_set() and not gateway.wait(_LOOK_SECONDS):
            if wanted.reload.is_set():
                wanted.reload.clear()
                _reload(gateway, sources, arguments, secrets)
        failed = gateway.failed
    return 1 if failed else 0


def schema() -> str:
    """Return the JSON schema of `watch.yaml`."""
    return json.dumps(WatchSettings.model_json_schema(), indent=2)


def _camera(name: str, source: str, arguments: WatchArguments) -> dict[str, Any]:
    fields: dict[str, Any] = {"name": name, "source": source}
    if arguments.annotate is not None:
        fields["annotate"] = str(arguments.annotate / f"{name}.mp4")
    if arguments.start is not None:
        fields["start"] = arguments.start
    if arguments.live:
        fields["pace"] = "live"
    return fields


def _reload(
    gateway: Gateway, sources: tuple[str, ...], arguments: WatchArguments, secrets: Secrets
) -> None:
    try:
        settings = watch_settings(sources, arguments)
        hide_secrets(settings, secrets)
        gateway.reload(settings)
    except ClientError as error:
        log.error("not reloaded, the old settings go on: %s", error)
    else:
        log.info("reloaded: %d cameras", len(settings.cameras))


class _Signals:
    """What signals asked for; at a second one to end nothing is waited for."""

    def __init__(self) -> None:
        self.end = threading.Event()
        self.reload = threading.Event()
        self._ended = 0.0

    @contextmanager
    def caught(self, *, reloads: bool) -> Iterator[None]:
        handlers: dict[int, Any] = {number: self._end for number in _ENDING}
        if reloads:
            handlers[signal.SIGHUP] = self._reload
        elif signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            # Without a file it says what it always does: the terminal is gone. nohup ignores it.
            handlers[signal.SIGHUP] = self._hang_up
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _end(self, _number: int, _frame: FrameType | None) -> None:
        if self.end.is_set() and time.monotonic() - self._ended > ONE_END_SECONDS:
            raise KeyboardInterrupt
        self._hang_up(_number, _frame)

    def _hang_up(self, _number: int, _frame: FrameType | None) -> None:
        # However often: a terminal that closes says so by the kernel and by the shell.
        if not self.end.is_set():
            self._ended = time.monotonic()
        self.end.set()

    def _reload(self, _number: int, _frame: FrameType | None) -> None:
        self.reload.set()
