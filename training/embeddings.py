"""VISUAL of a frozen image encoder, computed once for every cached row."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from rich.progress import track
from torch import Tensor, nn

from fgmclip.spec import VisualSpec
from fgmclip.storage.atomic import ABANDONED_SECONDS, remove_temporaries, writing
from fgmclip.training.cache import CachedVideo, mapped

ROWS_AT_ONCE = 32


def normalised(
    pixels: Tensor,  # [...,3,S,S] 0..1
    visual: VisualSpec,
) -> Tensor:  # [...,3,S,S]
    """Return PIXELS as the kernels' `normalize` makes them."""
    mean = pixels.new_tensor(visual.mean)[:, None, None]
    std = pixels.new_tensor(visual.std)[:, None, None]
    return (pixels - mean) / std


@dataclass(frozen=True, slots=True)
class FrozenVisual:
    """Names the embeddings of one image encoder beside the rows they belong to.

    Attributes:
        tag: Hash of the encoder's weights and of the normalisation before it.
    """

    tag: str

    @classmethod
    def of(cls, encoder: nn.Module, visual: VisualSpec) -> FrozenVisual:
        """Name the embeddings of `encoder`."""
        digest = hashlib.sha256(visual.model_dump_json().encode())
        for name, tensor in sorted(encoder.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return cls(digest.hexdigest()[:16])

    def path(self, video: CachedVideo, *, mirrored: bool) -> Path:
        """Return the file that holds a video's embeddings."""
        return video.folder / f"visual-{self.tag}{'-mirrored' if mirrored else ''}.npy"

    def rows(self, video: CachedVideo, *, mirrored: bool) -> npt.NDArray[np.float32]:  # [rows,D]
        """Return VISUAL of all rows of a video, which `embed` computed."""
        return mapped(self.path(video, mirrored=mirrored))

    def embed(
        self,
        encoder: nn.Module,
        visual: VisualSpec,
        videos: Sequence[CachedVideo],
        *,
        mirror: bool,
        progress: bool,
    ) -> None:
        """Compute what is missing; a stopped call goes on where it was.

        Args:
            encoder: The encoder that `tag` names, in eval mode.
            visual: Its spec.
            videos: Whose rows to embed.
            mirror: Embed the mirrored frames as well.
            progress: Show a progress bar.

        Raises:
            OSError: They cannot be written.
        """
        for video in videos:
            remove_temporaries(video.folder, abandoned_seconds=ABANDONED_SECONDS)
        jobs = [
            (video, mirrored)
            for video in videos
            for mirrored in ((False, True) if mirror else (False,))
            if not self.path(video, mirrored=mirrored).is_file()
        ]
        for video, mirrored in track(jobs, "Embedding frames", disable=not progress or not jobs):
            path = self.path(video, mirrored=mirrored)
            rows = _embed_rows(encoder, visual, video, mirrored=mirrored)
            with writing(path) as stream:
                np.save(stream, rows)


@torch.inference_mode()
def _embed_rows(
    encoder: nn.Module, visual: VisualSpec, video: CachedVideo, *, mirrored: bool
) -> npt.NDArray[np.float32]:
    rows = video.pixels()
    parts = []
    for start in range(0, len(rows), ROWS_AT_ONCE):
        pixels = torch.from_numpy(rows[start : start + ROWS_AT_ONCE].copy()).permute(0, 3, 1, 2)
        pixels = normalised(pixels.float() / 255, visual)
        parts.append(encoder(pixels.flip(-1) if mirrored else pixels))
    return torch.cat(parts).numpy()
