"""Camera, Triton, broker and gateway killed with kill -9, each in turn: is an event lost?

Run as `python bench/outages.py`. A real RTSP camera (GStreamer's server playing generated actions),
a real Triton (`fgmclip serve` of the demo), a real mosquitto and `fgmclip watch` in processes of
their own; a subscriber of the broker counts what arrives. After each kill the part is down for some
seconds, is started again, and the time until the next event arrives is taken. What the gateway had
accepted is read from its own output and, while it is dead, from its outbox. Then it is left alone
for ten minutes (`--quick`: one), and its memory, workers included, is watched. Needs GStreamer's
RTSP server with Python's bindings and mosquitto. Prints tables; `--json FILE` writes everything.
Exit code 0 when every bar is reached, else 3.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from fgmclip.bench.bars import Bar, run_bench
from fgmclip.bench.camera_video import Shot, camera_video, looped
from fgmclip.bench.machine import describe_machine
from fgmclip.bench.rig import Part, Subscriber, broker, gateway, triton
from fgmclip.bench.rtsp_camera import RtspCamera, find_gstreamer, free_port
from fgmclip.client.events.event import Event
from fgmclip.client.events.outbox import Outbox
from fgmclip.command import run_command
from fgmclip.export.demo import demo_repository
from fgmclip.spec import FgmclipError

ACTIONS = ("walk_left", "walk_right", "sit_down", "stand_up")
"""What the camera shows, in turn, 2 s each."""

WATCH_SECONDS = 40.0
"""Until what was named is compared with what was shown."""

WINDOW_SECONDS = 0.875
"""From the demo's first sample to its first decision."""

CLOCK_SECONDS = 0.5
"""How well the start of the camera's video is known: its times come from when frames arrive, and
the first ones arrive late."""

STEADY_SECONDS, DOWN_SECONDS, RECOVERY_SECONDS = 20.0, 8.0, 60.0

MEMORY_PERCENT = 5.0
"""What memory may grow by while nothing happens."""

SETTLE_SECONDS = 60.0
"""Until memory is looked at: caches fill."""

OUTBOX_LIMIT_MB = 16


@dataclass(frozen=True, slots=True)
class Outage:
    """One part, killed and started again.

    Attributes:
        part: Its name.
        down_seconds: How long it was gone.
        recovery_seconds: From its return to the next event at the subscriber.
        accepted: Messages accepted by the gateway from the start up to the next outage.
        lost: Those of them that did not arrive by then.
        repeated: Messages that arrived again, all with an id that had come before.
    """

    part: str
    down_seconds: float
    recovery_seconds: float
    accepted: int
    lost: int
    repeated: int


def main(argv: Sequence[str] | None = None) -> int:
    """Run the bench and return the exit status."""
    arguments = _parse(argv)
    missing = find_gstreamer()
    if missing is not None:
        Console(stderr=True).print(f"error: {missing}", style="red")
        return 2
    return run_bench(arguments, _run, lambda figures: [_table(figures)])


