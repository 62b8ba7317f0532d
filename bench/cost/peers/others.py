"""Other models that a user would pick: frame-mean CLIP, and networks over whole clips."""

from __future__ import annotations

from fgmclip.bench.cost.competitor import Competitor
from fgmclip.bench.cost.peers.chain import How, Stage
from fgmclip.bench.cost.peers.fgm import (
    NETWORK,
    chain_competitor,
    clip_frames,
    counted,
    default_precision,
    make_stage,
    openvino_fault,
    source_of,
)
from fgmclip.bench.cost.peers.graphs import Definition, ModelPart
from fgmclip.bench.cost.peers.recipe import Counted, Graphs, Recipe, blank_entry
from fgmclip.bench.cost.peers.video_models import VIDEO_MODELS, VideoModel
from fgmclip.bench.cost.plan import Plan
from fgmclip.bench.cost.report import Entry
from fgmclip.bench.frames import moving_frames
from fgmclip.kernels.parameters import PreprocessParameters
from fgmclip.spec.model import CLIP_MEAN, CLIP_STD, AlignSpec

RUNTIMES: tuple[tuple[How, str], ...] = (
    ("openvino", "OpenVINO"),
    ("onnxruntime", "ONNX Runtime"),
)

QUICK = frozenset({"mean-clip-openvino", "r2plus1d-18-openvino"})
"""Those that are exported in seconds, in the runtime that takes this processor's bf16."""


def other_recipes(plan: Plan) -> list[Recipe]:
    """Return frame-mean CLIP and every video model, each in both runtimes as they come."""
    found = []
    for how, runtime in RUNTIMES:
        found.append(_mean_clip(plan, how, runtime))
        found += [_video(plan, model, how, runtime) for model in VIDEO_MODELS]
    return found


def _mean_clip(plan: Plan, how: How, runtime: str) -> Recipe:
    spec = plan.spec.replace(motion=None, align=AlignSpec(method="none"))
    encoder = Definition.part(spec, "clip_image_encoder", source=source_of(plan))
    head = Definition.part(spec, "mean_head")
    parts: dict[ModelPart, Definition] = {"clip_image_encoder": encoder, "mean_head": head}
    why = ""
    if spec.visual.architecture.startswith("torchvision:"):
        why = f"{spec.visual.architecture} has no text tower to compare its frames with"

    def make(entry: Entry, graphs: Graphs) -> Competitor:
        stages = [
            make_stage(spec, part, graphs[definition].path, how, {})
            for part, definition in parts.items()
        ]
        parameters = PreprocessParameters.from_spec(spec)
        return chain_competitor(plan, entry, stages, parameters, clip_frames(plan))

    entry = _entry(
        plan,
        "mean-clip",
        f"CLIP {spec.visual.architecture}, mean over frames, text head",
        how,
        runtime,
        plan.clip,
        why,
    )
    return Recipe(entry, counted(spec, parts), make, entry.key in QUICK)


def _video(plan: Plan, model: VideoModel, how: How, runtime: str) -> Recipe:
    definition = Definition.video(model)
    clip = (model.frames, model.size, model.size)

    def make(entry: Entry, graphs: Graphs) -> Competitor:
        stage = Stage(str(graphs[definition].path), ("CLIP",), "LOGITS", how)
        # Each has its own mean and deviation; they cost the same.
        parameters = PreprocessParameters(
            model.size, CLIP_MEAN, CLIP_STD, "center", "bt601", "limited", None, None
        )
        frames = moving_frames(model.frames + 1, model.size, model.size)
        return chain_competitor(plan, entry, [stage], parameters, frames)

    entry = _entry(plan, model.key, model.name, how, runtime, clip, "")
    return Recipe(entry, Counted({definition: 1}), make, entry.key in QUICK)


def _entry(
    plan: Plan,
    key: str,
    name: str,
    how: How,
    runtime: str,
    clip: tuple[int, int, int],
    why: str,
) -> Entry:
    precision = "fp32"
    if how == "openvino":
        why = why or openvino_fault(plan)
        if not why:
            precision = default_precision()
    own = "" if clip == plan.clip else "; clips of its own shape"
    return blank_entry(
        f"{key}-{how}",
        f"{name}, {runtime}",
        "peer",
        clip,
        precision=precision,
        includes=f"normalise by our kernels, {NETWORK}{own}",
        why=why,
    )
