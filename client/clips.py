"""A video file's windows as the model sees them: what a client sends of a file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgmclip.client.streams.samples import SamplePreparer, StreamSample
from fgmclip.spec import ModelSpec
from fgmclip.video.damage import Damage
from fgmclip.video.windows import Span, read_spans

LUMA = "LUMA_U8"

Tensors = dict[str, NDArray[Any]]


def read_clips(path: str | os.PathLike[str], spec: ModelSpec, damage: Damage) -> Iterator[Tensors]:
    """Yield the u8 stages of each window of `fgmclip.video.windows.read_windows`.

    They are what the server makes of the window's frames, to the last bit, and of one size
    whatever the pictures' own: no limit on the size of frames applies. Each sample is prepared
    once, and memory holds two frames, however wide they are.

    Args:
        path: A video file.
        spec: The model's spec.
        damage: Counts what is read and what is lost.

    Yields:
        PIXELS_U8 u8 [T,S,S,3] and, for a model with motion, LUMA_U8 u8 [T,2,M,M].

    Raises:
        VideoError: As `read_windows`.
        RefusedError: A frame cannot be used.
    """
    preparer = SamplePreparer(spec)
    for span in read_spans(path, spec.clip, preparer.prepare, damage=damage):
        yield _stacked(span, spec.clip.frames)


def _stacked(span: Span[StreamSample], length: int) -> Tensors:
    rows = [dict(sample.tensors) for sample in span.samples]
    # The first sample was compared with the one before it, as its window's "before" demands: a run
    # begins with an index that does not follow, or with another size. What is repeated at the end
    # is compared with itself.
    repeated = dict(rows[-1])
    if LUMA in repeated:
        repeated[LUMA] = repeated[LUMA][:, [1, 1]]
    rows += [repeated] * (length - len(rows))
    return {name: np.concatenate([row[name] for row in rows]) for name in repeated}
