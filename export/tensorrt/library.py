"""TensorRT and TensorRT for RTX by name, and the part of their API that this package uses.

Both are one API in two modules. Neither ships type stubs, and `tensorrt-stubs` 10.13 on PyPI is
not valid Python (a parameter named `in`), so the part in use stands here as protocols;
`tests/export/tensorrt/test_stubs.py` holds them to the repaired stubs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from fgmclip.export.tensorrt.errors import LibraryError
from fgmclip.serve.runtimes.libraries import (
    INSTALL,
    TITLES,
    LibraryName,
    import_library,
    notes_logger,
    version_tuple,
)

OLDEST = (10, 3)
"""First TensorRT whose strongly typed networks know bf16 and every option used here."""


class Tensor(Protocol):
    """An input or output of a network; -1 in `shape` is a dynamic axis."""

    name: str
    shape: Any


class Network(Protocol):
    """`INetworkDefinition`."""

    @property
    def num_inputs(self) -> int: ...  # noqa: D102
    def get_input(self, index: int, /) -> Tensor: ...  # noqa: D102


class Profile(Protocol):
    """`IOptimizationProfile`; the stubs ask for `Dims`, which tuples convert to."""

    def set_shape(self, name: str, smallest: Any, usual: Any, largest: Any, /) -> None: ...  # noqa: D102


class HostMemory(Protocol):
    """`IHostMemory`, which also is a buffer."""

    @property
    def nbytes(self) -> int: ...  # noqa: D102


class TimingCache(Protocol):
    """`ITimingCache`."""

    def serialize(self) -> HostMemory: ...  # noqa: D102


class Config(Protocol):
    """`IBuilderConfig`."""

    builder_optimization_level: int
    hardware_compatibility_level: Any
    profiling_verbosity: Any
    progress_monitor: Any

    def add_optimization_profile(self, profile: Any, /) -> int: ...  # noqa: D102
    def set_flag(self, flag: Any, /) -> None: ...  # noqa: D102
    def clear_flag(self, flag: Any, /) -> None: ...  # noqa: D102
    def create_timing_cache(self, serialized: Any, /) -> TimingCache: ...  # noqa: D102
    def set_timing_cache(self, cache: Any, ignore_mismatch: bool, /) -> bool: ...  # noqa: D102
    def get_timing_cache(self) -> TimingCache | None: ...  # noqa: D102


class RtxConfig(Config, Protocol):
    """`IBuilderConfig` of TensorRT for RTX."""

    num_compute_capabilities: int

    def set_compute_capability(self, capability: Any, index: int, /) -> bool: ...  # noqa: D102


class Builder(Protocol):
    """`Builder`; it returns no engine, instead of raising, when it fails."""

    def create_network(self, flags: int = ..., /) -> Network: ...  # noqa: D102
    def create_builder_config(self) -> Config: ...  # noqa: D102
    def create_optimization_profile(self) -> Profile: ...  # noqa: D102
    def build_serialized_network(  # noqa: D102
        self, network: Any, config: Any, /
    ) -> HostMemory | None: ...


class ParserError(Protocol):
    """What the ONNX parser says about one node; `node` is -1 where it is about none."""

    def desc(self) -> str: ...  # noqa: D102
    def node(self) -> int: ...  # noqa: D102
    def node_name(self) -> str: ...  # noqa: D102
    def node_operator(self) -> str: ...  # noqa: D102


class Parser(Protocol):
    """`OnnxParser`."""

    @property
    def num_errors(self) -> int: ...  # noqa: D102
    def parse(self, model: bytes, /) -> bool: ...  # noqa: D102
    def get_error(self, index: int, /) -> ParserError: ...  # noqa: D102


class Inspector(Protocol):
    """`EngineInspector`."""

    def get_engine_information(self, layout: Any, /) -> str: ...  # noqa: D102


class Engine(Protocol):
    """`ICudaEngine`."""

    def create_engine_inspector(self) -> Inspector: ...  # noqa: D102


class Runtime(Protocol):
    """`Runtime`; it returns no engine, instead of raising, when it refuses one."""

    def deserialize_cuda_engine(self, serialized: bytes, /) -> Engine | None: ...  # noqa: D102


@dataclass(frozen=True)
class Library:
    """One of the two libraries, imported.

    Attributes:
        name: Which of them.
        module: The imported module.
        version: What it calls itself, for example `10.13.0.35`.
    """

    name: LibraryName
    module: Any
    version: str

    @property
    def title(self) -> str:
        """Its name for people, with the version."""
        return f"{TITLES[self.name]} {self.version}"

    def builder(self, logger: Any) -> Builder:
        """Return a new builder."""
        builder: Builder = self.module.Builder(logger)
        return builder

    def parser(self, network: Network, logger: Any) -> Parser:
        """Return an ONNX parser that writes into `network`."""
        parser: Parser = self.module.OnnxParser(network, logger)
        return parser

    def runtime(self, logger: Any) -> Runtime:
        """Return a runtime; it needs a GPU to read an engine."""
        runtime: Runtime = self.module.Runtime(logger)
        return runtime

    def logger(self, lines: list[str]) -> Any:
        """Return a logger that keeps warnings and errors.

        Args:
            lines: Where to put them.
        """
        return notes_logger(self.module, lines)


def load_library(name: LibraryName) -> Library:
    """Import one of the libraries.

    Args:
        name: `tensorrt` or `rtx`.

    Raises:
        LibraryError: It is not installed, cannot be loaded, or is too old.
    """
    try:
        module = import_library(name)
    except ImportError as error:
        raise LibraryError(str(error)) from error
    version = module.__version__
    if name == "tensorrt" and version_tuple(version)[:2] < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise LibraryError(
            f"TensorRT: expected version {oldest} or newer, got {version}; {INSTALL[name]}"
        )
    return Library(name, module, version)
