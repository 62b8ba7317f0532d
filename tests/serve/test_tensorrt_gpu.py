"""`TensorRtRuntime` on stand-ins for the library and pycuda: order, shapes, memory, and errors.

The library's stand-in computes Y = 2 X + Z on the memory whose addresses it was given, late, when
the stream runs; what a real GPU does with an engine is not tested here.
"""

from __future__ import annotations

import gc
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fgmclip.serve.runtimes.tensorrt_gpu import TensorRtRuntime

PYCUDA = Path(__file__).resolve().parents[1] / "kernels" / "cuda" / "conftest.py"

VERSION = (10, 13, 0, 35)
HEAD = b"ftrt" + bytes(20) + bytes(VERSION) + bytes(60)
WIDTH = 2
MOST = 16


def load_pycuda() -> Any:
    """Return the stand-in that the kernels are tested on."""
    spec = importlib.util.spec_from_file_location("fake_pycuda", PYCUDA)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class FakeTensorRt(ModuleType):
    """The module `tensorrt`, and one engine.

    Attributes:
        refuses: Names of calls that return False, or None.
        says: What the logger is told as a call is refused.
        shapes: Of each tensor, -1 the free axis.
        runs: Batches that were executed.
    """

    Builder = object
    __version__ = ".".join(map(str, VERSION))

    def __init__(self, driver: Any, memory_at: Any) -> None:
        super().__init__("tensorrt")
        self.driver, self.memory_at = driver, memory_at
        self.refuses: set[str] = set()
        self.says = "Error Code 1: something"
        self.shapes = {"X": (-1, WIDTH), "Z": (-1, WIDTH), "Y": (-1, WIDTH)}
        self.runs: list[int] = []
        self.TensorIOMode = SimpleNamespace(INPUT="input", OUTPUT="output")
        self.ILogger = type("ILogger", (), {"WARNING": 2})

    def nptype(self, kind: str) -> type:
        assert kind == "float"
        return np.float32

    def Runtime(self, logger: Any) -> Any:  # noqa: N802
        self.logger = logger
        return SimpleNamespace(deserialize_cuda_engine=self.deserialize)

    def allows(self, call: str) -> bool:
        if call in self.refuses:
            self.logger.log(1, self.says)
            self.logger.log(4, "of no interest")
            return False
        return True

    def deserialize(self, data: bytes) -> Any:
        assert self.driver.contexts
        assert data == HEAD
        names = list(self.shapes)
        engine = SimpleNamespace(
            num_io_tensors=len(names),
            get_tensor_name=names.__getitem__,
            get_tensor_mode=lambda name: "output" if name == "Y" else "input",
            get_tensor_dtype=lambda name: "float",
            get_tensor_shape=self.shapes.__getitem__,
            get_tensor_profile_shape=lambda name, profile: [
                (batch, *self.shapes[name][1:]) for batch in (1, 8, MOST)
            ],
            create_execution_context=self.context,
        )
        return engine if self.allows("deserialize") else None

    def context(self) -> Any:
        return Execution(self) if self.allows("context") else None


class Execution:
    """`IExecutionContext`: what was not set before a run is missed in it."""

    def __init__(self, library: FakeTensorRt) -> None:
        self.library = library
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert name in ("X", "Z")
        self.shapes[name] = shape
        return self.library.allows("shape")

    def set_tensor_address(self, name: str, memory: int) -> bool:
        assert type(memory) is int
        self.addresses[name] = memory
        return self.library.allows("address")

    def execute_async_v3(self, stream_handle: int) -> bool:
        if not self.library.allows("execute"):
            return False
        (stream,) = (item for item in self.library.driver.streams if id(item) == stream_handle)
        shapes, addresses = dict(self.shapes), dict(self.addresses)
        assert shapes["X"] == shapes["Z"]
        self.library.runs.append(shapes["X"][0])

        def compute() -> None:
            size = 4 * int(np.prod(shapes["X"]))
            for address in addresses.values():
                assert self.library.driver.allocated[address] >= size
            x, z, y = (
                self.library.memory_at(addresses[name], size).view(np.float32) for name in "XZY"
            )
            y[:] = 2 * x + z

        stream.queue.append(compute)
        return True


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    module = load_pycuda()
    fake = module.FakeDriver()
    fake.memory_at = module.memory_at
    fake.Stream.handle = property(id)
    monkeypatch.setitem(sys.modules, "pycuda", ModuleType("pycuda"))
    monkeypatch.setitem(sys.modules, "pycuda.driver", fake)
    yield fake
    assert fake.contexts == []


