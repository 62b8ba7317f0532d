"""TensorRT and TensorRT for RTX on a GPU, from Python.

Written against the Python API of TensorRT 10, 11 and TensorRT for RTX 1.7 and tested on a stand-in
for both the library and pycuda: no GPU has run it yet.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from fgmclip.serve.runtimes.libraries import (
    TITLES,
    LibraryName,
    import_library,
    notes_logger,
    version_tuple,
)
from fgmclip.serve.runtimes.plan_file import plan_fault, read_plan_head

if TYPE_CHECKING:
    # Engine steps come without the kernels.
    from fgmclip.kernels.cuda.pycuda_device import Driver

REMEDY = "build it again on this machine with 'fgmclip engine build'"


class Context(Protocol):
    """`IExecutionContext`; its calls return False, instead of raising, when they refuse."""

    def set_input_shape(self, name: str, shape: tuple[int, ...], /) -> bool: ...  # noqa: D102
    def set_tensor_address(self, name: str, memory: int, /) -> bool: ...  # noqa: D102
    def get_tensor_shape(self, name: str, /) -> Any: ...  # noqa: D102
    def execute_async_v3(self, stream_handle: int, /) -> bool: ...  # noqa: D102


class Engine(Protocol):
    """`ICudaEngine`; a shape of -1 is the free axis."""

    @property
    def num_io_tensors(self) -> int: ...  # noqa: D102
    def get_tensor_name(self, index: int, /) -> str: ...  # noqa: D102
    def get_tensor_mode(self, name: str, /) -> Any: ...  # noqa: D102
    def get_tensor_dtype(self, name: str, /) -> Any: ...  # noqa: D102
    def get_tensor_shape(self, name: str, /) -> Any: ...  # noqa: D102
    def get_tensor_profile_shape(self, name: str, profile_index: int, /) -> Any: ...  # noqa: D102
    def create_execution_context(self) -> Context | None: ...  # noqa: D102


@dataclass(slots=True)
class _Tensor:
    """One input or output.

    Attributes:
        name: In the graph.
        dims: Without the batch axis.
        dtype: Of its values.
        room: Rows that the buffers have room for.
        device: Buffer on the GPU, pycuda's allocation.
        host: Page-locked buffer that copies go through, u8 [bytes].
    """

    name: str
    dims: tuple[int, ...]
    dtype: np.dtype[Any]
    room: int = 0
    device: Any = None
    host: Any = None

    def rows(self, batch: int) -> NDArray[Any]:
        """Return the first rows of the page-locked buffer, [batch,...]."""
        size = batch * self.row_bytes
        shaped: NDArray[Any] = self.host[:size].view(self.dtype).reshape(batch, *self.dims)
        return shaped

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return int(np.prod(self.dims, dtype=np.int64)) * self.dtype.itemsize


class TensorRtRuntime:
    """A serialized engine with one profile, on one stream of the GPU's primary context.

    For one thread at a time, the one that made it. TensorRT for RTX records CUDA graphs by itself,
    one a shape, as soon as its kernels for that shape are ready. Those of TensorRT are not recorded
    here: Triton's backend serves its engines, and does not unless a config asks for it, so the
    gate's times are those of what serves.
    """

    def __init__(self, engine: Path, library: LibraryName, *, gpu: int = 0) -> None:
        """Load the engine.

        Args:
            engine: The serialized engine.
            library: Who built it.
            gpu: Number of the GPU, as CUDA counts.

        Raises:
            ImportError: The library or pycuda is not here.
            ValueError: The file is of another library, version or GPU, or not one of ours.
            RuntimeError: The GPU cannot be used, or the library refused the engine.
        """
        self._library = import_library(library)
        self._title = f"{TITLES[library]} {self._library.__version__}"
        self._driver = _load_driver()
        self._closed = True
        try:
            self._driver.init()
            device = self._driver.Device(gpu)
            major, minor = device.compute_capability()
            head = read_plan_head(engine)
            version = version_tuple(self._library.__version__)
            fault = plan_fault(head, library=library, version=version, sm=10 * major + minor)
            if fault is not None:
                raise ValueError(f"{engine}: {fault}")
            self._context = device.retain_primary_context()
        except self._driver.Error as error:
            raise RuntimeError(
                f"GPU {gpu}: expected one that CUDA can use, got: {error}; choose one that "
                "nvidia-smi lists"
            ) from error
        self._closed = False
        try:
            with self._current("load the engine"):
                self._load(engine, library)
        except BaseException:
            self.close()
            raise

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run the engine; axis 0 of every input and output is the batch.

        Raises:
            ValueError: An input is missing or does not fit the engine.
            RuntimeError: The GPU or the library failed.
        """
        if self._closed:
            raise RuntimeError(f"{self._title}: expected an open engine, got one that was closed")
        batch = self._batch(inputs)
        with self._current(f"run a batch of {batch}"):
            for tensor in self._inputs:
                self._make_room(tensor, batch)
                np.copyto(tensor.rows(batch), inputs[tensor.name])
                size = batch * tensor.row_bytes
                self._driver.memcpy_htod_async(int(tensor.device), tensor.host[:size], self._stream)
                self._done(
                    self._execution.set_input_shape(tensor.name, (batch, *tensor.dims)),
                    f"shape {[batch, *tensor.dims]} of {tensor.name}",
                )
            for tensor in self._outputs:
                self._make_room(tensor, batch)
            for tensor in (*self._inputs, *self._outputs):
                address = int(tensor.device)
                self._done(
                    self._execution.set_tensor_address(tensor.name, address),
                    f"the address of {tensor.name}",
                )
            self._done(self._execution.execute_async_v3(self._handle), "the run")
            for tensor in self._outputs:
                size = batch * tensor.row_bytes
                self._driver.memcpy_dtoh_async(tensor.host[:size], int(tensor.device), self._stream)
            self._stream.synchronize()
        # The buffers are the next run's.
        return {tensor.name: tensor.rows(batch).copy() for tensor in self._outputs}

    def close(self) -> None:
        """Let go of engine, buffers and context, in the thread that made them."""
        if self._closed:
            return
        self._closed = True
        self._context.push()
        try:
            # The library frees memory of its own: its objects go while the context is current.
            for name in ("_inputs", "_outputs", "_execution", "_engine", "_runtime", "_stream"):
                self.__dict__.pop(name, None)
        finally:
            self._context.pop()
            # By name: the destructor of pycuda's context does not know a primary one (2026.1).
            self._context.detach()

    def _load(self, path: Path, library: LibraryName) -> None:
        self._stream = self._driver.Stream()
        self._handle = int(cast(Any, self._stream).handle)
        self._lines: list[str] = []
        # The library holds no reference to its logger.
        self._logger = notes_logger(self._library, self._lines)
        self._runtime = self._library.Runtime(self._logger)
        engine: Engine | None = self._runtime.deserialize_cuda_engine(path.read_bytes())
        if engine is None:
            raise RuntimeError(self._refusal(str(path), "an engine that it can read"))
        self._engine = engine
        execution = self._execution_context(library)
        if execution is None:
            raise RuntimeError(self._refusal(str(path), "a context with its memory"))
        self._execution = execution
        self._inputs, self._outputs = self._tensors()

    def _execution_context(self, library: LibraryName) -> Context | None:
        if library != "rtx" or not hasattr(self._library, "CudaGraphStrategy"):
            return self._engine.create_execution_context()
        engine = cast(Any, self._engine)
        config = engine.create_runtime_config()
        config.cuda_graph_strategy = self._library.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        return cast("Context | None", engine.create_execution_context(config))

    def _tensors(self) -> tuple[list[_Tensor], list[_Tensor]]:
        inputs: list[_Tensor] = []
        outputs: list[_Tensor] = []
        limits = []
        for index in range(self._engine.num_io_tensors):
            name = self._engine.get_tensor_name(index)
            shape = tuple(self._engine.get_tensor_shape(name))
            if not shape or shape[0] != -1 or -1 in shape[1:]:
                raise ValueError(
                    f"{name}: expected an engine whose only free axis is the batch, got "
                    f"{list(shape)}; {REMEDY}"
                )
            dtype = np.dtype(self._library.nptype(self._engine.get_tensor_dtype(name)))
            tensor = _Tensor(name, shape[1:], dtype)
            if self._engine.get_tensor_mode(name) == self._library.TensorIOMode.INPUT:
                inputs.append(tensor)
                _, _, largest = self._engine.get_tensor_profile_shape(name, 0)
                limits.append(next(iter(largest)))
            else:
                outputs.append(tensor)
        self._most = min(limits)
        return inputs, outputs

    def _batch(self, inputs: Mapping[str, NDArray[Any]]) -> int:
        """Return the batch of inputs that fit the engine."""
        batches = set()
        for tensor in self._inputs:
            array = inputs.get(tensor.name)
            if array is None or array.shape[1:] != tensor.dims or array.dtype != tensor.dtype:
                came = "none" if array is None else f"{array.dtype} {list(array.shape)}"
                raise ValueError(
                    f"{tensor.name}: expected {tensor.dtype} {['N', *tensor.dims]}, got {came}"
                )
            batches.add(len(array))
        if len(batches) != 1 or not 1 <= min(batches) <= self._most:
            raise ValueError(
                f"batch: expected one of 1 to {self._most} for all inputs, got "
                f"{', '.join(map(str, sorted(batches)))}; {REMEDY} --max-batch N, or send fewer"
            )
        return batches.pop()

    def _make_room(self, tensor: _Tensor, batch: int) -> None:
        """Let a tensor's buffers hold a batch; they only grow, in steps that get rare."""
        if batch <= tensor.room:
            return
        rows = min(max(batch, 2 * tensor.room), self._most)
        size = rows * tensor.row_bytes
        # The old ones first, so that both need not fit at once; none if this fails.
        tensor.room, tensor.device, tensor.host = 0, None, None
        tensor.device = self._driver.mem_alloc(size)
        tensor.host = self._driver.pagelocked_empty(size, np.uint8)
        tensor.room = rows

    def _done(self, success: bool, what: str) -> None:
        if not success:
            raise RuntimeError(self._refusal(what, "it to be accepted"))

    def _refusal(self, what: str, expected: str) -> str:
        said = " | ".join(self._lines) or "nothing was logged"
        self._lines.clear()
        return f"{what}: expected {expected} by {self._title}, got a refusal ({said}); {REMEDY}"

    @contextmanager
    def _current(self, purpose: str) -> Iterator[None]:
        """Make the context this thread's for a moment; a CUDA error says what it was for."""
        self._context.push()
        try:
            yield
        except self._driver.Error as error:
            raise RuntimeError(
                f"{self._title}: expected the GPU to {purpose}, got: {error}; look at nvidia-smi "
                "for memory and errors"
            ) from error
        finally:
            self._context.pop()


def _load_driver() -> Driver:
    try:
        return cast("Driver", importlib.import_module("pycuda.driver"))
    except ImportError as error:
        raise ImportError(
            f"pycuda: expected it and NVIDIA's driver, got: {error}; install fgmclip[gpu] on a "
            "machine with a GPU"
        ) from error
