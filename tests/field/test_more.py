"""More of what people and networks do to such systems: one test a kind, with the right value."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from fgmclip.cli import main
from fgmclip.client import transport
from fgmclip.client.errors import ClientError, RefusedError
from fgmclip.client.gateway.board import Board
from fgmclip.client.gateway.config import ConfigError, read_config
from fgmclip.client.timeouts import Timeouts
from fgmclip.client.transport import GrpcTransport
from fgmclip.client.web import http
from fgmclip.client.web.page import LivePage
from fgmclip.command import make_console
from fgmclip.spec import preset
from fgmclip.training.dataset import read_dataset, with_classes
from fgmclip.training.errors import DatasetError

ESCAPES = "v\x1b]0;title\x07\x1b[2J.mp4"
"""A file's name that sets a terminal's title and clears it."""


@pytest.mark.parametrize(
    "arguments",
    [
        ("serve", ESCAPES),
        ("repo", "lint", ESCAPES),
        ("repo", "activate", ".", "1"),
        ("watch", "--config", ESCAPES),
        ("train", ESCAPES, "--out", ESCAPES),
    ],
)
def test_no_command_hands_a_terminal_the_escape_sequences_of_a_name(
    arguments: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    here = tmp_path / ESCAPES
    here.mkdir()
    monkeypatch.chdir(here)
    assert main(list(arguments)) in (1, 2)
    out, err = capfd.readouterr()
    assert "\x1b" not in out + err
    assert "\x07" not in out + err


def test_what_is_printed_shows_escape_sequences_and_keeps_its_lines(
    capsys: pytest.CaptureFixture[str],
) -> None:
    make_console().print(f"one {ESCAPES}\ntwo", markup=False, highlight=False)
    assert capsys.readouterr().out == "one v\\x1b]0;title\\x1b[2J.mp4\ntwo\n"


BOMB = "x0: &a0 {a: lol, b: lol}\n" + "".join(
    f"x{n}: &a{n} {{a: *a{n - 1}, b: *a{n - 1}, c: *a{n - 1}, d: *a{n - 1}}}\n"
    for n in range(1, 30)
)
MERGES = "x0: &a0 {a: lol}\n" + "".join(
    f"x{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}, *a{n - 1}, *a{n - 1}]}}\n" for n in range(1, 30)
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BOMB, "aliases"),
        (MERGES, "aliases"),
        ("cameras: &a [*a]", "aliases"),
        ("cameras: " + "[" * 1500 + "]" * 1500, "levels"),
        ("cameras: !!python/object/apply:os.system [id]", "constructor"),
    ],
    ids=["bomb", "merges", "itself", "deep", "code"],
)
def test_a_configuration_that_is_a_bomb_is_refused_in_one_line(
    text: str, said: str, tmp_path: Path
) -> None:
    file = tmp_path / "watch.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=said) as refusal:
        read_config(file)
    assert "\n" not in str(refusal.value)


def test_aliases_as_people_write_them_are_read(tmp_path: Path) -> None:
    file = tmp_path / "watch.yaml"
    file.write_text("a: &a {b: c}\nd: *a\ne: {<<: *a, f: g}\n", encoding="utf-8")
    assert read_config(file) == {"a": {"b": "c"}, "d": {"b": "c"}, "e": {"b": "c", "f": "g"}}


@pytest.mark.parametrize("start", [b"GET /x HT", b"POST /x HTTP/1.1\r\nHost: a\r\n", b"\r\n"])
def test_requests_that_never_end_do_not_keep_the_live_page_from_others(
    start: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "SILENT_SECONDS", 0.5)
    monkeypatch.setattr(http, "MOST_CONNECTIONS", 4)
    page = LivePage(Board(), 0)
    port = int(page.start().rpartition(":")[2].strip("/"))
    slow = [socket.create_connection(("127.0.0.1", port)) for _ in range(4)]
    try:
        for connection in slow:
            connection.sendall(start)
        until = time.monotonic() + 15.0
        while not _is_answered(port):
            assert time.monotonic() < until
            for connection in slow:
                with suppress(OSError):
                    connection.sendall(b"a")
            time.sleep(0.05)
    finally:
        for connection in slow:
            connection.close()
        page.stop()


def _is_answered(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5.0) as asking:
        asking.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return asking.recv(100).startswith(b"HTTP/1.1 200")
    return False


class _Server(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """Answers what a client asks first."""

    def ServerMetadata(self, request: object, context: object) -> object:  # noqa: N802
        return service_pb2.ServerMetadataResponse(name="triton", version="2.60.0")

    def ModelConfig(self, request: object, context: object) -> object:  # noqa: N802
        return service_pb2.ModelConfigResponse()

    def ModelInfer(self, request: object, context: object) -> object:  # noqa: N802
        raise AssertionError("too large to come here")


@pytest.fixture
def port() -> Iterator[int]:
    server = grpc.server(ThreadPoolExecutor(4))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(_Server(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield port
    server.stop(None).wait()


@contextmanager
def _forgetful_router(port: int) -> Iterator[tuple[int, threading.Event]]:
    """Forward connections; once told to forget, swallow what comes on those that there were."""
    forgets = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))
    ends: list[socket.socket] = [listener]

    def pump(source: socket.socket, sink: socket.socket, old: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if not (old and forgets.is_set()):
                    sink.sendall(data)

    def accept() -> None:
        with suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(("127.0.0.1", port))
                ends.extend((near, far))
                old = not forgets.is_set()
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=pump, args=(*pair, old), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield int(listener.getsockname()[1]), forgets
    finally:
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


def test_a_connection_that_a_router_forgot_is_replaced(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "KEEPALIVE_SECONDS", 0.5)
    monkeypatch.setattr(transport, "DEAD_SECONDS", 0.5)
    with _forgetful_router(port) as (way, forgets):
        client = GrpcTransport(f"127.0.0.1:{way}", Timeouts(connect_seconds=2.0))
        assert client.model_parameters("m", timeout_seconds=5.0) == {}
        forgets.set()
        until = time.monotonic() + 40.0
        while True:
            try:
                assert client.model_parameters("m", timeout_seconds=10.0) == {}
                break
            except ClientError:
                assert time.monotonic() < until
        client.close()


def test_a_request_beyond_the_limit_of_a_proxy_is_refused_with_a_remedy(port: int) -> None:
    client = GrpcTransport(f"127.0.0.1:{port}")
    frames = {"FRAMES": np.zeros((9, 480, 640, 3), np.uint8)}
    with pytest.raises(RefusedError, match=r"4194304.*raise its limit.*or send smaller frames"):
        client.infer("m", frames, ("Y",), timeout_seconds=10.0)
    client.close()


def test_a_video_has_one_label_and_one_group(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).touch()
    table = tmp_path / "videos.csv"

    def read(*lines: str) -> int:
        table.write_text("path,label,group\n" + "\n".join(lines), encoding="utf-8")
        return len(read_dataset(table).videos)

    with pytest.raises(DatasetError, match=r"line 4 gives a\.mp4 another label than line 2"):
        read("a.mp4,wave,1", "b.mp4,clap,2", "a.mp4,clap,1")
    with pytest.raises(DatasetError, match=r"line 3 gives \./a\.mp4 another group than line 2"):
        read("a.mp4,wave,1", "./a.mp4,wave,2")
    # Twice the same is twice the weight.
    assert read("a.mp4,wave,1", "a.mp4,wave,1", "b.mp4,clap,2") == 3


def test_one_label_is_nothing_to_tell_apart() -> None:
    with pytest.raises(DatasetError, match="at least two labels, got one: wave"):
        with_classes(preset("demo"), ("wave",))