@pytest.fixture
def library(driver: Any, monkeypatch: pytest.MonkeyPatch) -> FakeTensorRt:
    fake = FakeTensorRt(driver, driver.memory_at)
    monkeypatch.setitem(sys.modules, "tensorrt", fake)
    return fake


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    path = tmp_path / "model.plan"
    path.write_bytes(HEAD)
    return path


@pytest.fixture
def runtime(library: FakeTensorRt, plan: Path) -> Iterator[TensorRtRuntime]:
    opened = TensorRtRuntime(plan, "tensorrt")
    yield opened
    opened.close()


def inputs(batch: int, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    random = np.random.default_rng([batch, seed])
    return {name: random.standard_normal((batch, WIDTH), np.float32) for name in ("X", "Z")}


@pytest.mark.parametrize("batches", [(1, 3, MOST, 2), (MOST, 1), (5, 5, 6, 12, 13)])
def test_every_batch_is_computed_whatever_came_before(
    runtime: TensorRtRuntime, library: FakeTensorRt, batches: tuple[int, ...]
) -> None:
    for seed, batch in enumerate(batches):
        given = inputs(batch, seed)
        came = runtime.run(given)
        assert came.keys() == {"Y"}
        np.testing.assert_array_equal(came["Y"], 2 * given["X"] + given["Z"])
    assert library.runs == list(batches)


def test_answers_outlive_the_next_run(runtime: TensorRtRuntime) -> None:
    first = runtime.run(inputs(4))["Y"]
    before = first.copy()
    runtime.run(inputs(4, seed=1))
    np.testing.assert_array_equal(first, before)


def test_inputs_that_are_not_contiguous_are_read_right(runtime: TensorRtRuntime) -> None:
    given = {name: value[::2] for name, value in inputs(8).items()}
    came = runtime.run(given)["Y"]
    np.testing.assert_array_equal(came, 2 * given["X"] + given["Z"])


def test_buffers_are_kept_and_grow_to_the_largest_batch_and_no_further(
    runtime: TensorRtRuntime, driver: Any
) -> None:
    def allocations() -> int:
        return driver.calls.count("cuMemAlloc") if driver.calls else 0

    for batch, expected in ((5, 3), (4, 3), (5, 3), (6, 6), (10, 6), (11, 9), (MOST, 9)):
        runtime.run(inputs(batch))
        assert allocations() == expected, batch
        # No batch is above `MOST`, and old buffers are gone.
        assert len(driver.allocated) == 3
        assert max(driver.allocated.values()) <= MOST * WIDTH * 4
    assert driver.calls.count("cuMemHostAlloc") == 9


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"X": (2, 3)}, r"X: expected float32 \['N', 2\], got float32 \[2, 3\]"),
        ({"Z": None}, r"Z: expected float32 \['N', 2\], got none"),
        ({"Z": (3, WIDTH)}, r"expected one of 1 to 16 for all inputs, got 2, 3"),
        ({"X": (17, WIDTH), "Z": (17, WIDTH)}, r"got 17; build it again .* --max-batch N"),
        ({"X": (0, WIDTH), "Z": (0, WIDTH)}, r"got 0;"),
    ],
)
def test_inputs_that_do_not_fit_are_refused_before_the_gpu_is_asked(
    runtime: TensorRtRuntime,
    library: FakeTensorRt,
    given: dict[str, tuple[int, ...] | None],
    message: str,
) -> None:
    arrays = dict(inputs(2))
    for name, shape in given.items():
        if shape is None:
            del arrays[name]
        else:
            arrays[name] = np.zeros(shape, np.float32)
    with pytest.raises(ValueError, match=message):
        runtime.run(arrays)
    assert library.runs == []


def test_half_inputs_are_not_taken_for_floats(runtime: TensorRtRuntime) -> None:
    halves: dict[str, Any] = {name: item.astype(np.float16) for name, item in inputs(2).items()}
    with pytest.raises(ValueError, match="X: expected float32"):
        runtime.run(halves)


@pytest.mark.parametrize(
    ("call", "what"),
    [
        ("shape", r"shape \[2, 2\] of X"),
        ("address", "the address of X"),
        ("execute", "the run"),
    ],
)
def test_what_the_library_refuses_is_told_with_what_it_logged(
    runtime: TensorRtRuntime, library: FakeTensorRt, call: str, what: str
) -> None:
    library.refuses.add(call)
    message = (
        what + r": .* TensorRT 10\.13\.0\.35, got a refusal \(Error Code 1: something\); build"
    )
    with pytest.raises(RuntimeError, match=message):
        runtime.run(inputs(2))
    library.refuses.clear()
    given = inputs(2, seed=1)
    np.testing.assert_array_equal(runtime.run(given)["Y"], 2 * given["X"] + given["Z"])


