"""FGM-CLIP, changed as the paper's section 4.2 and Tables 3 and 4 change it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fgmclip.bench.cost.competitor import Competitor
from fgmclip.bench.cost.peers.chain import How
from fgmclip.bench.cost.peers.fgm import (
    chain_competitor,
    clip_frames,
    counted,
    definitions,
    in_process,
    make_stage,
    model_parts,
)
from fgmclip.bench.cost.peers.graphs import Definition, ModelPart
from fgmclip.bench.cost.peers.recipe import Graphs, Recipe, blank_entry
from fgmclip.bench.cost.plan import Plan
from fgmclip.bench.cost.report import Entry
from fgmclip.export.configs import parse_config
from fgmclip.export.names import PARTS, step_name
from fgmclip.kernels.parameters import PreprocessParameters
from fgmclip.spec import ModelSpec
from fgmclip.spec.model import AlignSpec, ContextSpec, HeadSpec, VisualSpec

RESNET50 = "torchvision:resnet50"


@dataclass(frozen=True, slots=True)
class Ablation:
    """A changed model.

    Attributes:
        key: Of its entry.
        name: For people.
        spec: Of the changed model.
    """

    key: str
    name: str
    spec: ModelSpec


def ablations(spec: ModelSpec) -> list[Ablation]:
    """Return the changes that a model allows: without motion there is none to take away.

    Args:
        spec: Of the whole model.
    """
    visual = spec.visual
    without_clip = spec.replace(
        name=f"{spec.name}-resnet50",
        visual=VisualSpec(
            architecture=RESNET50,
            image_size=visual.image_size,
            width=visual.width,
            mean=visual.mean,
            std=visual.std,
        ),
        # Without CLIP there is no text tower to compare with.
        head=HeadSpec() if spec.needs_text else spec.head,
        context=ContextSpec() if spec.context.source == "prompts" else spec.context,
    )
    found = []
    if visual.architecture != RESNET50:
        found.append(Ablation("ablation-resnet50", "ResNet-50 instead of CLIP", without_clip))
    if spec.motion is not None:
        without_motion = spec.replace(
            name=f"{spec.name}-no-motion", motion=None, align=AlignSpec(method="none")
        )
        tcn = without_motion.replace(
            name=f"{spec.name}-tcn", fusion=spec.fusion.replace(temporal="tcn")
        )
        found += [
            Ablation("ablation-no-motion", "no motion encoder", without_motion),
            Ablation("ablation-tcn", "TCN instead of the motion encoder", tcn),
        ]
    if spec.fusion.method != "concat":
        concat = spec.replace(
            name=f"{spec.name}-concat", fusion=spec.fusion.replace(method="concat")
        )
        found.append(Ablation("ablation-concat", "concatenation instead of fusion", concat))
    return found


def ablation_recipes(plan: Plan) -> list[Recipe]:
    """Return the changed models, each on the rungs that the gate chose for the whole one.

    Parts that are not changed run by the release's own engines, the others in the same runtime
    with the same options; nothing is judged again.
    """
    return [_recipe(plan, ablation) for ablation in ablations(plan.spec)]


@dataclass(frozen=True, slots=True)
class _Engine:
    """What a release runs a part by."""

    graph: Path
    how: How
    options: Mapping[str, str]
    rung: str


def _recipe(plan: Plan, ablation: Ablation) -> Recipe:
    spec, engines = ablation.spec, _release_engines(plan)
    whole = definitions(plan)
    kept = {
        part
        for part in model_parts(spec)
        if part in whole and Definition.part(spec, part) == Definition.part(plan.spec, part)
    }
    parts = {
        part: whole[part] if part in kept else Definition.part(spec, part)
        for part in model_parts(spec)
    }
    # What runs instead of a release's engine: the plain graph, unless its rung is int8.
    made = {
        part: Definition.part(spec, part, form="int8")
        if part in engines and engines[part].rung == "int8"
        else definition
        for part, definition in parts.items()
        if part not in kept or part not in engines
    }
    # The classifier is a small product beside them, in fp32 as a release has it.
    rungs = [engines.get(part, _PLAIN).rung for part in parts if part != "classifier"]
    precision = rungs[0] if len(set(rungs)) == 1 else "/".join(rungs)

    def make(entry: Entry, graphs: Graphs) -> Competitor:
        stages = []
        for part in parts:
            engine = engines.get(part, _PLAIN)
            graph = graphs[made[part]].path if part in made else engine.graph
            stages.append(make_stage(spec, part, graph, engine.how, engine.options))
        parameters = PreprocessParameters.from_spec(spec)
        return chain_competitor(plan, entry, stages, parameters, clip_frames(plan))

    entry = blank_entry(
        ablation.key,
        ablation.name,
        "ablation",
        plan.clip,
        precision=precision,
        includes=f"{in_process(spec)}; the release's rungs, not judged again",
    )
    return Recipe(entry, counted(spec, parts), make, quick=True, needs=tuple(made.values()))


_PLAIN = _Engine(Path(), "onnxruntime", {}, "fp32")
"""What runs a part that the release has no engine of, or none for this kind of process."""


def _release_engines(plan: Plan) -> dict[ModelPart, _Engine]:
    """Return the engines of a release for CPUs; of another there are none to run here."""
    parts = [part for part in PARTS if part in model_parts(plan.spec)]
    rungs = plan.precision.split("/")
    found: dict[ModelPart, _Engine] = {}
    for index, part in enumerate(parts):
        folder = plan.repository.resolve() / step_name(part, plan.release)
        config = parse_config((folder / "config.pbtxt").read_text(encoding="utf-8"))
        options = {key: value.string_value for key, value in config.parameters.items()}
        how = _HOWS.get(options.pop("runtime", ""))
        if how is None:
            return {}
        graph = folder / "1" / options.pop("engine")
        found[part] = _Engine(graph, how, options, rungs[index % len(rungs)])
    return found


_HOWS: dict[str, How] = {
    "onnxruntime": "release-onnxruntime",
    "openvino": "release-openvino",
}