def _run(arguments: argparse.Namespace, console: Console) -> tuple[dict[str, Any], list[Bar]]:
    quiet_seconds = 60.0 if arguments.quick else 600.0
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fgmclip-outages-")))
        with console.status("drawing the camera's video"):
            shots = camera_video(folder / "once.mp4", seconds=60, actions=ACTIONS)
            looped(folder / "once.mp4", folder / "camera.mp4", times=40)
        camera = RtspCamera(folder / "camera.mp4", login=("viewer", "not-to-be-seen"))
        grpc_port, mqtt_port, web_port = (free_port() for _ in range(3))
        parts = {
            "Triton": triton(demo_repository(), grpc_port, folder),
            "broker": broker(mqtt_port, folder),
            "gateway": gateway(_config(camera, grpc_port, mqtt_port, web_port, folder), folder),
        }
        with console.status("starting everything") as status:
            stack.enter_context(camera)
            for name in ("Triton", "broker"):
                stack.enter_context(parts[name])
            subscriber = Subscriber(mqtt_port)
            stack.callback(subscriber.close)
            stack.enter_context(parts["gateway"])
            ledger = _Ledger(folder, subscriber)
            if np.isnan(subscriber.wait(lambda: bool(subscriber.seen), RECOVERY_SECONDS)):
                log = (folder / "gateway.log").read_text(encoding="utf-8", errors="replace")[-2000:]
                raise FgmclipError(f"expected events in {RECOVERY_SECONDS:g} s, got none: {log}")
            status.update("watching")
            began = _first_decision(web_port) - WINDOW_SECONDS
            time.sleep(WATCH_SECONDS)
            named, shown = _named(shots, began, subscriber)
            outages = []
            kills: list[tuple[str, Callable[[], None], Callable[[], None]]] = [
                ("camera", camera.kill, camera.start),
                *((name, part.kill, part.start) for name, part in parts.items()),
            ]
            for name, kill, start in kills:
                status.update(f"{name}: before its end")
                time.sleep(STEADY_SECONDS)
                outages.append(_outage(name, kill, start, ledger, status.update))
            status.update("memory: settling")
            time.sleep(SETTLE_SECONDS)
            memory = _memory(parts["gateway"], quiet_seconds, status.update)
            status.update("ending")
            exit_code = parts["gateway"].stop()
            time.sleep(2.0)
            final = ledger.close("end", 0.0, 0.0)
        secret = "not-to-be-seen" in (folder / "gateway.log").read_text(
            encoding="utf-8", errors="replace"
        )
    growth = 100 * (memory[1] / memory[0] - 1)
    figures = {
        "machine": describe_machine() | {"load after": f"{os.getloadavg()[0]:.2f}"},
        "outages": [asdict(outage) for outage in outages],
        "events": len(subscriber.opened),
        "actions_shown": shown,
        "actions_named": named,
        "messages": len(subscriber.seen),
        "accepted": final.accepted,
        "lost": final.lost,
        "repeated": final.repeated,
        "memory_first_mib": memory[0] / 2**20,
        "memory_last_mib": memory[1] / 2**20,
        "memory_seconds": quiet_seconds,
        "memory_growth_percent": growth,
        "exit_code": exit_code,
        "secret_in_log": secret,
    }
    bars = [
        Bar("accepted messages lost", 0, final.lost, detail=f"of {final.accepted}"),
        Bar("recovered after each outage", len(kills), _recovered(outages), at_least=True),
        Bar(
            "actions shown that an event named",
            90,
            100 * named / max(1, shown),
            at_least=True,
            unit=" %",
            detail=f"{named} of {shown} before the first outage",
        ),
        Bar(
            f"memory after {quiet_seconds / 60:.0f} min",
            MEMORY_PERCENT,
            growth,
            unit=" %",
            detail=f"{memory[0] / 2**20:.1f} to {memory[1] / 2**20:.1f} MiB",
        ),
        Bar("the camera's password in the log", 0, float(secret)),
        Bar("exit status after SIGTERM", 0, exit_code),
    ]
    return figures, bars


class _Ledger:
    """What was accepted, and what of it arrived."""

    def __init__(self, folder: Path, subscriber: Subscriber) -> None:
        self._folder = folder
        self._subscriber = subscriber
        self._accepted: set[str] = set()

    def read_outbox(self) -> None:
        """Take in what waits in the outbox of a gateway that is not running."""
        outbox = Outbox(self._folder / "outbox.sqlite", OUTBOX_LIMIT_MB * 2**20, ["mqtt"])
        try:
            self._add(message.event for message in outbox.pending("mqtt", 10**6))
        finally:
            outbox.close()

    def close(self, part: str, down: float, recovery: float) -> Outage:
        """Return how things stand, once what was accepted has had time to arrive."""
        accepted: list[Event] = []
        for line in (
            (self._folder / "gateway.log")
            .read_text(encoding="utf-8", errors="replace")
            .splitlines()
        ):
            if '"message_id"' in line and line.startswith('{"message_id"'):
                # The last line of a process that was killed may be cut short.
                try:
                    accepted.append(Event.from_json(json.loads(line)))
                except json.JSONDecodeError:
                    continue
        self._add(accepted)
        seen = self._subscriber.seen
        self._subscriber.wait(lambda: not self._accepted - seen.keys(), 10.0)
        return Outage(
            part,
            down,
            recovery,
            len(self._accepted),
            len(self._accepted - seen.keys()),
            sum(seen.values()) - len(seen),
        )

    def _add(self, events: Any) -> None:
        self._accepted |= {event.message_id for event in events}


