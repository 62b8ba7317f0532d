"""One request of a stream and what its answer must hold, whoever sends it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgmclip.client.answers import ANSWERS, tag_in
from fgmclip.client.errors import ServerError, TagMismatchError
from fgmclip.client.messages import Tensors
from fgmclip.client.streams.history import Rows, features
from fgmclip.spec import PublicManifest

STREAM_MODEL = "fgm_clip_stream"
"""The ensemble that takes new frames and the history of a window."""

EDGE_MODEL = "fgm_clip_edge"
"""The same for frames that were brought to the model's size here."""


@dataclass(frozen=True, slots=True, eq=False)
class StreamRequest:
    """What is sent for one decision of each of R tracks.

    Attributes:
        model: Name of the ensemble.
        inputs: The tensors of k new samples; for k below T with the histories and their tag.
        outputs: Names of the outputs to ask for.
        parameters: Request parameters.
    """

    model: str
    inputs: Tensors
    outputs: tuple[str, ...]
    parameters: Mapping[str, str]


def stream_request(
    samples: Mapping[str, NDArray[Any]],
    histories: Sequence[Rows],
    manifest: PublicManifest,
    *,
    tag: str,
    edge: bool,
    color: Mapping[str, str],
) -> StreamRequest:
    """Return the request for new samples.

    Args:
        samples: The inputs that hold them.
        histories: Rows [T-k,width] of each track, in the order of the tracks.
        manifest: What the server publishes.
        tag: Names the release that the histories belong to.
        edge: Whether the samples are u8 stages.
        color: Request parameters of whole frames.
    """
    kinds = features(manifest.spec)
    inputs = dict(samples)
    if histories[0][kinds[0].history].size:
        for item in kinds:
            inputs[item.history] = np.stack([rows[item.history] for rows in histories])
        inputs["HISTORY_TAG"] = np.array([tag.encode()], dtype=object)
    outputs = (*ANSWERS, *(item.new for item in kinds), "TAG")
    return StreamRequest(EDGE_MODEL if edge else STREAM_MODEL, inputs, outputs, color)


def new_rows(
    answer: Tensors, tracks: int, new: int, manifest: PublicManifest
) -> list[dict[str, NDArray[np.float32]]]:
    """Return the embeddings [k,width] of the new samples of each track.

    Args:
        answer: Outputs of a `StreamRequest`.
        tracks: R.
        new: k.
        manifest: What the server publishes.

    Raises:
        TagMismatchError: They were computed by another release than the manifest's.
        ServerError: A shape or a value is not that of embeddings.
    """
    came = tag_in(answer["TAG"])
    if came != manifest.embedding_tag:
        # A full window passes under any release.
        raise TagMismatchError(
            f"TAG: expected {manifest.embedding_tag} as in the manifest, got {came}: the "
            "server changed to another release; drop the history and send a full window"
        )
    for item in features(manifest.spec):
        value, expected = answer[item.new], (tracks, new, item.width)
        if value.shape != expected or not np.isfinite(value).all():
            wrong = "NaN or infinity" if value.shape == expected else str(list(value.shape))
            raise ServerError(
                f"{item.new}: expected finite {list(expected)}, got {wrong}; "
                "activate an earlier release"
            )
    return [
        {item.history: answer[item.new][row] for item in features(manifest.spec)}
        for row in range(tracks)
    ]


def is_foreign_tag(error: Exception) -> bool:
    """Whether a refusal means that the history belongs to another release."""
    # The name that the server's message starts with; a foreign tag is its only refusal.
    return isinstance(error, TagMismatchError) or "HISTORY_TAG: expected" in str(error)
