"""`EndpointPool`: which server is asked, what happens when one fails, and what is counted."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fgmclip.client import (
    ActionClient,
    ClientError,
    ConnectError,
    MockRequest,
    MockTransport,
    ModelNotFoundError,
    OverloadedError,
    RefusedError,
    RequestTimeoutError,
    ServerError,
    SettingsError,
    StreamClient,
    StreamDecision,
    StreamSession,
    TagMismatchError,
    Timeouts,
)
from fgmclip.client.endpoints import endpoint as endpoint_module
from fgmclip.client.endpoints import pool as pool_module
from fgmclip.client.endpoints.errors import NoEndpointError
from fgmclip.client.endpoints.pool import EndpointPool, frames_encoded
from fgmclip.client.messages import NO_PARAMETERS, Parameters, Tensors
from fgmclip.client.transport import Transport
from fgmclip.spec import PublicManifest

A, B, C = "a:1", "b:1", "c:1"
CLIP = np.zeros((9, 16, 20, 3), np.uint8)
PATIENCE_SECONDS = 20.0


class Server:
    """A server that can be told to fail, as the pool sees it."""

    def __init__(self, url: str, manifest: PublicManifest, model: Any) -> None:
        self.url = url
        self.mock = MockTransport(manifest, model)
        self.up = True
        self.fails: Callable[[], ClientError] | None = None
        self.stuck = self.lost = False
        self.timeouts: list[float] = []
        self.hold = threading.Event()
        self.hold.set()

    @property
    def asked(self) -> int:
        return len(self.timeouts)

    def infer(
        self,
        model: str,
        inputs: Tensors,
        outputs: Sequence[str],
        *,
        timeout_seconds: float,
        parameters: Parameters = NO_PARAMETERS,
    ) -> Tensors:
        self.timeouts.append(timeout_seconds)
        self.hold.wait(PATIENCE_SECONDS)
        if self.fails is not None:
            raise self.fails()
        return self.mock.infer(
            model, inputs, outputs, timeout_seconds=timeout_seconds, parameters=parameters
        )

    def model_parameters(self, model: str, *, timeout_seconds: float) -> Mapping[str, str]:
        if not self.up:
            raise ConnectError(f"{self.url} is down")
        return self.mock.model_parameters(model, timeout_seconds=timeout_seconds)

    def ready(self, model: str, *, timeout_seconds: float) -> bool:
        while self.stuck and not self.mock.closed:
            time.sleep(0.005)
        if self.lost:
            raise ConnectError(f"{self.url} is down")
        return self.up

    def close(self) -> None:
        self.mock.close()

    def die(self) -> None:
        self.lost = True
        self.up = False
        self.fails = lambda: ConnectError(f"{self.url} is down")

    def fail_once(self, error: ClientError) -> None:
        def fails() -> ClientError:
            self.fails = None
            return error

        self.fails = fails

    def come_back(self) -> None:
        self.fails = None
        self.lost = False
        self.up = True


class Servers(dict[str, Server]):
    """Servers by address, and pools over them that end with the test."""

    def __init__(self, manifest: PublicManifest, make_model: Callable[[PublicManifest], Any]):
        for url in (A, B, C):
            self[url] = Server(url, manifest, make_model(manifest))
        self._pools: list[EndpointPool] = []

    def pool(self, *urls: str, **options: Any) -> EndpointPool:
        pool = EndpointPool(
            urls or tuple(self),
            health_seconds=0.01,
            connect=lambda url, timeouts: self[url],
            **options,
        )
        self._pools.append(pool)
        return pool

    def close(self) -> None:
        for pool in self._pools:
            pool.close()


@pytest.fixture
def servers(
    manifest: PublicManifest,
    make_model: Callable[[PublicManifest], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Servers]:
    monkeypatch.setattr(endpoint_module, "HOLD_SECONDS", 0.02)
    monkeypatch.setattr(pool_module, "backoff_seconds", lambda retry: 0.0)
    made = Servers(manifest, make_model)
    yield made
    for server in made.values():
        server.hold.set()
    made.close()


def ask(transport: Transport, *, timeout_seconds: float = 10) -> NDArray[Any]:
    answer = transport.infer(
        "fgm_clip", {"FRAMES": CLIP}, ("LOGITS",), timeout_seconds=timeout_seconds
    )
    return answer["LOGITS"]


def until(reached: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not reached():
        assert time.monotonic() < deadline, f"expected {what}"
        time.sleep(0.002)


def home_of(pool: EndpointPool, servers: Servers, key: str) -> Server:
    """Return the server that a camera's requests go to now."""
    before = {url: server.asked for url, server in servers.items()}
    ask(pool.transport(key))
    (home,) = (server for url, server in servers.items() if server.asked > before[url])
    return home


