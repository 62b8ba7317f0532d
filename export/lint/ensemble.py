"""The wires of an ensemble: what goes from which step to which, and whether both ends agree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fgmclip.export.lint.finding import ACTIVATE_AGAIN, EXPORT_AGAIN, Finding
from fgmclip.export.lint.graph import Tensor, config_tensor
from fgmclip.export.names import step_release


@dataclass(frozen=True, slots=True)
class End:
    """One end of a wire.

    Attributes:
        name: Model and tensor, for messages.
        tensor: Its type and dims.
        optional: Whether it may be absent.
        step: Whether it belongs to a step, not to the ensemble itself.
    """

    name: str
    tensor: Tensor
    optional: bool
    step: bool


def check_ensemble(
    path: str, config: Any, steps: Mapping[str, Any], release: int | None
) -> Iterator[Finding]:
    """Check an ensemble's config against those of its steps.

    Args:
        path: Where the config stands.
        config: Triton's `ModelConfig` of the ensemble.
        steps: Configs of the steps that are in the repository, by name; None if unreadable.
        release: The one that the ensemble says it serves; None if it says none.
    """
    if config.max_batch_size:
        yield Finding(
            "ensemble-batching",
            path,
            "max_batch_size: 0, frames being the batch of the encoders",
            str(config.max_batch_size),
            ACTIVATE_AGAIN,
        )
    named = config.ensemble_scheduling.step
    if config.platform != "ensemble" or not named:
        yield Finding(
            "backend",
            path,
            'platform "ensemble" with steps',
            f"{config.platform or config.backend or 'none'} with {len(named)} steps",
            ACTIVATE_AGAIN,
        )
    releases = {step_release(step.model_name) for step in named if step.model_name in steps}
    if releases and releases != {release} and not (release is None and len(releases) == 1):
        yield Finding(
            "step-release",
            path,
            f"steps of one release, {'any' if release is None else f'r{release}'}",
            ", ".join(sorted(step.model_name for step in named)),
            ACTIVATE_AGAIN,
        )
    for step in named:
        if step.model_name not in steps:
            yield Finding("step-missing", path, f"a step {step.model_name}", "none", EXPORT_AGAIN)
        elif (model := steps[step.model_name]) is not None:
            yield from _check_maps(path, step, model)
    yield from _check_wires(path, config, steps)


def _check_maps(path: str, step: Any, config: Any) -> Iterator[Finding]:
    for kind, mapping, tensors in (
        ("input_map", step.input_map, config.input),
        ("output_map", step.output_map, config.output),
    ):
        known = {item.name for item in tensors}
        for key in sorted(set(mapping) - known):
            yield Finding(
                "map-key",
                path,
                f"{kind} keys that {step.model_name} has: {', '.join(sorted(known))}",
                key,
                ACTIVATE_AGAIN,
            )
    required = {item.name for item in config.input if not item.optional}
    for key in sorted(required - set(step.input_map)):
        yield Finding(
            "input-unmapped",
            path,
            f"an input_map key {key}, which {step.model_name} requires",
            ", ".join(sorted(step.input_map)) or "none",
            ACTIVATE_AGAIN,
        )


def _check_wires(path: str, config: Any, steps: Mapping[str, Any]) -> Iterator[Finding]:
    sources, sinks = _ends(config, steps)
    for wire, ends in sources.items():
        if len(ends) > 1:
            yield Finding(
                "wire-sources",
                path,
                f"one source of {wire}",
                " and ".join(end.name for end in ends),
                ACTIVATE_AGAIN,
            )
        if ends and not ends[0].step and wire not in sinks:
            yield Finding("input-unused", path, f"a step that takes {wire}", "none", ACTIVATE_AGAIN)
    outputs = {item.name for item in config.output}
    for wire, ends in sinks.items():
        takers = [end.name for end in ends if end.step]
        if wire in outputs and takers:
            # Requested without this output, Triton waits for it for ever (FACTS.md).
            yield Finding(
                "deadlock",
                path,
                f"output {wire} of the ensemble to be no step's input as well",
                " and ".join(takers),
                "publish a copy that the step makes, as classify's EMBEDDING_COPY",
            )
        for end in ends:
            if wire not in sources:
                yield Finding(
                    "wire-source",
                    path,
                    f"a source of {wire} for {end.name}",
                    "none",
                    ACTIVATE_AGAIN,
                )
            elif sources[wire]:
                yield from _check_wire(path, wire, sources[wire][0], end)


def _ends(
    config: Any, steps: Mapping[str, Any]
) -> tuple[dict[str, list[End]], dict[str, list[End]]]:
    """Return where each wire comes from and where it goes.

    Of an end that nothing is known of, which has been said, the wire alone is there.
    """
    sources: dict[str, list[End]] = {}
    sinks: dict[str, list[End]] = {}
    for tensors, ends in ((config.input, sources), (config.output, sinks)):
        for item in tensors:
            optional = ends is sources and item.optional
            end = End(
                f"ensemble {item.name}", config_tensor(item, batched=False), optional, step=False
            )
            ends.setdefault(item.name, []).append(end)
    for step in config.ensemble_scheduling.step:
        model = steps.get(step.model_name)
        for ends, mapping in ((sinks, step.input_map), (sources, step.output_map)):
            for wire in mapping.values():
                ends.setdefault(wire, [])
        if model is None:
            continue
        for mapping, tensors, ends in (
            (step.input_map, model.input, sinks),
            (step.output_map, model.output, sources),
        ):
            known = {item.name: item for item in tensors}
            for key, wire in mapping.items():
                if key in known:
                    item = known[key]
                    optional = ends is sinks and item.optional
                    tensor = config_tensor(item, batched=bool(model.max_batch_size))
                    end = End(f"{step.model_name} {key}", tensor, optional, step=True)
                    ends.setdefault(wire, []).append(end)
    return sources, sinks


def _check_wire(path: str, wire: str, source: End, sink: End) -> Iterator[Finding]:
    a, b = source.tensor, sink.tensor
    if a.kind != b.kind:
        yield Finding(
            "wire-type",
            path,
            f"{wire}: one type, {source.name} {a.kind}",
            f"{sink.name} {b.kind}",
            EXPORT_AGAIN,
        )
    if len(a.dims) != len(b.dims):
        yield Finding(
            "wire-rank",
            path,
            f"{wire}: as many axes as {source.name} {a}",
            f"{sink.name} {b}",
            EXPORT_AGAIN,
        )
    elif any(-1 not in pair and pair[0] != pair[1] for pair in zip(a.dims, b.dims, strict=True)):
        yield Finding(
            "wire-shape",
            path,
            f"{wire}: the sizes of {source.name} {a}",
            f"{sink.name} {b}",
            EXPORT_AGAIN,
        )
    if source.optional and sink.step and not sink.optional:
        yield Finding(
            "wire-optional",
            path,
            f"{sink.name} to be optional, as {source.name} is",
            "required: a request without it would wait for ever",
            ACTIVATE_AGAIN,
        )