def _outage(
    name: str,
    kill: Callable[[], None],
    start: Callable[[], None],
    ledger: _Ledger,
    say: Callable[[str], None],
) -> Outage:
    subscriber = ledger._subscriber
    say(f"{name}: killed")
    killed = time.monotonic()
    kill()
    time.sleep(DOWN_SECONDS)
    if name == "gateway":
        ledger.read_outbox()
    say(f"{name}: coming back")
    start()
    returned = time.monotonic()
    recovery = subscriber.wait(lambda: subscriber.latest > returned, RECOVERY_SECONDS)
    return ledger.close(name, returned - killed, recovery)


def _memory(part: Part, seconds: float, say: Callable[[str], None]) -> tuple[float, float]:
    """Return the medians of the first and the last tenth of a time in which nothing happens."""
    started, sizes = time.monotonic(), []
    while (passed := time.monotonic() - started) < seconds:
        sizes.append(part.memory_bytes())
        say(f"memory: {sizes[-1] / 2**20:.0f} MiB, {passed:.0f} of {seconds:.0f} s")
        time.sleep(1.0)
    tenth = max(1, len(sizes) // 10)
    return float(np.median(sizes[:tenth])), float(np.median(sizes[-tenth:]))


def _recovered(outages: Sequence[Outage]) -> int:
    return sum(not np.isnan(outage.recovery_seconds) for outage in outages)


def _first_decision(port: int) -> float:
    """Return the Unix seconds of the camera's first decision, from the live page."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/state", timeout=10) as answer:
        (camera,) = json.load(answer)["cameras"]
    return float(camera["history"][0]["time"])


def _named(shots: Sequence[Shot], began: float, subscriber: Subscriber) -> tuple[int, int]:
    """Return how many of the actions that were shown so far an event named, and how many those are.

    An event names an action if it begins while that is seen, as far as the clocks can tell.
    """
    past = time.time() - began - 2 * WINDOW_SECONDS
    shown = [shot for shot in shots if shot.end < past]
    events = list(subscriber.opened.values())
    named = sum(
        any(
            label == shot.label
            and shot.start - CLOCK_SECONDS <= start - began <= shot.end + CLOCK_SECONDS
            for label, start in events
        )
        for shot in shown
    )
    return named, len(shown)


def _config(
    camera: RtspCamera, grpc_port: int, mqtt_port: int, web_port: int, folder: Path
) -> dict[str, Any]:
    rule = {"start": 0.6, "keep": 0.4, "min_seconds": 0.1, "release_seconds": 0.2}
    return {
        "servers": {"urls": [f"127.0.0.1:{grpc_port}"], "decision_seconds": 5},
        "cameras": [{"name": "door", "source": camera.address, "stall_seconds": 5}],
        "events": {"default": rule},
        "outbox": {"path": str(folder / "outbox.sqlite"), "limit_mb": OUTBOX_LIMIT_MB},
        "sinks": {"mqtt": {"url": f"mqtt://127.0.0.1:{mqtt_port}"}},
        "web": {"port": web_port},
    }


def _table(figures: dict[str, Any]) -> Table:
    table = Table(title="Outages", title_justify="left")
    for heading in (
        "killed with kill -9",
        "down, s",
        "back to events, s",
        "accepted so far",
        "lost",
        "repeated, by id",
    ):
        table.add_column(heading, justify="left" if "kill" in heading else "right")
    for outage in figures["outages"]:
        table.add_row(
            outage["part"],
            f"{outage['down_seconds']:.1f}",
            f"{outage['recovery_seconds']:.1f}",
            str(outage["accepted"]),
            str(outage["lost"]),
            str(outage["repeated"]),
        )
    return table


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--quick", action="store_true", help="watch the memory for one minute")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(run_command(main))
