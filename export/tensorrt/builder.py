"""One builder of engines for TensorRT 10, TensorRT 11 and TensorRT for RTX."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import onnx

from fgmclip.export.tensorrt.errors import EngineBuildError, GraphRefusedError, LibraryError
from fgmclip.export.tensorrt.graph_types import Precision
from fgmclip.export.tensorrt.library import (
    Builder,
    Config,
    Library,
    Network,
    RtxConfig,
)
from fgmclip.export.tensorrt.parser import parse_graph
from fgmclip.export.tensorrt.progress import BuildProgress, Progress
from fgmclip.serve.runtimes.libraries import LibraryName
from fgmclip.serve.runtimes.recipe import Rest
from fgmclip.storage.atomic import ABANDONED_SECONDS, remove_temporaries, write_bytes

RTX_SMS = (75, 80, 86, 89, 120, 121)
"""Compute capabilities that TensorRT for RTX 1.7 builds for without a GPU."""

NO_ENGINE: dict[LibraryName, str] = {
    "tensorrt": "a GPU with a driver for this version is needed, and memory: lower --max-batch",
    "rtx": "try other --sm, another --precision or a lower --max-batch",
}
"""What to do when the builder gives nothing."""

USUAL_BATCH = 8
"""Batch that kernels are chosen for: about one clip's frames."""