def test_a_camera_keeps_to_one_server_and_cameras_spread(servers: Servers) -> None:
    pool = servers.pool()
    homes = {f"camera {number}": set[str]() for number in range(60)}
    for key in [*homes, *homes]:
        homes[key].add(home_of(pool, servers, key).url)
    assert all(len(urls) == 1 for urls in homes.values())
    spread = Counter(url for urls in homes.values() for url in urls)
    assert set(spread) == {A, B, C}
    assert min(spread.values()) >= 8


def test_only_the_cameras_of_a_dead_server_move_and_they_return(servers: Servers) -> None:
    pool = servers.pool()
    keys = [f"camera {number}" for number in range(30)]
    before = {key: home_of(pool, servers, key) for key in keys}
    dead = servers[A]
    dead.die()
    for key in keys:
        assert ask(pool.transport(key)).shape == (1, 12)
    during = {key: home_of(pool, servers, key) for key in keys}
    for key in keys:
        assert during[key] is not dead
        assert during[key] is before[key] or before[key] is dead
    dead.come_back()
    until(lambda: pool.status()[0].healthy, "the server in use again")
    until(lambda: {key: home_of(pool, servers, key) for key in keys} == before, "all at home")


def test_a_server_that_failed_is_asked_again_only_after_health_says_so(servers: Servers) -> None:
    pool = servers.pool(A, B)
    key = next(f"{n}" for n in range(99) if home_of(pool, servers, f"{n}") is servers[A])
    servers[A].die()
    ask(pool.transport(key))
    asked = servers[A].asked
    servers[A].fails = None
    for _ in range(5):
        ask(pool.transport(key))
    assert servers[A].asked == asked
    assert not pool.status()[0].healthy
    servers[A].come_back()
    until(lambda: home_of(pool, servers, key) is servers[A], "the camera at home")


def test_an_old_failure_says_nothing_of_a_server_that_came_back(servers: Servers) -> None:
    pool = servers.pool(A, in_flight=8)
    ask(pool.transport("x"))
    servers[A].hold.clear()
    with ThreadPoolExecutor(1) as threads:
        late = threads.submit(ask, pool.transport("x"))
        until(lambda: servers[A].asked == 2, "a request that is out")
        servers[A].up = False
        until(lambda: not pool.status()[0].healthy, "the server out of use")
        servers[A].up = True
        until(lambda: pool.status()[0].healthy, "the server in use")
        # From here on no check could bring it back.
        servers[A].stuck = True
        servers[A].fail_once(ConnectError("reset"))
        servers[A].hold.set()
        assert late.result().shape == (1, 12)
    assert pool.status()[0].healthy
    assert pool.status()[0].failures == 1


@pytest.mark.parametrize(
    "error", [ConnectError("x"), RequestTimeoutError("x"), ModelNotFoundError("x")]
)
def test_what_says_that_a_server_is_gone_goes_to_another(
    servers: Servers, error: ClientError
) -> None:
    pool = servers.pool(A, B)
    home = home_of(pool, servers, "x")
    other = servers[B if home.url == A else A]
    home.up = False
    home.fails = lambda: error
    asked = home.asked
    assert ask(pool.transport("x")).shape == (1, 12)
    assert ask(pool.transport("x")).shape == (1, 12)
    assert (home.asked - asked, other.asked) == (1, 2)
    status = {item.url: item for item in pool.status()}
    assert (status[home.url].failures, status[home.url].healthy) == (1, False)
    assert (status[other.url].retries, status[other.url].requests) == (1, 2)


