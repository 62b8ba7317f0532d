"""Requests as cameras and clients send them: a clip, a decision of a stream, one from the edge."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fgmclip.bench.frames import moving_frames
from fgmclip.bench.load.plan import Traffic
from fgmclip.client.answers import ANSWERS
from fgmclip.client.manifest import CLIP_MODEL
from fgmclip.client.streams.history import features
from fgmclip.client.streams.requests import EDGE_MODEL, STREAM_MODEL
from fgmclip.kernels.parameters import PreprocessParameters
from fgmclip.kernels.preprocess import preprocess_u8
from fgmclip.spec import PublicManifest

Kind = Literal["clip", "stream", "edge"]
KINDS: tuple[Kind, ...] = ("clip", "stream", "edge")

SIZES = {"240p": (240, 426), "480p": (480, 854), "720p": (720, 1280), "1080p": (1080, 1920)}
"""Height and width of raw frames, pixels."""


def make_traffic(kind: Kind, manifest: PublicManifest, size: str) -> Traffic:
    """Return one kind of request for a decision of one camera.

    Args:
        kind: `clip` sends T + 1 raw frames, `stream` two and the history of its window, `edge`
            the same after preprocessing at the camera.
        manifest: What the server publishes.
        size: One of `SIZES`: of the raw frames.
    """
    spec = manifest.spec
    window = spec.clip.frames
    height, width = SIZES[size]
    name = f"{kind}-{size}-t{window}"
    if kind == "clip":
        frames = moving_frames(window + 1, height, width)
        return Traffic(name, CLIP_MODEL, {"FRAMES": frames}, {}, ANSWERS)
    frames = moving_frames(2, height, width)
    kinds = features(spec)
    outputs = (*ANSWERS, *(item.new for item in kinds), "TAG")
    random = np.random.default_rng(0)
    arrays: dict[str, NDArray[Any]] = {
        item.history: random.normal(size=(1, window - 1, item.width)).astype(np.float32)
        for item in kinds
    }
    strings = {"HISTORY_TAG": manifest.embedding_tag}
    if kind == "stream":
        return Traffic(name, STREAM_MODEL, arrays | {"FRAMES": frames}, strings, outputs)
    # The flow is the server's business.
    parameters = replace(PreprocessParameters.from_spec(spec), flow=None)
    pixels, luma = preprocess_u8(frames, parameters)
    arrays["PIXELS_U8"] = pixels
    if luma is not None:
        arrays["LUMA_U8"] = luma
    return Traffic(name, EDGE_MODEL, arrays, strings, outputs)
