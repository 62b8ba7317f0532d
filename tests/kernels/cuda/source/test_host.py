"""The host layer: it computes what a GPU would, and refuses what a GPU would not forgive."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fgmclip.kernels.cuda import host
from fgmclip.kernels.cuda.device import Argument
from fgmclip.kernels.cuda.host import HostDevice
from fgmclip.kernels.errors import KernelError

PROBE = Path(__file__).parent / "probe.cu"
PROBES = (
    *("halves", "reversed", "warps"),
    *("some_wait", "one_ends", "two_places", "half_a_warp", "outside", "past_shared"),
    "not_aligned",
)

pytestmark = pytest.mark.skipif(
    host.compiler() is None, reason="NO C++ COMPILER: the host layer was not tried"
)


@pytest.fixture(scope="module")
def probe() -> HostDevice:
    return HostDevice(source=PROBE, kernels=PROBES)


def floats() -> NDArray[np.float32]:
    """Return numbers of every size that half precision tells apart, and of those beside them."""
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)
    finite = np.sort(halves[np.isfinite(halves)])
    between = (finite[1:] + finite[:-1]) / 2
    values = np.concatenate(
        [
            halves,
            between,
            np.nextafter(between, np.float32(np.inf)),
            np.nextafter(between, np.float32(-np.inf)),
            np.array([65519.99, 65520, 65536, 1e30, 1e-30, 2.0**-25, -0.0, np.inf], np.float32),
        ]
    )
    return np.concatenate([values, -values])


def run(device: HostDevice, kernel: str, *arguments: Argument, blocks: int = 1) -> None:
    device.launch(kernel, (blocks, 1, 1), 64, 0, arguments)


def test_halves_are_rounded_to_the_nearest_even(probe: HostDevice) -> None:
    values = floats()
    out = probe.empty(2 * len(values))
    blocks = -(-len(values) // 64)
    run(probe, "halves", probe.upload(values), np.int32(len(values)), out, blocks=blocks)
    with np.errstate(over="ignore"):
        expected = values.astype(np.float16)
    result = out.read(np.float16, (len(values),))
    numbers = ~np.isnan(values)
    np.testing.assert_array_equal(
        result[numbers].view(np.uint16), expected[numbers].view(np.uint16)
    )
    assert np.isnan(result[~numbers]).all()


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_threads_meet_at_barriers_in_any_order(probe: HostDevice, seed: int) -> None:
    probe.seed = seed
    out = probe.empty(64 * 4)
    run(probe, "reversed", out, np.int32(seed))
    np.testing.assert_array_equal(out.read(np.int32, (64,)), np.arange(64)[::-1] + seed)


@pytest.mark.parametrize("seed", [0, 5])
def test_lanes_of_a_warp_exchange_what_they_have(probe: HostDevice, seed: int) -> None:
    probe.seed = seed
    sums, found = probe.empty(64 * 4), probe.empty(64 * 4)
    run(probe, "warps", sums, found)
    expected = np.arange(64).reshape(8, 8).sum(axis=1).repeat(8)
    np.testing.assert_array_equal(sums.read(np.float32, (64,)), expected)
    np.testing.assert_array_equal(found.read(np.int32, (64,)), np.arange(64) >= 32)


def test_a_barrier_that_is_left_out_shows_in_some_order(probe: HostDevice) -> None:
    test_threads_meet_at_barriers_in_any_order(probe, 0)
    place = probe.barriers()[0]
    probe.drop_barrier(place)
    out = probe.empty(64 * 4)
    right = []
    try:
        for probe.seed in range(1, 4):
            run(probe, "reversed", out, np.int32(probe.seed))
            expected = np.arange(64)[::-1] + probe.seed
            right.append((out.read(np.int32, (64,)) == expected).all())
    finally:
        probe.drop_barrier("")
    assert not all(right)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        ("some_wait", r"barrier divergence in block \(0, 0, 0\): thread 0 waits for the barrier "),
        ("one_ends", r"thread 0 waits for the barrier at probe\.cu:\d+, thread 7 has ended"),
        ("two_places", r"thread 0 waits .*, thread 32 waits for the barrier at probe\.cu"),
        ("half_a_warp", r"thread 0 waits for its warp at probe\.cu:\d+, thread 16 has ended"),
        ("outside", r"a store of 4 bytes lies outside of every allocation, in thread 63 of block"),
        ("not_aligned", r"an access of 4 bytes is not aligned to them"),
    ],
)
def test_what_a_gpu_would_not_forgive_is_an_error(
    probe: HostDevice, kernel: str, message: str, seed: int
) -> None:
    probe.seed = seed
    with pytest.raises(KernelError, match=f"{kernel} on the host: .*{message}"):
        run(probe, kernel, probe.empty(64 * 4))
    # The next launch begins afresh.
    test_threads_meet_at_barriers_in_any_order(probe, seed)


def test_bytes_of_global_memory_are_counted(probe: HostDevice) -> None:
    probe.seed = 0
    before = len(probe.traffic)
    values = probe.upload(np.ones(100, np.float32))
    run(probe, "halves", values, np.int32(100), probe.empty(200), blocks=2)
    (traffic,) = probe.traffic[before:]
    assert (traffic.kernel, traffic.loaded, traffic.stored) == ("halves", 400, 200)
    assert traffic.moved == 600


def test_reading_more_than_there_is_says_so(probe: HostDevice) -> None:
    with pytest.raises(KernelError, match="expected at least 8 bytes, got 4"):
        probe.empty(4).read(np.float32, (2,))


def test_a_kernel_of_no_name_is_refused(probe: HostDevice) -> None:
    with pytest.raises(KernelError, match="no kernel has that name"):
        run(probe, "absent")


def test_without_a_compiler_the_remedy_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "compiler", lambda: None)
    with pytest.raises(KernelError, match=r"C\+\+ compiler: expected one .* install g\+\+"):
        HostDevice(flags=("-O0",))


def test_without_the_sources_the_remedy_is_said(tmp_path: Path) -> None:
    with pytest.raises(KernelError, match="run from a checkout of fgmclip"):
        HostDevice(source=tmp_path / "kernels.cu")


def test_what_the_compiler_says_is_passed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "broken.cu").write_text("int answer = question;", encoding="utf-8")
    with pytest.raises(KernelError, match="question"):
        HostDevice(source=tmp_path / "broken.cu", kernels=())


def test_a_library_is_compiled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    HostDevice(source=PROBE, kernels=("halves",), flags=("-O0",))
    (library,) = tmp_path.rglob("*.so")
    made = library.stat().st_mtime_ns
    HostDevice(source=PROBE, kernels=("halves",), flags=("-O0",))
    assert [path.stat().st_mtime_ns for path in tmp_path.rglob("*.so")] == [made]


def test_memory_is_given_back(probe: HostDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    library = probe._library
    monkeypatch.setattr(library, "fgmclip_host_free", given.append)
    address = probe.empty(10).address
    monkeypatch.undo()
    assert given == [address]
    library.fgmclip_host_free(address)