def test_a_refusal_goes_to_no_other_server(servers: Servers) -> None:
    pool = servers.pool()
    home = home_of(pool, servers, "x")
    home.fails = lambda: RefusedError("bad frames")
    asked = sum(server.asked for server in servers.values())
    with pytest.raises(RefusedError, match="bad frames"):
        ask(pool.transport("x"))
    assert sum(server.asked for server in servers.values()) == asked + 1
    assert all(item.healthy for item in pool.status())


def test_an_overloaded_server_is_left_for_one_other_and_stays_in_use(servers: Servers) -> None:
    pool = servers.pool()
    home = home_of(pool, servers, "x")
    home.fails = lambda: OverloadedError("full")
    assert ask(pool.transport("x")).shape == (1, 12)
    for server in servers.values():
        server.fails = lambda: OverloadedError("full")
    asked = sum(server.asked for server in servers.values())
    with pytest.raises(OverloadedError, match="full"):
        ask(pool.transport("x"))
    assert sum(server.asked for server in servers.values()) == asked + 2
    assert all(item.healthy for item in pool.status())


def test_a_failure_that_only_one_server_has_puts_it_out_of_use(servers: Servers) -> None:
    pool = servers.pool(A, B)
    home = home_of(pool, servers, "x")
    home.up = False
    home.fails = lambda: ServerError("stub died")
    assert ask(pool.transport("x")).shape == (1, 12)
    status = {item.url: item.healthy for item in pool.status()}
    assert status == {A: home.url != A, B: home.url != B}


def test_a_request_that_every_server_fails_over_puts_none_out_of_use(servers: Servers) -> None:
    pool = servers.pool()
    ask(pool.transport("x"))
    for server in servers.values():
        server.fails = lambda: ServerError("poison")
    asked = sum(server.asked for server in servers.values())
    with pytest.raises(ServerError, match="poison"):
        ask(pool.transport("x"))
    assert sum(server.asked for server in servers.values()) == asked + 2
    servers[A].fails = servers[B].fails = servers[C].fails = None
    assert ask(pool.transport("x")).shape == (1, 12)


def test_a_decision_waits_for_a_server_that_restarts(servers: Servers) -> None:
    pool = servers.pool(A)
    ask(pool.transport("x"))
    servers[A].die()
    with ThreadPoolExecutor(4) as threads:
        waiting = [threads.submit(ask, pool.transport(f"{number}")) for number in range(4)]
        until(lambda: not pool.status()[0].healthy, "the server out of use")
        sent = servers[A].asked
        time.sleep(0.05)
        assert servers[A].asked == sent
        servers[A].come_back()
        assert [each.result().shape for each in waiting] == [(1, 12)] * 4


def test_no_server_at_all_is_said_with_what_is_wrong_with_each(servers: Servers) -> None:
    pool = servers.pool(A, B, decision_seconds=0.3)
    ask(pool.transport("x"))
    servers[A].die()
    servers[B].die()
    with pytest.raises(
        NoEndpointError,
        match=r"ready within 0.3 s, got none; check .*: a:1: a:1 is down; b:1: b:1 is down",
    ) as caught:
        ask(pool.transport("x"))
    assert isinstance(caught.value, ConnectionError)


def test_servers_that_never_were_ready_are_not_asked(servers: Servers) -> None:
    servers[A].up = servers[B].up = False
    pool = servers.pool(A, B, decision_seconds=0.2)
    with pytest.raises(NoEndpointError, match="a:1: it says that it is not ready"):
        ask(pool.transport("x"))
    assert servers[A].asked == servers[B].asked == 0


