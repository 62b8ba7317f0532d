"""A stock tritonclient that knows nothing of this package."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, combinations

import numpy as np
import pytest
import tritonclient.grpc as triton
from numpy.typing import NDArray

from fgmclip.serve import EmbeddedServer
from fgmclip.spec import preset

pytestmark = pytest.mark.e2e

CLIP_OUTPUTS = ("LOGITS", "PROBABILITIES", "EMBEDDING", "MODEL_TAG")
STREAM_OUTPUTS = (*CLIP_OUTPUTS, "VISUAL_NEW", "MOTION_NEW", "TAG")


@pytest.fixture
def stock(server: EmbeddedServer) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(server.url) as connected:
        yield connected


def tensor(name: str, *shape: int) -> triton.InferInput:
    values: NDArray[np.uint8] = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    made = triton.InferInput(name, list(shape), "UINT8")
    made.set_data_from_numpy(values)
    return made


def frames_input(count: int) -> triton.InferInput:
    return tensor("FRAMES", count, 72, 96, 3)


def full_window(ensemble: str) -> list[triton.InferInput]:
    if ensemble != "fgm_clip_edge":
        return [frames_input(9)]
    spec = preset("demo")
    assert spec.motion is not None
    size, motion_size = spec.visual.image_size, spec.motion.size
    return [
        tensor("PIXELS_U8", 8, size, size, 3),
        tensor("LUMA_U8", 8, 2, motion_size, motion_size),
    ]


def test_the_classification_extension_gives_labels(stock: triton.InferenceServerClient) -> None:
    wanted = triton.InferRequestedOutput("PROBABILITIES", class_count=3)
    answer = stock.infer("fgm_clip", [frames_input(9)], outputs=[wanted])
    lines = [line.decode() for line in answer.as_numpy("PROBABILITIES").reshape(-1)]
    assert len(lines) == 3
    labels = preset("demo").labels
    values = []
    for line in lines:
        value, index, label = line.split(":")
        assert labels[int(index)] == label
        values.append(float(value))
    assert values == sorted(values, reverse=True)


def subsets(names: tuple[str, ...]) -> list[tuple[str, ...]]:
    return list(chain.from_iterable(combinations(names, n) for n in range(1, len(names) + 1)))


@pytest.mark.parametrize(
    ("ensemble", "names"),
    [
        ("fgm_clip", CLIP_OUTPUTS),
        ("fgm_clip_stream", STREAM_OUTPUTS),
        ("fgm_clip_edge", STREAM_OUTPUTS),
    ],
)
def test_any_subset_of_outputs_can_be_requested(
    stock: triton.InferenceServerClient, ensemble: str, names: tuple[str, ...]
) -> None:
    inputs = full_window(ensemble)
    everything = stock.infer(ensemble, inputs, client_timeout=30)
    for subset in subsets(names):
        outputs = [triton.InferRequestedOutput(name) for name in subset]
        answer = stock.infer(ensemble, inputs, outputs=outputs, client_timeout=30)
        assert {item.name for item in answer.get_response().outputs} == set(subset)
        for name in subset:
            if name in ("TAG", "MODEL_TAG"):
                assert answer.as_numpy(name).tolist() == everything.as_numpy(name).tolist()
            else:
                np.testing.assert_allclose(
                    answer.as_numpy(name), everything.as_numpy(name), atol=1e-5
                )
