"""FGM-CLIP itself: served by us, in PyTorch, in runtimes as they come, in a naive repository."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fgmclip.bench.cost.competitor import EAGER, NAIVE, SERVED, Competitor
from fgmclip.bench.cost.peer_process import ProcessCompetitor
from fgmclip.bench.cost.peers import chain
from fgmclip.bench.cost.peers.chain import How, Stage, chain_task, openvino_precision
from fgmclip.bench.cost.peers.graphs import Definition, ModelPart
from fgmclip.bench.cost.peers.recipe import Counted, Graphs, Recipe, blank_entry
from fgmclip.bench.cost.peers.servers import Frames, NaiveCompetitor, ServedCompetitor
from fgmclip.bench.cost.plan import Plan
from fgmclip.bench.cost.report import Entry, Group
from fgmclip.bench.frames import moving_frames
from fgmclip.export.names import PARTS
from fgmclip.export.sources import DEMO_CHECKPOINT
from fgmclip.kernels.parameters import PreprocessParameters
from fgmclip.spec import ModelSpec

_EAGER_MODULE = "fgmclip.bench.cost.peers.eager"
"""The child's module; imported here it would run torch in this process."""

NETWORK = "network, probabilities"


def own_recipes(plan: Plan) -> list[Recipe]:
    """Return all that runs the model of a plan."""
    whole = counted(plan.spec, definitions(plan))
    return [
        _served(plan, whole),
        _pytorch(plan, whole, EAGER, "PyTorch eager, fp32", "fp32", quick=True),
        _pytorch(plan, whole, "eager-bf16", "PyTorch eager, bf16 weights", "bf16", quick=True),
        _pytorch(plan, whole, "compile-fp32", "PyTorch compiled, fp32", "compile", quick=False),
        *(_runtime(plan, whole, *row) for row in _RUNTIMES),
        _naive(plan, whole),
    ]


def source_of(plan: Plan) -> str:
    """Return the checkpoint that a plan names; empty for random weights."""
    path = DEMO_CHECKPOINT if plan.model == "demo" else Path(plan.model)
    return str(path.resolve()) if path.is_file() else ""


def clip_frames(plan: Plan) -> Frames:
    """Return the common clip, u8 [T+1,S,S,3]: every model of it sees the same one."""
    frames, height, width = plan.clip
    return moving_frames(frames + 1, height, width)


def model_parts(spec: ModelSpec) -> tuple[ModelPart, ...]:
    """Return the parts that run, in their order."""
    parts = [part for part in PARTS if part != "motion_encoder" or spec.motion is not None]
    return (*parts, "classifier")


def definitions(plan: Plan) -> dict[ModelPart, Definition]:
    """Return the parts of the model of a plan as PyTorch exports them."""
    source = source_of(plan)
    return {
        part: Definition.part(plan.spec, part, source=source) for part in model_parts(plan.spec)
    }


def counted(spec: ModelSpec, parts: Mapping[ModelPart, Definition]) -> Counted:
    """Return what a model consists of: encoders run once a frame, the rest once a clip.

    Args:
        spec: Its spec.
        parts: Its parts.
    """
    encoders = ("clip_image_encoder", "motion_encoder")
    runs = {
        definition: spec.clip.frames if part in encoders else 1
        for part, definition in parts.items()
    }
    return Counted(runs, (Definition.part(spec, "text_tower"),))


def make_stage(
    spec: ModelSpec, part: ModelPart, graph: Path, how: How, options: Mapping[str, Any]
) -> Stage:
    """Return a part as a stage of a chain."""
    windows = ("VISUAL",) if spec.motion is None else ("VISUAL", "MOTION_FEATURES")
    ports: dict[str, tuple[tuple[str, ...], str]] = {
        "clip_image_encoder": (("PIXELS",), "VISUAL"),
        "motion_encoder": (("MOTION",), "MOTION_FEATURES"),
        "fusion_head": (windows, "EMBEDDING"),
        "classifier": (("EMBEDDING",), "LOGITS"),
        "mean_head": (("VISUAL",), "LOGITS"),
    }
    inputs, output = ports[part]
    return Stage(str(graph), inputs, output, how, options)


def in_process(spec: ModelSpec) -> str:
    """Return what the time of a model includes that runs in a process without a server."""
    flow = "" if spec.motion is None else " and flow"
    return f"normalise{flow} by our kernels, {NETWORK}"


