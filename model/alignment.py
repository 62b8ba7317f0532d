"""Temporal alignment of motion with vision (paper 3.3.2): m~_t for each frame."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fgmclip.spec import ModelSpec

_UNREACHABLE = 1e4
"""A path cost above any real one (at most 2 a cell) that half precision can still hold; sums of it
may become infinite there, which compares as well."""


class MotionDecoder(nn.Module):
    """Attention-based alignment (Figure 1b): visual queries gather motion features.

    Frames are told apart by learned temporal positions. Queries are projected to Dm only where D is
    another width; m~_t lies in the space of MOTION_FEATURES.
    """

    def __init__(self, spec: ModelSpec, motion_width: int) -> None:
        """Build with random weights."""
        super().__init__()
        visual_width, frames = spec.visual.width, spec.clip.frames
        same = visual_width == motion_width
        self.project = nn.Identity() if same else nn.Linear(visual_width, motion_width)
        self.query_positions = nn.Parameter(torch.empty(frames, motion_width))
        self.motion_positions = nn.Parameter(torch.empty(frames, motion_width))
        self.layers = nn.ModuleList(
            _DecoderLayer(motion_width, spec.align.heads) for _ in range(spec.align.layers)
        )
        self.norm = nn.LayerNorm(motion_width)
        nn.init.normal_(self.query_positions, std=0.02)
        nn.init.normal_(self.motion_positions, std=0.02)

    def forward(
        self,
        visual: Tensor,  # [B,T,D]
        motion: Tensor,  # [B,T,Dm]
    ) -> Tensor:  # [B,T,Dm]
        """Return m~_t."""
        x = self.project(visual) + self.query_positions
        memory = motion + self.motion_positions
        for layer in self.layers:
            x = layer(x, memory)
        aligned: Tensor = self.norm(x)
        return aligned


class _DecoderLayer(nn.Module):
    """Self-attention, cross-attention, feed-forward; each normalised before, added after."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm_self = nn.LayerNorm(width)
        self.self_attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.norm_cross = nn.LayerNorm(width)
        self.norm_memory = nn.LayerNorm(width)
        self.cross_attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.norm_feed_forward = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        y = self.norm_self(x)
        x = x + self.self_attention(y, y, y, need_weights=False)[0]
        y, memory = self.norm_cross(x), self.norm_memory(memory)
        x = x + self.cross_attention(y, memory, memory, need_weights=False)[0]
        fed: Tensor = self.feed_forward(self.norm_feed_forward(x))
        return x + fed


class DtwAlignment(nn.Module):
    """Dynamic time warping: the cheapest monotone path through the cosine distances.

    m~_t is the mean of the motion features that the path pairs with frame t. The path is hard: a
    gradient reaches the motion features through that mean, and the space of comparison through the
    contrastive loss alone. Both passes go diagonal by diagonal, 2T-1 fixed steps of tensor
    operations, so that the graph exports.
    """

    cell: Tensor
    inside: Tensor
    diagonal: Tensor
    row: Tensor

    def __init__(self, frames: int) -> None:
        """Lay out the diagonals of a [T,T] table."""
        super().__init__()
        self.frames = frames
        row = torch.arange(frames)
        column = torch.arange(2 * frames - 1)[:, None] - row  # [2T-1,T]
        inside = (column >= 0) & (column < frames)
        cell = row * frames + column.clamp(0, frames - 1)
        self.register_buffer("cell", cell.flatten(), persistent=False)
        self.register_buffer("inside", inside, persistent=False)
        # Where cell (i, j) lies in the sheared table: diagonal i + j, row i.
        sheared = (row[:, None] + row) * frames + row[:, None]
        self.register_buffer("diagonal", sheared.flatten(), persistent=False)

    def forward(
        self,
        motion: Tensor,  # [B,T,Dm]
        visual_code: Tensor,  # [B,T,P] unit length
        motion_code: Tensor,  # [B,T,P] unit length
    ) -> Tensor:  # [B,T,Dm]
        """Return m~_t."""
        distance = 1 - visual_code @ motion_code.transpose(1, 2)
        pairs = self.path(distance.detach()).to(motion.dtype)
        return pairs @ motion / pairs.sum(dim=2, keepdim=True)

    def path(
        self,
        distance: Tensor,  # [B,T,T]
    ) -> Tensor:  # [B,T,T] bool
        """Return the cells of the cheapest path from (0,0) to (T-1,T-1).

        A step advances vision, motion or both by one. Between equal costs the step of both wins,
        then the step of vision.
        """
        if self.frames == 1:
            return torch.ones_like(self.inside)[None]
        steps = 2 * self.frames - 1
        sheared = distance.flatten(1)[:, self.cell].reshape(-1, steps, self.frames)
        diagonals = torch.where(self.inside, sheared, _UNREACHABLE).unbind(dim=1)
        nowhere = torch.full_like(diagonals[0], _UNREACHABLE)
        last, after_both = diagonals[0], nowhere
        # What a cell would cost on arriving by a step of both, of vision, of motion.
        arrivals = []
        for diagonal in diagonals[1:]:
            after_vision = _down(last, _UNREACHABLE)
            arrivals.append((after_both, after_vision, last))
            cheapest = torch.minimum(torch.minimum(after_both, after_vision), last)
            last, after_both = diagonal + cheapest, after_vision
        both, vision, motion = (torch.stack(costs, dim=1) for costs in zip(*arrivals, strict=True))
        by_both = (both <= vision) & (both <= motion)
        by_vision = ~by_both & (vision <= motion)
        return self._trace(by_both, by_vision, ~by_both & ~by_vision)

    def _trace(self, by_both: Tensor, by_vision: Tensor, by_motion: Tensor) -> Tensor:
        """Walk back from the last cell; arguments [B,2T-2,T] say how each cell was reached."""
        nowhere = torch.zeros_like(by_both[:, 0])
        marks = [torch.cat([nowhere[:, 1:], ~nowhere[:, :1]], dim=1)]
        before_both = nowhere  # two diagonals back, by steps of both
        ways = zip(by_both.unbind(1), by_vision.unbind(1), by_motion.unbind(1), strict=True)
        for both, vision, motion in reversed(list(ways)):
            here = marks[-1]
            marks.append(_up(here & vision) | (here & motion) | before_both)
            before_both = _up(here & both)
        marks.reverse()
        table = torch.stack(marks, dim=1).flatten(1)
        return table[:, self.diagonal].reshape(-1, self.frames, self.frames)


def _down(row: Tensor, fill: float) -> Tensor:
    """Shift [B,T] so that place i holds what place i-1 held."""
    return F.pad(row[:, :-1], (1, 0), value=fill)


def _up(row: Tensor) -> Tensor:
    """Shift [B,T] bool so that place i holds what place i+1 held."""
    return torch.cat([row[:, 1:], torch.zeros_like(row[:, :1])], dim=1)
