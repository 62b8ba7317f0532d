"""`ModelSpec`: everything that fixes a model's meaning, apart from its weights."""

from __future__ import annotations

from collections import Counter
from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from fgmclip.spec.base import STORED, FrozenSpec
from fgmclip.spec.flow import FlowSpec
from fgmclip.spec.labels import clean_label, near_twins, refused_character

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

MotionEncoderName = Literal["resnet10_narrow", "resnet10", "resnet18", "resnet34", "resnet50"]


class VisualSpec(FrozenSpec):
    """The image encoder: PIXELS [N,3,S,S] to VISUAL [N,D].

    Attributes:
        architecture: An open_clip architecture (`ViT-B-16`), `torchvision:NAME` for a classifier's
            trunk (`torchvision:resnet50`), or `custom` with an open_clip model config.
        config: The open_clip model config (`embed_dim`, `vision_cfg`, `text_cfg`) of a `custom`
            architecture; absent otherwise.
        image_size: S, the side of PIXELS in pixels.
        width: D, the width of VISUAL.
        mean: Mean of each RGB channel in 0..1.
        std: Standard deviation of each RGB channel, above 0.
    """

    architecture: str = Field(min_length=1)
    config: dict[str, Any] | None = None
    image_size: int = Field(ge=16, le=1024)
    width: int = Field(ge=1)
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD

    @field_validator("std")
    @classmethod
    def _std_above_zero(cls, value: tuple[float, float, float]) -> tuple[float, float, float]:
        if min(value) <= 0:
            raise ValueError("every std must be above 0; CLIP's is (0.2686, 0.2613, 0.2758)")
        return value

    @model_validator(mode="after")
    def _config_only_for_custom(self) -> VisualSpec:
        if (self.architecture == "custom") != (self.config is not None):
            raise ValueError(
                "config belongs to architecture 'custom' and to no other; "
                "give an open_clip model config there, or drop it"
            )
        return self


class MotionSpec(FrozenSpec):
    """The motion encoder: MOTION [N,3,M,M] to MOTION_FEATURES [N,Dm] (paper 3.3.1).

    Attributes:
        encoder: A residual network; `resnet10_narrow` has half of `resnet10`'s channels.
        size: M, the side of MOTION in pixels.
        width: Dm, the width of MOTION_FEATURES.
        flow: The flow that MOTION holds.
    """

    encoder: MotionEncoderName = "resnet18"
    size: int = Field(default=112, ge=16, le=512)
    width: int = Field(default=512, ge=1)
    flow: FlowSpec = FlowSpec()


class ClipSpec(FrozenSpec):
    """How a video becomes samples.

    Attributes:
        frames: T, samples whose image is encoded in one window.
        window_seconds: Length of a window in seconds; dt = window_seconds / frames.
        crop: How a whole frame becomes a square: `center` as CLIP does, `letterbox` with black
            bars, or `squash`.
    """

    frames: int = Field(default=8, ge=1, le=64)
    window_seconds: float = Field(default=1.0, gt=0, le=3600)
    crop: Literal["center", "letterbox", "squash"] = "center"

    @property
    def dt(self) -> float:
        """Distance between two samples in seconds."""
        return self.window_seconds / self.frames


class ColorSpec(FrozenSpec):
    """How NV12 becomes RGB and RGB becomes luma, unless a request says otherwise.

    Attributes:
        matrix: ITU-R BT.601 or BT.709 luma coefficients.
        range: Value range of NV12 frames: `limited` (16..235) or `full`.
    """

    matrix: Literal["bt601", "bt709"] = "bt601"
    range: Literal["limited", "full"] = "limited"


class AlignSpec(FrozenSpec):
    """Temporal alignment of motion with vision (paper 3.3.2, Figure 1b).

    Attributes:
        method: `attention` (motion decoder), `dtw` (dynamic time warping on cosine distance) or
            `none`.
        layers: Motion decoder layers; used by `attention`.
        heads: Attention heads, a divisor of Dm; used by `attention`.
        projection_width: Width of the space in which visual and motion features are compared
            (contrastive loss, and the distance of `dtw`).
    """

    method: Literal["attention", "dtw", "none"] = "attention"
    layers: int = Field(default=1, ge=1, le=12)
    heads: int = Field(default=8, ge=1, le=32)
    projection_width: int = Field(default=128, ge=8)


class FusionSpec(FrozenSpec):
    """Fusion of aligned features to EMBEDDING [B,H] (paper 3.3.3, Figure 2).

    Attributes:
        method: `mvsm` (embedding, scaling, linear layers, closed by a 1x1 convolution) or
            `concat` (the core h_t = ReLU(W [v_t; m_t; c_t] + b) alone).
        width: H, the width of EMBEDDING.
        temporal: `tcn` runs a temporal convolution over the visual features first (the paper's
            ablation that stands in for the motion encoder); `none` leaves them as they are.
    """

    method: Literal["mvsm", "concat"] = "mvsm"
    width: int = Field(default=512, ge=1)
    temporal: Literal["none", "tcn"] = "none"


