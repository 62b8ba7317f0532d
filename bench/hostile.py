"""Thirty hostile or odd sources beside good cameras: do the good ones keep their rate?

Run as `python bench/hostile.py`. Good cameras run alone first, then the same ones beside files that
are damaged, cut short, empty, huge, tiny, no video at all, and addresses that nobody answers, that
never say a word, that send garbage or that do not exist, all in one gateway on the same cores.
Files of `FGMCLIP_TEST_DATA/hostile` are among them where that is. Prints tables; `--json FILE`
writes everything. Exit code 0 when every bar is reached, else 3.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from rich.console import Console
from rich.table import Table

from fgmclip.bench.bars import Bar, run_bench
from fgmclip.bench.camera_video import camera_video
from fgmclip.bench.cameras import CAMERA, camera_rows, wait_until_live
from fgmclip.bench.machine import describe_machine
from fgmclip.client.gateway.board import Board
from fgmclip.client.gateway.config import check_config
from fgmclip.client.gateway.gateway import Gateway
from fgmclip.command import run_command
from fgmclip.export.demo import demo_repository
from fgmclip.serve import EmbeddedServer

GOOD = 4
HOSTILE = 30

RATE_PERCENT = 98.0
"""What a good camera keeps of its decisions a second."""

HEAD_BYTES = 20_000
"""What is spared of a file in which damage is to be met on the way."""

WARM_UP_SECONDS, SECONDS, QUICK_SECONDS = 5.0, 40.0, 12.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the bench and return the exit status."""
    return run_bench(_parse(argv), _run, _tables)


def _run(arguments: argparse.Namespace, console: Console) -> tuple[dict[str, Any], list[Bar]]:
    seconds = QUICK_SECONDS if arguments.quick else SECONDS
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        video = folder / "camera.mp4"
        with console.status("drawing the cameras' video"):
            camera_video(video, seconds=3 * seconds + 30)
        status = stack.enter_context(console.status("starting Triton"))
        server = stack.enter_context(EmbeddedServer(demo_repository()))
        good = [{"name": f"good{number}", "source": str(video)} | CAMERA for number in range(GOOD)]
        data = Path(os.environ.get("FGMCLIP_TEST_DATA", "../shared/data")) / "hostile"
        more = data if data.is_dir() else None
        hostile = stack.enter_context(hostile_sources(folder, more))
        bad = [{"name": f"bad{number}", "source": one} for number, one in enumerate(hostile)]
        runs = {}
        for name, cameras in (("alone", good), ("beside them", good + bad)):
            status.update(f"good cameras {name}")
            fields = {
                "servers": {"urls": [server.url]},
                "cameras": cameras,
                "outbox": {"path": str(folder / f"outbox-{len(cameras)}.sqlite")},
            }
            with Gateway(check_config(fields, "bench"), Board(), report=lambda _: None) as gateway:
                # From the start: the moment when all sources open is the worst.
                wait_until_live(gateway, [camera["name"] for camera in good])
                time.sleep(WARM_UP_SECONDS)
                runs[name] = camera_rows(gateway, [camera["name"] for camera in good], seconds)
                states = {one.name: one for one in gateway.board.snapshot().cameras}
        fates = [
            {
                "source": Path(source).name if "://" not in source else source.partition("//")[0],
                "state": states[f"bad{number}"].state,
                "cause": states[f"bad{number}"].cause.replace(f"{folder}/", ""),
                "decisions": states[f"bad{number}"].decisions,
            }
            for number, source in enumerate(hostile)
        ]
    rates = [
        100 * beside["decisions_per_second"] / alone["decisions_per_second"]
        for alone, beside in zip(runs["alone"], runs["beside them"], strict=True)
    ]
    figures = {
        "machine": describe_machine() | {"load after": f"{os.getloadavg()[0]:.2f}"},
        "hostile": fates,
        "good": runs,
        "seconds": seconds,
    }
    return figures, [
        Bar("hostile or odd sources", HOSTILE, len(fates), at_least=True),
        Bar(
            "decisions a second kept, least of a good camera", RATE_PERCENT, min(rates), True, " %"
        ),
        Bar(
            "samples dropped of good cameras",
            0,
            sum(row["dropped"] for row in runs["beside them"]),
        ),
        Bar(
            "hostile sources without a state that says why",
            0,
            sum(fate["state"] in ("starting", "live") for fate in fates),
        ),
    ]


