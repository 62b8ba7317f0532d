"""Serving settings of a release's steps: what Triton is told, and why, from measured times.

Each setting is a piece of `config.pbtxt`, so what the manifest says and what the server reads are
the same text. There is no queue policy on purpose: a bound or a timeout makes Triton's scheduler
wait until the engine asks for work (server issue 8870 has more of it), and nothing wakes it then
but the next request that it accepts, or half a second. Past saturation such a server stood nearly
idle and refused almost everything; without a policy it goes on at full speed, and clients' own
deadlines and numbers of requests in flight bound what waits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from fgmclip.export.configs import format_config, parse_config
from fgmclip.export.gate import GateReport
from fgmclip.export.names import PARTS
from fgmclip.export.targets import Target
from fgmclip.spec import ModelSpec
from fgmclip.spec.base import FrozenSpec

ENCODERS = ("clip_image_encoder", "motion_encoder")
NOT_MEASURED = "not measured"


class ServingSetting(FrozenSpec):
    """One thing that Triton is told about a step.

    Attributes:
        model: The step, for example `motion_encoder`.
        setting: What it is about: `instances`, `batching`, `warm-up` or `CUDA graphs`.
        value: The lines of `config.pbtxt`.
        why: The reason in one sentence.
        measured: Figures that it follows from, milliseconds, as the gate measured them; empty
            where nothing was measured.
    """

    model: str
    setting: str
    value: str
    why: str
    measured: dict[str, float] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EngineTimes:
    """Median times of one engine, milliseconds.

    Attributes:
        clip: A clip's T rows at once.
        single: One row.
    """

    clip: float
    single: float


def engine_times(gate: GateReport | None) -> dict[str, EngineTimes]:
    """Return what the gate measured of the engines that the release serves, by submodule."""
    verdicts = gate.verdicts if gate is not None else ()
    return {
        verdict.part: EngineTimes(verdict.milliseconds, verdict.single_milliseconds)
        for verdict in verdicts
        if verdict.taken
        and verdict.part in PARTS
        and verdict.milliseconds is not None
        and verdict.single_milliseconds is not None
    }


def serving_settings(
    configs: Mapping[str, Any], spec: ModelSpec, target: Target, gate: GateReport | None
) -> tuple[ServingSetting, ...]:
    """Return the settings of every step of a release.

    Args:
        configs: Triton's `ModelConfig` of each step, by name in the skeleton.
        spec: The model's.
        target: Where the engines run.
        gate: What was measured; None where nothing was.
    """
    times = engine_times(gate)
    found: list[ServingSetting] = []
    for step, config in configs.items():
        found.append(_instances(step, target))
        if step in PARTS:
            found.append(_batching(step, spec, times.get(step)))
        found.append(_warm_up(step, config, spec))
    return tuple(found)


def cuda_graphs(step: str, config: Any, spec: ModelSpec) -> ServingSetting:
    """Return the CUDA graphs of an engine in Triton's tensorrt backend.

    A clip and a stream's new frame are captured; merged batches of other sizes run without. What
    it gains was not measured: no server with that backend has run this.

    Args:
        step: The step.
        config: Its `ModelConfig` for the tensorrt backend.
        spec: The model's.
    """
    inputs = "".join(
        f'input {{ key: "{item.name}" value {{ dim: {list(item.dims)} }} }} '
        for item in config.input
    )
    specs = "".join(
        f"graph_spec {{ batch_size: {rows} {inputs}}} " for rows in _batches(step, spec)
    )
    return ServingSetting(
        model=step,
        setting="CUDA graphs",
        value=_tidy(f"optimization {{ cuda {{ graphs: true {specs}}} }}"),
        why="a graph launches all kernels of an engine at once; the batches of a clip and of a "
        f"stream's new frame are captured; what it gains was {NOT_MEASURED}",
    )


def apply_settings(config: Any, settings: Iterable[ServingSetting]) -> None:
    """Write the settings of one step into its config.

    Args:
        config: Triton's `ModelConfig` of the step; where it runs is decided already.
        settings: Of all steps, or of this one.
    """
    step = config.name.partition("__")[0]
    for setting in settings:
        if setting.model == step:
            piece = parse_config(setting.value)
            for group in config.instance_group:
                for wanted in piece.instance_group:
                    group.count = wanted.count
            del piece.instance_group[:]
            # Lists would grow where a setting is applied again.
            if piece.model_warmup:
                del config.model_warmup[:]
            if piece.optimization.HasField("cuda"):
                config.optimization.ClearField("cuda")
            config.MergeFrom(piece)


def _instances(step: str, target: Target) -> ServingSetting:
    if step in PARTS and target == "cpu":
        why = "an engine computes on all cores; a second one would take them from the first"
    elif step in PARTS:
        why = f"one engine fills a GPU where batches merge; more were {NOT_MEASURED}"
    else:
        why = "takes a small part of the time of the engines, which it would slow down"
    return ServingSetting(
        model=step, setting="instances", value=_tidy("instance_group { count: 1 }"), why=why
    )


def _batching(step: str, spec: ModelSpec, times: EngineTimes | None) -> ServingSetting:
    value = _tidy("dynamic_batching { max_queue_delay_microseconds: 0 }")
    why = "what waits while the engine is busy is merged; nothing waits for company"
    measured = {}
    if times is None:
        why += f"; what merging saves was {NOT_MEASURED}"
    elif step in ENCODERS:
        rows = spec.clip.frames
        saved = 1 - times.clip / (rows * times.single)
        why += f": a row costs {saved:.0%} less in a batch of {rows}, a wait costs every decision"
        measured = {"batch 1": times.single, f"batch {rows}": times.clip}
    return ServingSetting(model=step, setting="batching", value=value, why=why, measured=measured)


def _warm_up(step: str, config: Any, spec: ModelSpec) -> ServingSetting:
    samples = "".join(
        f'model_warmup {{ name: "batch {rows}" batch_size: {rows} '
        + "".join(
            f'inputs {{ key: "{name}" value {{ data_type: {kind} dims: {list(dims)} '
            "zero_data: true } } "
            for name, kind, dims in _warm_inputs(step, config, spec)
        )
        + "} "
        for rows in _batches(step, spec)
    )
    return ServingSetting(
        model=step,
        setting="warm-up",
        value=_tidy(samples),
        why="first calls import, allocate and compile: the server does that before it says ready",
    )


def _warm_inputs(
    step: str, config: Any, spec: ModelSpec
) -> Iterator[tuple[str, str, Sequence[int]]]:
    """Yield name, type and dims of what a step is warmed up with: one clip of one track."""
    frames, size = spec.clip.frames, spec.visual.image_size
    counts = {"FRAMES": frames + 1, "EMBEDDING": 1}
    for item in config.input:
        if item.optional:
            continue
        dims = list(item.dims)
        if item.name == "FRAMES":
            dims = [-1, size, size, 3]
        if config.max_batch_size == 0:
            dims[0] = counts.get(item.name, frames)
        yield item.name, _type_name(item), dims


def _batches(step: str, spec: ModelSpec) -> tuple[int, ...]:
    """Return the usual batches of a step: a new frame and a clip where frames are the batch."""
    return (1, spec.clip.frames) if step in ENCODERS else (1,)


def _type_name(item: Any) -> str:
    name: str = (
        item.DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_number[item.data_type].name
    )
    return name


def _tidy(text: str) -> str:
    """Return a piece of config as Triton's protobuf prints it, so that mistakes show here."""
    return format_config(parse_config(text))