@pytest.mark.parametrize("call", ["deserialize", "context"])
def test_an_engine_that_the_library_refuses_leaves_nothing_behind(
    library: FakeTensorRt, driver: Any, plan: Path, call: str
) -> None:
    library.refuses.add(call)
    with pytest.raises(RuntimeError, match=r"model\.plan: .* \(Error Code 1: something\)"):
        TensorRtRuntime(plan, "tensorrt")
    gc.collect()
    assert (driver.retained, driver.allocated) == (0, {})


def test_an_engine_with_another_free_axis_is_refused(
    library: FakeTensorRt, driver: Any, plan: Path
) -> None:
    library.shapes["Z"] = (-1, -1)
    with pytest.raises(ValueError, match="Z: expected an engine whose only free axis is the batch"):
        TensorRtRuntime(plan, "tensorrt")
    assert driver.retained == 0


def test_an_engine_of_another_version_is_refused_before_the_library_reads_it(
    library: FakeTensorRt, driver: Any, plan: Path
) -> None:
    plan.write_bytes(HEAD.replace(bytes(VERSION), bytes((10, 12, 0, 1))))
    library.refuses.add("deserialize")
    with pytest.raises(ValueError, match=r"got one of TensorRT 10\.12\.0\.1; build it again"):
        TensorRtRuntime(plan, "tensorrt")
    assert driver.retained == 0


def test_a_gpu_that_is_full_is_told_and_serves_smaller_batches_still(
    runtime: TensorRtRuntime, driver: Any
) -> None:
    driver.memory_limit = 3 * 4 * WIDTH * 4
    runtime.run(inputs(4))
    with pytest.raises(RuntimeError, match=r"expected the GPU to run a batch of 8, got: .* memory"):
        runtime.run(inputs(8))
    given = inputs(4, seed=1)
    np.testing.assert_array_equal(runtime.run(given)["Y"], 2 * given["X"] + given["Z"])


def test_a_fault_of_the_gpu_is_told(runtime: TensorRtRuntime, driver: Any) -> None:
    driver.fails_next = driver.LaunchError("cuStreamSynchronize failed: an illegal access")
    with pytest.raises(RuntimeError, match="got: cuStreamSynchronize failed: an illegal access"):
        runtime.run(inputs(2))


def test_a_gpu_that_is_not_there_is_told(library: FakeTensorRt, driver: Any, plan: Path) -> None:
    with pytest.raises(RuntimeError, match="GPU 3: expected one that CUDA can use"):
        TensorRtRuntime(plan, "tensorrt", gpu=3)


def test_without_pycuda_the_remedy_is_named(
    library: FakeTensorRt, plan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pycuda.driver", None)
    with pytest.raises(ImportError, match=r"install fgmclip\[gpu\]"):
        TensorRtRuntime(plan, "tensorrt")


def test_closing_gives_everything_back_once(library: FakeTensorRt, driver: Any, plan: Path) -> None:
    runtime = TensorRtRuntime(plan, "tensorrt")
    runtime.run(inputs(2))
    runtime.close()
    runtime.close()
    gc.collect()
    assert (driver.retained, driver.allocated) == (0, {})
    with pytest.raises(RuntimeError, match="expected an open engine, got one that was closed"):
        runtime.run(inputs(2))


def test_tensorrt_for_rtx_is_told_to_record_cuda_graphs(
    library: FakeTensorRt, driver: Any, plan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan.write_bytes(HEAD.replace(b"ftrt", b"vtrt"))
    configs: list[Any] = []

    def deserialize(data: bytes) -> Any:
        engine = FakeTensorRt.deserialize(library, HEAD)
        engine.create_runtime_config = SimpleNamespace
        engine.create_execution_context = context
        return engine

    def context(config: Any) -> Execution:
        configs.append(config)
        return Execution(library)

    monkeypatch.setattr(library, "deserialize", deserialize)
    library.CudaGraphStrategy = SimpleNamespace(  # type: ignore[attr-defined]
        WHOLE_GRAPH_CAPTURE="whole"
    )
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", library)
    runtime = TensorRtRuntime(plan, "rtx")
    assert [config.cuda_graph_strategy for config in configs] == ["whole"]
    given = inputs(3)
    np.testing.assert_array_equal(runtime.run(given)["Y"], 2 * given["X"] + given["Z"])
    runtime.close()