def chain_competitor(
    plan: Plan, entry: Entry, stages: list[Stage], parameters: PreprocessParameters, frames: Frames
) -> Competitor:
    """Return a competitor that runs a chain of graphs in a process of its own."""
    task = chain_task(stages, parameters, plan.device)
    return ProcessCompetitor(entry, chain.__name__, task, frames, plan.threads)


def openvino_fault(plan: Plan) -> str:
    """Return why OpenVINO does not take part, if so."""
    if plan.device != "cpu":
        return "OpenVINO would compute on the CPU here, and this run is about the GPU"
    try:
        openvino_precision()
    except ImportError as error:
        return f"{error}; pip install 'fgmclip[cpu]'"
    return ""


def default_precision() -> str:
    """Return what OpenVINO computes fp32 graphs in here, unless it is told otherwise."""
    return openvino_precision().replace("f32", "fp32")


def _entry(plan: Plan, key: str, name: str, group: Group, precision: str, **more: str) -> Entry:
    includes = more.pop("includes", in_process(plan.spec))
    return blank_entry(key, name, group, plan.clip, precision=precision, includes=includes, **more)


def _served(plan: Plan, whole: Counted) -> Recipe:
    flow = "" if plan.spec.motion is None else ", flow"
    entry = _entry(
        plan,
        SERVED,
        "fgmclip, served",
        "served",
        plan.precision,
        verdict=plan.verdict,
        includes=f"u8 stages by the client, gRPC, normalise{flow}, {NETWORK}",
    )

    def make(entry: Entry, graphs: Graphs) -> Competitor:
        return ServedCompetitor(entry, plan.repository, plan.release, clip_frames(plan))

    return Recipe(entry, whole, make, quick=True)


def _pytorch(plan: Plan, whole: Counted, key: str, name: str, mode: str, *, quick: bool) -> Recipe:
    task = {
        "spec": plan.spec.to_json(),
        "source": source_of(plan),
        "mode": mode,
        "device": plan.device,
    }

    def make(entry: Entry, graphs: Graphs) -> Competitor:
        frames = clip_frames(plan)
        compiles = mode == "compile"
        return ProcessCompetitor(entry, _EAGER_MODULE, task, frames, plan.threads, compiles)

    precision = "bf16" if mode == "bf16" else "fp32"
    return Recipe(_entry(plan, key, name, "pytorch", precision), whole, make, quick)


_F32 = {"INFERENCE_PRECISION_HINT": "f32"}

_RUNTIMES: tuple[tuple[str, str, How, Mapping[str, Any], bool], ...] = (
    ("onnxruntime-fp32", "ONNX Runtime as is", "onnxruntime", {}, True),
    ("openvino-default", "OpenVINO as is", "openvino", {}, True),
    ("openvino-f32", "OpenVINO, f32 asked for", "openvino", _F32, False),
)
"""Key, name, runtime, what it is told, and whether it takes part in a quick run."""


def _runtime(
    plan: Plan,
    whole: Counted,
    key: str,
    name: str,
    how: How,
    options: Mapping[str, Any],
    quick: bool,
) -> Recipe:
    why = openvino_fault(plan) if how == "openvino" else ""
    unasked = how == "openvino" and not options and not why
    precision = default_precision() if unasked else "fp32"
    parts = definitions(plan)

    def make(entry: Entry, graphs: Graphs) -> Competitor:
        stages = [
            make_stage(plan.spec, part, graphs[definition].path, how, options)
            for part, definition in parts.items()
        ]
        parameters = PreprocessParameters.from_spec(plan.spec)
        return chain_competitor(plan, entry, stages, parameters, clip_frames(plan))

    return Recipe(_entry(plan, key, name, "runtime", precision, why=why), whole, make, quick)


def _naive(plan: Plan, whole: Counted) -> Recipe:
    spec, parts = plan.spec, definitions(plan)
    flow = "" if spec.motion is None else " and OpenCV's DIS flow"
    entry = _entry(
        plan,
        NAIVE,
        "Triton set up without us",
        "naive",
        "fp32",
        includes=f"gRPC, PIL and NumPy preprocessing{flow} in Python, {NETWORK} in ONNX Runtime",
        why="" if plan.device == "cpu" else "its repository is written for a CPU",
    )

    def make(entry: Entry, graphs: Graphs) -> Competitor:
        paths = {str(part): graphs[definition].path for part, definition in parts.items()}
        return NaiveCompetitor(entry, spec, paths, plan.threads, clip_frames(plan))

    return Recipe(entry, whole, make, quick=True)