class ContextSpec(FrozenSpec):
    """Context features c_t of each frame (paper 3.4.2).

    Attributes:
        source: `prompts` compares VISUAL with embeddings of scene prompts; `classifier` runs a
            linear scene classifier on VISUAL; `none` has no context.
        prompts: Scene descriptions, for `prompts`.
        classes: Number of scenes that the classifier names, for `classifier`.
        temperature: Cosines with the prompts are divided by this; CLIP's own is 0.01.
    """

    source: Literal["none", "prompts", "classifier"] = "none"
    prompts: tuple[str, ...] = ()
    classes: int = Field(default=0, ge=0)
    temperature: float = Field(default=0.01, gt=0)

    @model_validator(mode="after")
    def _source_has_its_field(self) -> ContextSpec:
        if (self.source == "prompts") != bool(self.prompts):
            raise ValueError("prompts belong to source 'prompts': give at least one, or drop them")
        if (self.source == "classifier") != bool(self.classes):
            raise ValueError("classes belong to source 'classifier': give their number, or drop it")
        return self

    @property
    def width(self) -> int:
        """Width of c_t; 0 without context."""
        return len(self.prompts) if self.source == "prompts" else self.classes


class HeadSpec(FrozenSpec):
    """The classifier: EMBEDDING [B,H] to LOGITS [B,C].

    Attributes:
        kind: `linear`, `text` (cosine with embeddings of the class descriptions), or `both`
            (their sum).
        temperature: Cosines are divided by this.
        unknown_threshold: A top probability below this is reported as unknown; 0 switches it off.
    """

    kind: Literal["linear", "text", "both"] = "linear"
    temperature: float = Field(default=0.07, gt=0)
    unknown_threshold: float = Field(default=0.0, ge=0, lt=1)


class ClassSpec(FrozenSpec):
    """One action.

    Attributes:
        name: The label that clients see, kept as Unicode's NFC without white space around it.
        descriptions: Sentences that describe the action, for the text head.
    """

    name: str = Field(min_length=1)
    descriptions: tuple[str, ...] = ()

    @field_validator("name")
    @classmethod
    def _one_spelling(cls, value: str, info: ValidationInfo) -> str:
        label = clean_label(value)
        if not label:
            raise ValueError("a label needs a character that can be seen")
        refused = refused_character(label)
        if refused is not None and not (_is_stored(info) and {"\r", "\n"}.isdisjoint(label)):
            raise ValueError(f"a label may not hold {refused}; leave the character out")
        return label


class ModelSpec(FrozenSpec):
    """Everything that fixes a model's meaning, apart from its weights.

    Attributes:
        name: What people call the model.
        visual: Image encoder.
        motion: Motion encoder; `none` for a model that sees frames only.
        clip: Time grid and crop.
        color: Colour defaults.
        align: Temporal alignment; `none` exactly when there is no motion or it is not aligned.
        fusion: Fusion head.
        context: Context features.
        head: Classifier.
        classes: The actions, in the order of LOGITS.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$")
    visual: VisualSpec
    motion: MotionSpec | None = MotionSpec()
    clip: ClipSpec = ClipSpec()
    color: ColorSpec = ColorSpec()
    align: AlignSpec = AlignSpec()
    fusion: FusionSpec = FusionSpec()
    context: ContextSpec = ContextSpec()
    head: HeadSpec = HeadSpec()
    classes: tuple[ClassSpec, ...] = Field(min_length=2)

    @field_validator("motion", mode="before")
    @classmethod
    def _none_by_name(cls, value: object) -> object:
        return None if value == "none" else value

    @model_validator(mode="after")
    def _labels_are_told_apart(self, info: ValidationInfo) -> ModelSpec:
        twice = sorted(name for name, count in Counter(self.labels).items() if count > 1)
        if twice:
            raise ValueError(f"classes name {', '.join(twice)} twice; names must differ")
        twins = None if _is_stored(info) else near_twins(self.labels)
        if twins is not None:
            raise ValueError(
                f"classes {twins[0]!r} and {twins[1]!r} differ in nothing that people can tell "
                "apart (case, white space, characters without a width); rename one, or make them "
                "one class"
            )
        return self

    @model_validator(mode="after")
    def _fits_together(self) -> ModelSpec:
        if self.motion is None and self.align.method != "none":
            raise ValueError(
                f"align.method is {self.align.method!r} but motion is none: there is nothing to "
                "align; set align.method to 'none'"
            )
        if (
            self.motion is not None
            and self.align.method == "attention"
            and self.motion.width % self.align.heads
        ):
            raise ValueError(
                f"align.heads {self.align.heads} does not divide motion.width "
                f"{self.motion.width}; choose a divisor"
            )
        if self.head.kind != "linear":
            bare = [item.name for item in self.classes if not item.descriptions]
            if bare:
                raise ValueError(
                    f"head.kind {self.head.kind!r} needs descriptions for every class; "
                    f"missing for {', '.join(bare[:5])}"
                )
        if self.needs_text and self.visual.architecture.startswith("torchvision:"):
            raise ValueError(
                f"visual.architecture {self.visual.architecture!r} has no text tower, but a text "
                "head or scene prompts need one; choose a CLIP architecture, or head.kind 'linear' "
                "without prompts"
            )
        return self

    @property
    def needs_text(self) -> bool:
        """Whether class descriptions or scene prompts go through CLIP's text tower."""
        return self.head.kind != "linear" or self.context.source == "prompts"

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes, in the order of LOGITS."""
        return tuple(item.name for item in self.classes)


def _is_stored(info: ValidationInfo) -> bool:
    return bool(info.context and info.context[STORED])