def test_retries_end_with_their_budget(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "RetryBudget", lambda: _Budget(3))
    pool = servers.pool(A)
    ask(pool.transport("x"))
    servers[A].fails = lambda: ConnectError("flaps")
    for _ in range(5):
        with pytest.raises(ConnectError, match="flaps"):
            ask(pool.transport("x"))
    # Five decisions and three retries, and the one before.
    assert servers[A].asked == 1 + 5 + 3


class _Budget:
    """Tokens that nothing gives back."""

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens

    def spend(self) -> bool:
        self.tokens -= 1
        return self.tokens >= 0

    def success(self) -> None:
        pass


def test_a_server_that_goes_on_failing_is_the_last_choice_for_longer_and_longer(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint_module, "HOLD_SECONDS", 0.2)
    pool = servers.pool(A, B)
    home = home_of(pool, servers, "x")
    # Health is fine, answers are not.
    home.fails = lambda: RequestTimeoutError("silent")
    asked = home.asked
    end = time.monotonic() + 2.0
    decisions = 0
    while time.monotonic() < end:
        ask(pool.transport("x"))
        decisions += 1
    # Held for 0.2, 0.4, 0.8, 1.6 s: at most 4 tries in 2 s, however many decisions.
    assert decisions > 50
    assert 1 <= home.asked - asked <= 4


def test_a_held_server_is_better_than_none(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint_module, "HOLD_SECONDS", 60.0)
    pool = servers.pool(A)
    ask(pool.transport("x"))
    servers[A].fail_once(ConnectError("reset"))
    assert ask(pool.transport("x")).shape == (1, 12)


def test_an_attempt_that_was_cut_short_says_nothing_of_the_server(servers: Servers) -> None:
    pool = servers.pool(A, decision_seconds=0.2)
    ask(pool.transport("x"))
    servers[A].fails = lambda: RequestTimeoutError("late")
    with pytest.raises(RequestTimeoutError):
        ask(pool.transport("x"), timeout_seconds=10)
    assert servers[A].timeouts[-1] <= 0.2
    assert pool.status()[0].healthy


def test_one_camera_cannot_take_all_slots_and_a_dead_server_keeps_nobody(
    servers: Servers,
) -> None:
    pool = servers.pool(A, B, in_flight=1)
    home = home_of(pool, servers, "x")
    home.hold.clear()
    with ThreadPoolExecutor(5) as threads:
        out = threads.submit(ask, pool.transport("x"))
        until(lambda: home.asked == 2, "a request that is out")
        waiting = [threads.submit(ask, pool.transport("x")) for _ in range(4)]
        place = [A, B].index(home.url)
        until(lambda: pool.status()[place].waiting == 4, "requests that wait")
        assert pool.status()[place].in_flight == 1
        home.up = False
        # They go to the other server although the slot is still taken.
        assert [each.result().shape for each in waiting] == [(1, 12)] * 4
        assert home.asked == 2
        home.hold.set()
        assert out.result().shape == (1, 12)


def test_a_stream_goes_over_to_another_release_and_back(
    servers: Servers, manifest: PublicManifest, make_model: Callable[[PublicManifest], Any]
) -> None:
    pool = servers.pool(A, B)
    home = home_of(pool, servers, "x")
    other = servers[B if home.url == A else A]
    newer = manifest.replace(release=8, embedding_tag="f" * 16, model_tag="n" * 16)
    other.mock = MockTransport(newer, make_model(newer))
    samples = np.random.default_rng(0).integers(0, 256, (16, 16, 20, 3), dtype=np.uint8)
    client = ActionClient(A, transport=pool.transport("x"))
    session = StreamSession(client)
    session.push(samples[:9])
    session.push(samples[8:10])
    assert client.manifest.release == 7
    home.die()
    with pytest.raises(TagMismatchError):
        session.push(samples[9:11])
    session.reset()
    session.push(samples[2:11])
    assert client.manifest.release == 8
    decision = session.push(samples[10:12])
    whole = ActionClient(A, transport=other.mock).classify_window(samples[3:12])
    np.testing.assert_allclose(decision.logits, whole.logits, atol=1e-4)
    home.come_back()
    until(lambda: home_of(pool, servers, "x") is home, "the camera at home")
    with pytest.raises(TagMismatchError):
        session.push(samples[11:13])
    session.reset()
    session.push(samples[4:13])
    assert client.manifest.release == 7