@contextmanager
def hostile_sources(folder: Path, more: Path | None = None) -> Iterator[list[str]]:
    """Yield at least `HOSTILE` sources; their servers run while the block does.

    Args:
        folder: Where to write those that are files.
        more: A folder of further files.
    """
    with ExitStack() as stack:
        sources = [str(path) for path in _files(folder)]
        if more is not None:
            sources += sorted(str(path) for path in more.iterdir())
        silent = stack.enter_context(_listener(b""))
        garbage = stack.enter_context(_listener(b"\x00\xffnot what you asked for\r\n\r\n" * 50))
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            closed = unused.getsockname()[1]
        for scheme in ("rtsp", "http"):
            sources += [
                f"{scheme}://user:secret@127.0.0.1:{port}/live"
                for port in (silent, garbage, closed)
            ]
        sources += ["rtsp://no-such-host.invalid/live", "webcam:9", str(folder / "missing.mp4")]
        sources += ["/dev/zero", "/dev/null"]
        yield sources


def _files(folder: Path) -> list[Path]:
    """Write odd files and return them."""
    random = np.random.default_rng(0)
    good = folder / "good.mp4"
    _video(good, 320, 240, frames=60)
    data = good.read_bytes()
    files = {
        "cut.mp4": data[: len(data) // 2],
        "no-index.mp4": data[: len(data) // 4],
        "holes.mp4": bytes(
            byte if place < HEAD_BYTES or chance > 0.002 else 255
            for place, (byte, chance) in enumerate(zip(data, random.random(len(data)), strict=True))
        ),
        "zeros.mp4": data[: len(data) // 2] + bytes(len(data) // 2),
        "noise.mp4": random.bytes(200_000),
        "noise.ts": b"\x47" + random.bytes(200_000),
        "empty.mp4": b"",
        "text.mp4": b"this is not a video\n" * 1000,
        "list.m3u8": b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n",
        "picture.mp4": b"\x89PNG\r\n\x1a\n" + random.bytes(1000),
        "page.mp4": b"<!DOCTYPE html><title>Sign in to the camera</title>" * 50,
        "concat.txt": b"ffconcat version 1.0\nfile /etc/hostname\n",
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    _video(folder / "tiny.mp4", 16, 16, frames=60)
    _video(folder / "huge.mp4", 7680, 4320, frames=3)
    _video(folder / "slow.mp4", 320, 240, frames=5, rate=1)
    _video(folder / "fast.mp4", 64, 48, frames=480, rate=240)
    (folder / "nothing").mkdir()
    os.mkfifo(folder / "pipe.mp4")
    (folder / "loop.mp4").symlink_to("loop.mp4")
    names = ("tiny.mp4", "huge.mp4", "slow.mp4", "fast.mp4", "nothing", "pipe.mp4", "loop.mp4")
    return [folder / name for name in (*files, *names)]


def _video(path: Path, width: int, height: int, *, frames: int, rate: int = 30) -> None:
    # With the index in front, so that a player finds it in what is left of the file.
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=rate, options={"preset": "ultrafast"})
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        random = np.random.default_rng(1)
        texture = random.integers(0, 255, (height, width, 3), np.uint8)
        for index in range(frames):
            picture = av.VideoFrame.from_ndarray(np.roll(texture, 3 * index, 1), format="rgb24")
            picture.pts, picture.time_base = index, Fraction(1, rate)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))


@contextmanager
def _listener(answer: bytes) -> Iterator[int]:
    """Accept connections and send each an answer, or nothing at all; yields the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        kept: list[socket.socket] = []

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                    connection.sendall(answer)
                except OSError:
                    return
                kept.append(connection)

        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        for connection in kept:
            connection.close()


def _tables(figures: dict[str, Any]) -> list[Table]:
    good = Table(title="Good cameras", title_justify="left")
    for heading in ("camera", "alone: decisions/s", "p95 ms", "beside: decisions/s", "p95 ms"):
        good.add_column(heading, justify="left" if heading == "camera" else "right")
    for alone, beside in zip(*figures["good"].values(), strict=True):
        good.add_row(
            alone["camera"],
            *(
                text
                for row in (alone, beside)
                for text in (
                    f"{row['decisions_per_second']:.2f}",
                    f"{row['latency_p95_ms']:.1f}",
                )
            ),
        )
    odd = Table(title="Hostile and odd sources", title_justify="left")
    for heading in ("source", "state", "decisions", "why"):
        odd.add_column(heading, overflow="fold")
    for fate in figures["hostile"]:
        odd.add_row(fate["source"], fate["state"], str(fate["decisions"]), fate["cause"])
    return [odd, good]


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_SECONDS:.0f} s each")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(run_command(main))
