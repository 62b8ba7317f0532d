"""`GrpcTransport` against a real gRPC server that speaks KServe v2."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Event
from time import sleep
from typing import Any

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

from fgmclip.client import (
    ActionClient,
    AsyncGrpcTransport,
    AsyncStreamClient,
    ClientError,
    ConnectError,
    GrpcTransport,
    MockRequest,
    ModelNotFoundError,
    OverloadedError,
    RefusedError,
    RequestTimeoutError,
    ServerError,
    SettingsError,
    StreamDecision,
    StreamSession,
    TagMismatchError,
    Timeouts,
)
from fgmclip.client.pending import MOST, may_cancel
from fgmclip.spec import PublicManifest
from fgmclip.spec.manifest import MANIFEST_PARAMETER

NAMES = {np.dtype("u1"): "UINT8", np.dtype("f4"): "FP32", np.dtype(object): "BYTES"}


def pack_strings(values: NDArray[Any]) -> bytes:
    return b"".join(len(item).to_bytes(4, "little") + item for item in values.reshape(-1))


def unpack_strings(raw: bytes) -> list[bytes]:
    values = []
    while raw:
        end = 4 + int.from_bytes(raw[:4], "little")
        values.append(raw[4:end])
        raw = raw[end:]
    return values


@dataclass
class Servicer(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """The three calls that a client makes, with answers from a fake model."""

    manifest: PublicManifest
    model: Any
    fail: tuple[Any, str] | None = None
    live: bool = True
    release: Event = field(default_factory=Event)
    stall: bool = False
    calls: list[str] = field(default_factory=list)
    left_out: str = ""
    version: str = "2.51.0"
    contexts: list[Any] = field(default_factory=list)
    cancelled: list[bool] = field(default_factory=list)

    def ServerMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.calls.append("ServerMetadata")
        if not self.live:
            self.release.wait(10)
        return service_pb2.ServerMetadataResponse(name="triton", version=self.version)

    def ModelConfig(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.calls.append("ModelConfig")
        config = model_config_pb2.ModelConfig(name=request.name)
        config.parameters[MANIFEST_PARAMETER].string_value = self.manifest.model_dump_json()
        return service_pb2.ModelConfigResponse(config=config)

    def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.calls.append("ModelInfer")
        if self.stall:
            self.contexts.append(context)
            self.release.wait(10)
            self.cancelled.append(not context.is_active())
        if self.fail is not None:
            context.abort(*self.fail)
        inputs: dict[str, NDArray[Any]] = {}
        for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True):
            if tensor.datatype == "BYTES":
                flat: NDArray[Any] = np.array(unpack_strings(raw), dtype=object)
            else:
                flat = np.frombuffer(raw, {"UINT8": "u1", "FP32": "<f4"}[tensor.datatype])
            inputs[tensor.name] = flat.reshape(tuple(tensor.shape))
        wanted = tuple(tensor.name for tensor in request.outputs if tensor.name != self.left_out)
        parameters = {key: item.string_param for key, item in request.parameters.items()}
        try:
            answer = self.model(MockRequest(request.model_name, inputs, wanted, parameters, 0.0))
        except RefusedError as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        response = service_pb2.ModelInferResponse(model_name=request.model_name)
        for name in wanted:
            value = answer[name]
            response.outputs.add(name=name, datatype=NAMES[value.dtype], shape=value.shape)
            packed = pack_strings(value) if value.dtype == object else value.tobytes()
            response.raw_output_contents.append(packed)
        return response


@dataclass
class Running:
    """A servicer and where it listens."""

    servicer: Servicer
    url: str
    server: Any


def start(servicer: Servicer, port: int = 0) -> Running:
    server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.max_receive_message_length", -1)])
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    return Running(servicer, f"127.0.0.1:{port}", server)


@pytest.fixture
def running(manifest: PublicManifest, model: Any) -> Iterator[Running]:
    started = start(Servicer(manifest, model))
    yield started
    started.servicer.release.set()
    started.server.stop(None).wait()


def clip(seed: int = 0, *, frames: int = 9, side: int = 32) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (frames, side, side, 3), dtype=np.uint8)


def eventually(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def ask(transport: GrpcTransport, *, timeout_seconds: float = 20) -> Any:
    return transport.infer(
        "fgm_clip", {"FRAMES": clip()}, ("LOGITS",), timeout_seconds=timeout_seconds
    )


def test_a_clip_and_a_stream_over_grpc(running: Running) -> None:
    samples = clip(frames=11)
    with ActionClient(running.url) as client:
        assert client.manifest.release == 7
        session = StreamSession(client)
        session.push(samples[:9])
        decision = session.push(samples[8:11])
        whole = client.classify_window(samples[2:11])
    np.testing.assert_allclose(decision.logits, whole.logits, atol=1e-4)
    assert decision.embedding.dtype == np.float32


def test_a_foreign_tag_over_grpc(running: Running, manifest: PublicManifest) -> None:
    with ActionClient(running.url) as client:
        session = StreamSession(client)
        session.push(clip())
        running.servicer.model.manifest = manifest.replace(embedding_tag="f" * 16)
        with pytest.raises(TagMismatchError, match=r"HISTORY_TAG: expected f+, got e+"):
            session.push(clip()[:2])


def test_messages_are_not_held_to_grpcs_four_megabytes(running: Running) -> None:
    frames = np.zeros((9, 480, 640, 3), np.uint8)
    assert frames.nbytes > 2 * 4 * 2**20 - 100_000
    with ActionClient(running.url) as client:
        assert client.classify_window(frames).label


def test_threads_share_one_client(running: Running) -> None:
    with ActionClient(running.url) as client:
        alone = [client.classify_window(clip(seed)).logits for seed in range(16)]
        with ThreadPoolExecutor(8) as pool:
            together = list(pool.map(lambda seed: client.classify_window(clip(seed)), range(16)))
    for expected, decision in zip(alone, together, strict=True):
        np.testing.assert_array_equal(decision.logits, expected)
    assert running.servicer.calls.count("ServerMetadata") == 1


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("INVALID_ARGUMENT", RefusedError),
        ("NOT_FOUND", ModelNotFoundError),
        ("UNAVAILABLE", ConnectError),
        ("INTERNAL", ServerError),
        ("UNIMPLEMENTED", ServerError),
        ("UNKNOWN", ServerError),
        ("CANCELLED", ServerError),
        ("RESOURCE_EXHAUSTED", RefusedError),
    ],
)
def test_a_failure_keeps_what_the_server_said(
    running: Running, code: str, expected: type[ClientError]
) -> None:
    running.servicer.fail = (grpc.StatusCode[code], "why it\nfailed")
    transport = GrpcTransport(running.url)
    with pytest.raises(ClientError, match="why it failed") as caught:
        ask(transport)
    assert type(caught.value) is expected
    assert running.url in str(caught.value)
    assert "\n" not in str(caught.value)
    transport.close()


@pytest.mark.parametrize("said", ["Exceeds maximum queue size", "Request timeout expired"])
def test_an_overloaded_server_is_not_taken_for_a_wrong_address(running: Running, said: str) -> None:
    running.servicer.fail = (
        grpc.StatusCode.UNAVAILABLE,
        f"in ensemble 'fgm_clip', [request id: <id_unknown>] {said}",
    )
    transport = GrpcTransport(running.url)
    with pytest.raises(OverloadedError, match=f"{said}; send less") as caught:
        ask(transport)
    assert "HTTP port" not in str(caught.value)
    transport.close()


def test_a_late_answer_is_a_timeout(running: Running) -> None:
    running.servicer.stall = True
    transport = GrpcTransport(running.url)
    with pytest.raises(RequestTimeoutError, match=r"within 0.2 s") as caught:
        ask(transport, timeout_seconds=0.2)
    assert isinstance(caught.value, TimeoutError)
    transport.close()


def test_a_server_that_never_answers_is_found_out_by_the_connect_timeout(running: Running) -> None:
    running.servicer.live = False
    transport = GrpcTransport(running.url, Timeouts(connect_seconds=0.2))
    with pytest.raises(ConnectError, match=r"answered within 0.2 s"):
        ask(transport)
    assert running.servicer.calls == ["ServerMetadata"]
    transport.close()


def test_nothing_listens_there() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    transport = GrpcTransport(f"127.0.0.1:{port}")
    with pytest.raises(
        ConnectError, match=f"no server takes requests at 127.0.0.1:{port}"
    ) as caught:
        ask(transport)
    assert isinstance(caught.value, ConnectionError)
    transport.close()


def test_a_server_that_went_away_is_a_connect_error(running: Running) -> None:
    transport = GrpcTransport(running.url)
    ask(transport)
    running.server.stop(None).wait()
    with pytest.raises(ConnectError):
        ask(transport)
    transport.close()


def test_a_restarted_server_is_found_again(running: Running) -> None:
    transport = GrpcTransport(running.url)
    ask(transport)
    running.server.stop(None).wait()
    with pytest.raises(ConnectError):
        ask(transport)
    again = start(running.servicer, int(running.url.rpartition(":")[2]))
    # The second attempt of gRPC comes after about a second; its own longest wait is two minutes.
    for _ in range(100):
        try:
            ask(transport)
            break
        except ConnectError:
            sleep(0.1)
    else:
        pytest.fail("the server was not found within ten seconds")
    transport.close()
    again.server.stop(None).wait()


def test_an_output_that_is_left_out_is_noticed(running: Running) -> None:
    running.servicer.left_out = "LOGITS"
    transport = GrpcTransport(running.url)
    with pytest.raises(ServerError, match=r"expected outputs LOGITS .* none called LOGITS"):
        ask(transport)
    transport.close()


def test_a_closed_transport_says_so(running: Running) -> None:
    transport = GrpcTransport(running.url)
    transport.close()
    transport.close()
    with pytest.raises(ConnectError, match="was closed; make a new client"):
        ask(transport)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "host",
        "host:",
        ":8001",
        "http://host:8000",
        "host:0",
        "host:70000",
        "a b:1",
        "host:8001/x",
    ],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="expected HOST:PORT"):
        GrpcTransport(url)


@pytest.mark.parametrize(
    "url", ["localhost:8001", "10.0.0.1:1", "[::1]:8001", "a-b.example.org:65535"]
)
def test_what_is_an_address_is_taken(url: str) -> None:
    GrpcTransport(url).close()


async def ask_awaited(transport: AsyncGrpcTransport, *, timeout_seconds: float = 20) -> Any:
    return await transport.infer(
        "fgm_clip", {"FRAMES": clip()}, ("LOGITS",), timeout_seconds=timeout_seconds
    )


def test_asyncio_streams_over_one_channel(running: Running) -> None:
    samples = clip(frames=10)

    async def watch() -> list[StreamDecision]:
        transport = AsyncGrpcTransport(running.url)
        streams = [
            AsyncStreamClient(running.url, transport=transport, edge=e) for e in (True, False)
        ]
        made: list[StreamDecision] = []
        for index, frame in enumerate(samples):
            for results in await asyncio.gather(*(s.push(frame, index / 8) for s in streams)):
                made += [item for item in results if isinstance(item, StreamDecision)]
        await transport.close()
        await transport.close()
        with pytest.raises(ConnectError, match="was closed; make a new client"):
            await ask_awaited(transport)
        return made

    made = asyncio.run(watch())
    assert [item.index for item in made] == [7, 7, 8, 8, 9, 9]
    with ActionClient(running.url) as client:
        whole = client.classify_window(samples[1:10])
    for item in made[-2:]:
        np.testing.assert_allclose(item.decision.logits, whole.logits, atol=1e-5)


def test_asyncio_failures_are_the_same_errors(running: Running) -> None:
    async def ask_all() -> None:
        transport = AsyncGrpcTransport(running.url)
        running.servicer.fail = (grpc.StatusCode.INVALID_ARGUMENT, "why it\nfailed")
        with pytest.raises(RefusedError, match=f"{running.url} refused .* why it failed"):
            await ask_awaited(transport)
        running.servicer.fail = (grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size")
        with pytest.raises(OverloadedError):
            await ask_awaited(transport)
        running.servicer.fail = None
        running.servicer.left_out = "LOGITS"
        with pytest.raises(ServerError, match="none called LOGITS"):
            await ask_awaited(transport)
        running.servicer.stall = True
        with pytest.raises(RequestTimeoutError, match=r"within 0.2 s"):
            await ask_awaited(transport, timeout_seconds=0.2)
        running.servicer.release.set()
        await transport.close()
        running.servicer.release.clear()
        running.servicer.live = False
        transport = AsyncGrpcTransport(running.url, Timeouts(connect_seconds=0.2))
        with pytest.raises(ConnectError, match=r"answered within 0.2 s"):
            await ask_awaited(transport)
        await transport.close()

    asyncio.run(ask_all())


def test_asyncio_refuses_what_is_no_address() -> None:
    with pytest.raises(SettingsError, match="expected HOST:PORT"):
        AsyncStreamClient("http://host:8000")


def test_a_server_that_a_cancel_may_kill_is_not_told_of_a_deadline(running: Running) -> None:
    running.servicer.stall = True
    transport = GrpcTransport(running.url)
    with pytest.raises(RequestTimeoutError):
        ask(transport, timeout_seconds=0.2)
    # Closed under the request, which goes on; a cancellation would have come by then.
    transport.close()
    time.sleep(0.3)
    running.servicer.release.set()
    assert eventually(lambda: running.servicer.cancelled == [False])


def test_a_server_that_survives_it_is_spared_what_nobody_waits_for(running: Running) -> None:
    running.servicer.stall = True
    running.servicer.version = "2.60.0"
    transport = GrpcTransport(running.url)
    with pytest.raises(RequestTimeoutError):
        ask(transport, timeout_seconds=0.2)
    (context,) = running.servicer.contexts
    assert eventually(lambda: not context.is_active())
    transport.close()


@pytest.mark.parametrize(
    ("name", "version", "may"),
    [
        ("triton", "2.51.0", False),
        ("triton", "2.59.1", False),
        ("triton", "2.60.0", True),
        ("triton", "3.0.0dev", True),
        ("triton", "dev", False),
        ("triton", "", False),
        # Another server of the protocol counts its versions otherwise.
        ("openvino", "2026.1", False),
    ],
)
def test_which_servers_may_be_cancelled(name: str, version: str, may: bool) -> None:
    assert may_cancel(name, version) == may


def test_a_server_with_too_many_late_answers_is_sent_no_more(running: Running) -> None:
    running.servicer.stall = True
    transport = GrpcTransport(running.url)
    for _ in range(MOST):
        with pytest.raises(RequestTimeoutError):
            ask(transport, timeout_seconds=0.05)
    with pytest.raises(OverloadedError, match="whose time ran out; send less"):
        ask(transport, timeout_seconds=0.05)
    assert running.servicer.calls.count("ModelInfer") == MOST
    running.servicer.stall = False
    running.servicer.release.set()
    # As soon as it has answered those.
    assert ask(transport)
    transport.close()


def test_closing_turns_away_who_waits_and_cancels_nothing(running: Running) -> None:
    running.servicer.stall = True
    transport = GrpcTransport(running.url)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, transport)
        assert eventually(lambda: running.servicer.calls.count("ModelInfer") == 1)
        transport.close()
        with pytest.raises(ConnectError, match="was closed"):
            asked.result(10)
    time.sleep(0.3)
    running.servicer.release.set()
    assert eventually(lambda: running.servicer.cancelled == [False])


def test_a_task_that_is_cancelled_cancels_nothing_at_the_server(running: Running) -> None:
    running.servicer.stall = True

    async def give_up() -> None:
        transport = AsyncGrpcTransport(running.url)
        with pytest.raises(RequestTimeoutError):
            await ask_awaited(transport, timeout_seconds=0.2)
        task = asyncio.create_task(ask_awaited(transport))
        while running.servicer.calls.count("ModelInfer") < 2:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0.3)
        running.servicer.release.set()
        await transport.close()

    asyncio.run(give_up())
    assert eventually(lambda: running.servicer.cancelled == [False, False])


def test_a_dead_step_is_a_server_to_be_left(running: Running) -> None:
    running.servicer.fail = (
        grpc.StatusCode.INTERNAL,
        "in ensemble 'fgm_clip', Stub process 'window__r1_0_0' is not healthy.",
    )
    transport = GrpcTransport(running.url)
    with pytest.raises(ConnectError, match="the process of a step died there"):
        ask(transport)
    transport.close()
