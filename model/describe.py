"""What a model is made of and costs: shapes, parameters, multiply-adds.

The count of record is that of the ONNX graph, attention products included. torch's own counter
stands beside it, with the fast path of attention switched off: inside it, torch counts nothing.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from itertools import chain

import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fgmclip.model.build import build_model
from fgmclip.model.clip_towers import has_text_tower, text_tower
from fgmclip.model.network import FgmClip
from fgmclip.model.onnx_graph import Part, Signature, export_graph, multiply_adds, signature
from fgmclip.spec import ModelSpec


@dataclass(frozen=True, slots=True)
class PartDescription:
    """One submodule.

    Attributes:
        name: Of the submodule; `fusion_head.align` and the like are part of the one above.
        inputs: Shape by tensor name, with the batch axis's name first.
        outputs: The same.
        parameters: Number of weights.
        multiply_adds: Of one run for a batch of one, from the ONNX graph; None where it is not run
            for a clip.
        multiply_adds_torch: The same by torch's counter.
        runs: How often it runs for one clip.
        served: Whether the server runs it.
    """

    name: str
    inputs: dict[str, list[str | int]]
    outputs: dict[str, list[str | int]]
    parameters: int
    multiply_adds: int | None
    multiply_adds_torch: int | None
    runs: int
    served: bool

    @property
    def difference(self) -> float | None:
        """Difference of the two counts, relative to the ONNX graph's."""
        if self.multiply_adds is None or self.multiply_adds_torch is None:
            return None
        return abs(self.multiply_adds - self.multiply_adds_torch) / max(1, self.multiply_adds)


@dataclass(frozen=True, slots=True)
class Description:
    """A whole model.

    Attributes:
        name: Of the spec.
        frames: T.
        parts: Submodules in the order of running; the text tower last.
    """

    name: str
    frames: int
    parts: tuple[PartDescription, ...]

    @property
    def parameters(self) -> int:
        """Number of weights, the text tower's counted."""
        return sum(part.parameters for part in self.parts)

    @property
    def parameters_served(self) -> int:
        """Number of weights that the server holds."""
        return sum(part.parameters for part in self.parts if part.served)

    @property
    def multiply_adds_per_clip(self) -> int:
        """Multiply-adds of one clip of T frames, from the ONNX graphs."""
        return sum((part.multiply_adds or 0) * part.runs for part in self.parts)

    @property
    def multiply_adds_per_clip_torch(self) -> int:
        """The same by torch's counter."""
        return sum((part.multiply_adds_torch or 0) * part.runs for part in self.parts)

    def to_json(self) -> str:
        """Return everything as indented JSON."""
        whole = {
            "name": self.name,
            "frames": self.frames,
            "parameters": self.parameters,
            "parameters_served": self.parameters_served,
            "multiply_adds_per_clip": self.multiply_adds_per_clip,
            "multiply_adds_per_clip_torch": self.multiply_adds_per_clip_torch,
            "parts": [asdict(part) | {"difference": part.difference} for part in self.parts],
        }
        return json.dumps(whole, indent=2)


def describe(source: ModelSpec | FgmClip) -> Description:
    """Count a model; one that is given as a spec is built with random weights.

    Raises:
        BuildError: The spec names a network that cannot be built.
        GraphError: A submodule does not become a graph.
    """
    model = build_model(source, seed=0) if isinstance(source, ModelSpec) else source
    frames, spec = model.spec.clip.frames, model.spec
    parts = [_part(signature(model, "clip_image_encoder"), "clip_image_encoder", frames)]
    if model.motion_encoder is not None:
        parts.append(_part(signature(model, "motion_encoder"), "motion_encoder", frames))
    parts.append(_part(signature(model, "fusion_head"), "fusion_head", 1))
    parts.append(_part(signature(model, "classifier"), "classifier", 1))
    if has_text_tower(spec.visual):
        parts.append(_text(spec))
    return Description(spec.name, frames, tuple(parts))


def print_description(description: Description, console: Console) -> None:
    """Print a table of submodules and the sums below it."""
    table = Table(title=description.name, title_justify="left")
    table.add_column("submodule")
    table.add_column("shapes")
    for column in ("parameters", "G multiply-adds", "by torch", "difference", "runs a clip"):
        table.add_column(column, justify="right")
    for part in description.parts:
        difference = part.difference
        table.add_row(
            part.name if part.served else f"{part.name} (counted, not served)",
            f"{_shapes(part.inputs)} -> {_shapes(part.outputs)}",
            f"{part.parameters / 1e6:.2f} M",
            _giga(part.multiply_adds),
            _giga(part.multiply_adds_torch),
            "" if difference is None else f"{difference:.2%}",
            str(part.runs),
        )
    table.add_section()
    table.add_row(
        "a clip",
        f"T = {description.frames}",
        f"{description.parameters / 1e6:.2f} M",
        _giga(description.multiply_adds_per_clip),
        _giga(description.multiply_adds_per_clip_torch),
    )
    console.print(table)
    console.print(f"served: {description.parameters_served / 1e6:.2f} M parameters")


def _part(of: Signature, name: Part | str, runs: int) -> PartDescription:
    graph = export_graph(of)
    width = graph.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    return PartDescription(
        name=name,
        inputs={key: [of.axis, *shape] for key, shape in of.inputs.items()},
        outputs={of.output: [of.axis, width]},
        parameters=_parameters(of.module),
        multiply_adds=multiply_adds(graph),
        multiply_adds_torch=_torch_multiply_adds(of),
        runs=runs,
        served=True,
    )


def _text(spec: ModelSpec) -> PartDescription:
    """Describe the architecture's text tower, whether or not the model holds it."""
    # Shapes are enough to count; the weights are not made.
    with torch.device("meta"):
        tower = text_tower(spec.visual)
    length: int = tower.get_buffer("attn_mask").shape[0]
    return PartDescription(
        name="text_encoder",
        inputs={"TOKENS": ["K", length]},
        outputs={"TEXT": ["K", spec.visual.width]},
        parameters=_parameters(tower),
        multiply_adds=None,
        multiply_adds_torch=None,
        runs=0,
        served=False,
    )


def _parameters(module: nn.Module) -> int:
    return sum(item.numel() for item in module.parameters())


def _torch_multiply_adds(of: Signature) -> int:
    # On the meta device nothing is computed, and attention is not fused into one uncounted step.
    module = of.module
    state = {
        name: tensor.to("meta")
        for name, tensor in chain(module.named_parameters(), module.named_buffers())
    }
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            torch.func.functional_call(module, state, of.zeros(1, torch.device("meta")))
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    # torch counts a multiply-add as two operations.
    return int(counter.get_total_flops()) // 2


def _shapes(tensors: dict[str, list[str | int]]) -> str:
    return ", ".join(f"{name} [{','.join(map(str, shape))}]" for name, shape in tensors.items())


def _giga(count: int | None) -> str:
    return "" if count is None else f"{count / 1e9:.3f}"