def test_releases_that_differ_in_classes_only_are_told_apart(
    servers: Servers, manifest: PublicManifest, make_model: Callable[[PublicManifest], Any]
) -> None:
    pool = servers.pool(A, B)
    home = home_of(pool, servers, "x")
    other = servers[B if home.url == A else A]
    classes = tuple(reversed(manifest.spec.classes))
    renamed = manifest.replace(
        release=8, model_tag="n" * 16, spec=manifest.spec.replace(classes=classes)
    )
    other.mock = MockTransport(renamed, make_model(renamed))
    samples = np.random.default_rng(0).integers(0, 256, (12, 16, 20, 3), dtype=np.uint8)
    client = ActionClient(A, transport=pool.transport("x"))
    stream = StreamClient(client, edge=False)
    results = [r for i in range(10) for r in stream.push(samples[i], i * manifest.dt)]
    home.die()
    results += [r for i in (10, 11) for r in stream.push(samples[i], i * manifest.dt)]
    decisions = [result for result in results if isinstance(result, StreamDecision)]
    assert len(decisions) == len(results) == 5
    assert [decision.model_tag for decision in decisions] == ["m" * 16] * 3 + ["n" * 16] * 2
    # The history was good, and the classes are those of the server that answered.
    assert [decision.samples for decision in decisions] == [8, 1, 1, 1, 1]
    place = int(np.argmax(decisions[-1].decision.probabilities))
    assert decisions[-1].decision.top[0][0] == renamed.spec.labels[place]
    assert renamed.spec.labels[place] != manifest.spec.labels[place]


def test_work_is_counted_in_frames_to_encode() -> None:
    def u8(*shape: int) -> NDArray[Any]:
        return np.zeros(shape, np.uint8)

    assert frames_encoded({"FRAMES": u8(9, 4, 4, 3)}) == 8
    assert frames_encoded({"FRAMES": u8(2, 4, 4, 3), "ROI": u8(5, 2, 4)}) == 5
    assert frames_encoded({"PIXELS_U8": u8(24, 4, 4, 3), "LUMA_U8": u8(24, 2, 4, 4)}) == 24


def test_a_closed_pool_lets_nobody_wait(servers: Servers) -> None:
    servers[A].up = False
    pool = servers.pool(A)
    transport = pool.transport("x")
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(ask, transport)
        time.sleep(0.02)
        pool.close()
        with pytest.raises(ConnectError, match="closed; make a new pool"):
            waiting.result()
    with pytest.raises(ConnectError, match="closed"):
        ask(transport)
    assert servers[A].mock.closed
    assert not [t for t in threading.enumerate() if t.name == f"health {A}"]


def test_a_cameras_close_leaves_the_pool_open(servers: Servers) -> None:
    pool = servers.pool(A)
    with ActionClient(A, transport=pool.transport("x")) as client:
        assert client.manifest.release == 7
    pool.transport("x").close()
    assert ask(pool.transport("y")).shape == (1, 12)


@pytest.mark.parametrize("urls", [(), (A, A), ("nowhere",)])
def test_what_are_no_addresses_is_refused(urls: tuple[str, ...]) -> None:
    with pytest.raises(SettingsError, match=r"expected"):
        EndpointPool(urls, Timeouts(connect_seconds=0.1))


def test_a_requests_own_answer(servers: Servers, model: Any) -> None:
    pool = servers.pool()
    expected = model(MockRequest("fgm_clip", {"FRAMES": CLIP}, ("LOGITS",), {}, 1.0))["LOGITS"]
    np.testing.assert_array_equal(ask(pool.transport("x")), expected)
