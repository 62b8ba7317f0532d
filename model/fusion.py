"""The fusion head: alignment, fusion and mean over time (paper 3.3.2, 3.3.3, Figure 2).

All that looks across frames lives here, so that an encoder sees each frame once.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fgmclip.model.alignment import DtwAlignment, MotionDecoder
from fgmclip.model.context import build_context
from fgmclip.spec import ModelSpec

_DILATIONS = (1, 2, 4)
"""Of the temporal convolutions; together they see 15 frames."""


class ConcatFusion(nn.Module):
    """The core: h_t = ReLU(W [v_t; m~_t; c_t] + b), a 1x1 convolution over time."""

    def __init__(self, widths: Sequence[int], out: int) -> None:
        """Build with random weights.

        Args:
            widths: Widths of the features of a frame.
            out: H.
        """
        super().__init__()
        self.convolution = nn.Conv1d(sum(widths), out, kernel_size=1)

    def forward(
        self,
        features: Sequence[Tensor],  # [B,T,W] each
    ) -> Tensor:  # [B,T,H]
        """Return h_t."""
        joined = torch.cat(list(features), dim=-1)
        return F.relu(self.convolution(joined.transpose(1, 2))).transpose(1, 2)


class MvsmFusion(nn.Module):
    """The Motion-Visual Synergy Module (Figure 2): embedding, scaling, linear layers, core.

    Every modality gets an embedding layer of width H. Learned gates, one for each modality and
    frame, scale static against dynamic information; a linear layer follows, then the core.
    """

    def __init__(self, widths: Sequence[int], out: int) -> None:
        """Build with random weights.

        Args:
            widths: Widths of the features of a frame.
            out: H.
        """
        super().__init__()
        self.embeddings = nn.ModuleList(
            nn.Sequential(nn.Linear(width, out), nn.LayerNorm(out)) for width in widths
        )
        self.gates = nn.Linear(len(widths) * out, len(widths))
        self.linear = nn.ModuleList(nn.Sequential(nn.Linear(out, out), nn.GELU()) for _ in widths)
        self.core = ConcatFusion([out] * len(widths), out)

    def forward(
        self,
        features: Sequence[Tensor],  # [B,T,W] each
    ) -> Tensor:  # [B,T,H]
        """Return h_t."""
        embedded = [layer(item) for layer, item in zip(self.embeddings, features, strict=True)]
        gates = self.gates(torch.cat(embedded, dim=-1)).sigmoid().split(1, dim=-1)
        scaled = [gate * item for gate, item in zip(gates, embedded, strict=True)]
        h: Tensor = self.core([layer(x) for layer, x in zip(self.linear, scaled, strict=True)])
        return h


class TemporalConvolution(nn.Module):
    """Residual dilated convolutions over time: the paper's TCN ablation (4.2)."""

    def __init__(self, width: int) -> None:
        """Build with random weights."""
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Conv1d(width, width, kernel_size=3, padding=dilation, dilation=dilation)
            for dilation in _DILATIONS
        )

    def forward(
        self,
        visual: Tensor,  # [B,T,D]
    ) -> Tensor:  # [B,T,D]
        """Return visual features that know their neighbours."""
        x = visual.transpose(1, 2)
        for convolution in self.convolutions:
            x = x + F.relu(convolution(x))
        return x.transpose(1, 2)


class FusionHead(nn.Module):
    """VISUAL [B,T,D] and MOTION_FEATURES [B,T,Dm] to EMBEDDING [B,H]; without motion VISUAL alone.

    Without motion and temporal convolution the answer does not depend on the order of frames.

    Attributes:
        project_visual: D to the space of comparison (contrastive loss, dtw); None without motion.
        project_motion: Dm to the same space; None without motion.
        align: Temporal alignment; None where features go together as they come.
        temporal: Temporal convolution over VISUAL, or None.
        context: What computes c_t, or None.
        fusion: Features of a frame to h_t.
    """

    def __init__(self, spec: ModelSpec) -> None:
        """Build with random weights."""
        super().__init__()
        widths = [spec.visual.width]
        self.project_visual = self.project_motion = None
        self.align: MotionDecoder | DtwAlignment | None = None
        if spec.motion is not None:
            widths.append(spec.motion.width)
            width = spec.align.projection_width
            self.project_visual = nn.Linear(spec.visual.width, width, bias=False)
            self.project_motion = nn.Linear(spec.motion.width, width, bias=False)
            if spec.align.method == "attention":
                self.align = MotionDecoder(spec, spec.motion.width)
            elif spec.align.method == "dtw":
                self.align = DtwAlignment(spec.clip.frames)
        tcn = spec.fusion.temporal == "tcn"
        self.temporal = TemporalConvolution(spec.visual.width) if tcn else None
        self.context = build_context(spec)
        if self.context is not None:
            widths.append(spec.context.width)
        fusion = MvsmFusion if spec.fusion.method == "mvsm" else ConcatFusion
        self.fusion = fusion(widths, spec.fusion.width)

    def project(
        self,
        visual: Tensor,  # [B,T,D]
        motion: Tensor,  # [B,T,Dm]
    ) -> tuple[Tensor, Tensor]:  # [B,T,P], [B,T,P]
        """Return unit vectors of both modalities in the space where they are compared."""
        assert self.project_visual is not None
        assert self.project_motion is not None  # only called with motion
        return (
            F.normalize(self.project_visual(visual), dim=-1),
            F.normalize(self.project_motion(motion), dim=-1),
        )

    def frames(
        self,
        visual: Tensor,  # [B,T,D]
        motion: Tensor | None = None,  # [B,T,Dm]
    ) -> Tensor:  # [B,T,H]
        """Return h_t of every frame."""
        features = [visual if self.temporal is None else self.temporal(visual)]
        if motion is not None:
            features.append(self._aligned(visual, motion))
        if self.context is not None:
            features.append(self.context(visual))
        h: Tensor = self.fusion(features)
        return h

    def forward(
        self,
        visual: Tensor,  # [B,T,D]
        motion: Tensor | None = None,  # [B,T,Dm]
    ) -> Tensor:  # [B,H]
        """Return EMBEDDING: the mean of h_t over time."""
        return self.frames(visual, motion).mean(dim=1)

    def _aligned(self, visual: Tensor, motion: Tensor) -> Tensor:
        aligned = motion
        if isinstance(self.align, MotionDecoder):
            aligned = self.align(visual, motion)
        elif isinstance(self.align, DtwAlignment):
            aligned = self.align(motion, *self.project(visual, motion))
        return aligned