@dataclass(frozen=True)
class BuildOptions:
    """What an engine is built for.

    Attributes:
        precision: What the graph computes in; the builder itself is told nothing of it.
        rest: What an int8 graph's unquantised nodes compute in; of other graphs the precision.
        keep: Names of nodes that stay fp32.
        max_batch: Largest batch; the smallest is 1. One profile for all: with several, a change
            of batch switches profiles and doubled the latency of a stream (Triton issue 8171).
        sms: Compute capabilities to build for, TensorRT for RTX only; none means its default,
            every GPU from 8.0 on.
        level: Optimisation level 0 to 5; the library's own (3) if None.
        version_compatible: Whether later versions can read the engine, TensorRT only.
        hardware_compatible: Whether every GPU from Ampere on can, TensorRT only.
        timing_cache: File with kernels' times, read and written, TensorRT only.
    """

    precision: Precision
    max_batch: int = 64
    sms: tuple[int, ...] = ()
    level: int | None = None
    version_compatible: bool = False
    hardware_compatible: bool = False
    timing_cache: Path | None = None
    rest: Rest | None = None
    keep: tuple[str, ...] = ()

    @property
    def half(self) -> Rest | None:
        """What fp32 nodes are converted to, or None where they stay."""
        wanted = self.rest if self.precision == "int8" else self.precision
        return None if wanted in ("fp32", None) else wanted

    @property
    def has_fp32(self) -> bool:
        """Whether products are meant to be fp32: not TF32, which is the library's default."""
        return self.half is None or bool(self.keep)

    @property
    def usual_batch(self) -> int:
        """Batch that kernels are chosen for."""
        return min(USUAL_BATCH, self.max_batch)

    def profile(self, shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
        """Return the smallest, usual and largest shape of an input.

        Args:
            shape: Its shape in the network, -1 first.
        """
        batches = (1, self.usual_batch, self.max_batch)
        return tuple((batch, *shape[1:]) for batch in batches)


@dataclass(frozen=True)
class BuiltEngine:
    """A serialized engine.

    Attributes:
        data: The engine.
        seconds: Time that parsing and building took.
        warnings: What the library warned of.
    """

    data: bytes
    seconds: float
    warnings: tuple[str, ...]


def check_options(library: Library, options: BuildOptions) -> None:
    """Refuse options that a library does not have.

    Raises:
        LibraryError: It does not have one of them.
    """
    if library.name == "tensorrt" and options.sms:
        raise LibraryError(
            "--sm: expected with --library rtx, got --library tensorrt, which builds for the GPU "
            "that it finds; leave --sm out and build on the target"
        )
    if library.name == "rtx" and (options.version_compatible or options.hardware_compatible):
        raise LibraryError(
            "compatible engines: expected with --library tensorrt, got --library rtx, whose "
            "engines fit one version and the GPUs named with --sm; leave the option out"
        )
    known = [sm for sm in RTX_SMS if hasattr(_capabilities(library), f"SM{sm}")]
    unknown = [sm for sm in options.sms if sm not in known]
    if unknown:
        raise LibraryError(
            f"--sm: expected some of {', '.join(map(str, known))}, got "
            f"{', '.join(map(str, unknown))}, which {library.title} does not build for"
        )
    _refuse_bf16_on_turing(options)


def _refuse_bf16_on_turing(options: BuildOptions) -> None:
    # The library says so too, but as "HW-specific datatypes: b16" after all the work.
    if options.precision == "bf16" and 75 in options.sms:
        raise LibraryError(
            "--precision: expected fp16 or fp32 with --sm 75, got bf16, which GPUs know from 8.0 "
            "on; leave 75 out"
        )


def build_engine(
    library: Library,
    model: onnx.ModelProto,
    options: BuildOptions,
    *,
    progress: Progress = lambda phase, share: None,
) -> BuiltEngine:
    """Build an engine.

    Args:
        library: The library to build with.
        model: The graph, in the types that it shall compute in.
        options: What to build for.
        progress: Called as the build goes on.

    Raises:
        GraphRefusedError: The graph cannot become an engine.
        LibraryError: The library lacks an option.
        EngineBuildError: The builder failed.
    """
    check_options(library, options)
    start = time.perf_counter()
    lines: list[str] = []
    logger = library.logger(lines)
    builder = library.builder(logger)
    network = parse_graph(library, builder, logger, model.SerializeToString())
    config = builder.create_builder_config()
    _add_profile(library, builder, network, config, options)
    _configure(library, config, options)
    watch = BuildProgress(progress)
    # The monitor has to outlive the build: the library holds no reference to it.
    monitor = watch.monitor(library.module)
    config.progress_monitor = monitor
    serialized = builder.build_serialized_network(network, config)
    if watch.interrupted:
        raise KeyboardInterrupt
    if serialized is None:
        said = " | ".join(lines) or "nothing was logged"
        raise EngineBuildError(
            f"{library.title}: expected an engine, got none ({said}); {NO_ENGINE[library.name]}"
        )
    if library.name == "tensorrt" and options.timing_cache is not None:
        try:
            _keep_timing_cache(config, options.timing_cache)
        except OSError as error:
            # The next build takes longer; this one's engine is not to be lost over it.
            lines.append(f"{options.timing_cache}: timings are not kept ({error.strerror})")
    seconds = time.perf_counter() - start
    return BuiltEngine(bytes(cast(Any, serialized)), seconds, tuple(dict.fromkeys(lines)))


def _add_profile(
    library: Library, builder: Builder, network: Network, config: Config, options: BuildOptions
) -> None:
    profile = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        shape = tuple(tensor.shape)
        if not shape or shape[0] != -1 or -1 in shape[1:]:
            raise GraphRefusedError(
                f"input {tensor.name}: expected a free first axis and fixed others, got "
                f"{list(shape)} (-1 is free); export the graph with its batch as the only free axis"
            )
        profile.set_shape(tensor.name, *options.profile(shape))
    if config.add_optimization_profile(profile) < 0:
        raise EngineBuildError(
            f"{library.title}: expected a profile of 1 to {options.max_batch}, got a refusal; "
            "lower --max-batch"
        )


def _configure(library: Library, config: Config, options: BuildOptions) -> None:
    trt = library.module
    # Without it the inspector names layers but not their types.
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if options.has_fp32:
        # TF32 is on by default and has fp16's mantissa: not what fp32 was asked for.
        config.clear_flag(trt.BuilderFlag.TF32)
    if options.level is not None:
        config.builder_optimization_level = options.level
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if options.hardware_compatible:
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    if library.name == "rtx":
        rtx = cast(RtxConfig, config)
        if options.sms:
            rtx.num_compute_capabilities = len(options.sms)
        for index, sm in enumerate(options.sms):
            rtx.set_compute_capability(getattr(_capabilities(library), f"SM{sm}"), index)
    elif options.timing_cache is not None:
        # In TensorRT for RTX these calls are deprecated and do nothing: it times nothing.
        path = options.timing_cache
        cache = config.create_timing_cache(path.read_bytes() if path.is_file() else b"")
        config.set_timing_cache(cache, False)


def _keep_timing_cache(config: Config, path: Path) -> None:
    cache = config.get_timing_cache()
    if cache is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_temporaries(path.parent, abandoned_seconds=ABANDONED_SECONDS)
        write_bytes(path, bytes(cast(Any, cache.serialize())))


def _capabilities(library: Library) -> Any:
    return getattr(library.module, "ComputeCapability", None)
