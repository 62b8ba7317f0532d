"""What a request must not be: refused with what was expected, and the server goes on."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
from numpy.typing import NDArray

from fgmclip.client import ActionClient
from fgmclip.serve import EmbeddedServer

pytestmark = pytest.mark.e2e

MovingClip = Callable[..., NDArray[np.uint8]]

TYPES = {"uint8": "UINT8", "float32": "FP32", "object": "BYTES"}


def ask(server: EmbeddedServer, model: str, **tensors: NDArray[Any]) -> Any:
    inputs = []
    for name, value in tensors.items():
        tensor = triton.InferInput(name, list(value.shape), TYPES[str(value.dtype)])
        tensor.set_data_from_numpy(value)
        inputs.append(tensor)
    with triton.InferenceServerClient(server.url) as stock:
        return stock.infer(model, inputs, client_timeout=60)


def black(*shape: int) -> NDArray[np.uint8]:
    return np.zeros(shape, np.uint8)


def history(server: EmbeddedServer, clip: NDArray[np.uint8], new: int) -> dict[str, NDArray[Any]]:
    answer = ask(server, "fgm_clip_stream", FRAMES=clip)
    return {
        "VISUAL_HISTORY": answer.as_numpy("VISUAL_NEW")[:, new:].copy(),
        "MOTION_HISTORY": answer.as_numpy("MOTION_NEW")[:, new:].copy(),
        "HISTORY_TAG": answer.as_numpy("TAG"),
    }


@pytest.mark.parametrize(
    ("ensemble", "frames", "words"),
    [
        ("fgm_clip", np.zeros((9, 64, 64, 3), np.float32), "expects 'TYPE_UINT8'|UINT8"),
        ("fgm_clip", black(9, 64, 64), r"\[9,-1,-1,-1\], got \[9,64,64\]"),
        ("fgm_clip", black(8, 64, 64, 3), r"\[9,-1,-1,-1\], got \[8,64,64,3\]"),
        ("fgm_clip", black(9, 1, 1, 3), "expected sides of at least 16 pixels, got 1x1"),
        ("fgm_clip", black(9, 64, 64, 2), r"expected RGB \[n\+1,H,W,3\] or NV12"),
        ("fgm_clip_stream", black(0, 64, 64, 3), "expected 2 to 9 frames .* got 0"),
        ("fgm_clip_stream", black(1, 64, 64, 3), "expected 2 to 9 frames .* got 1"),
        ("fgm_clip_stream", black(10, 64, 64, 3), "expected 2 to 9 frames .* got 10"),
        ("fgm_clip_stream", black(3, 64, 64, 3), "got no history"),
        ("fgm_clip_stream", black(2, 4320, 7680, 3), "got 7680x4320; scale the frame down"),
    ],
)
def test_wrong_frames_are_refused(
    server: EmbeddedServer,
    client: ActionClient,
    moving_clip: MovingClip,
    ensemble: str,
    frames: NDArray[Any],
    words: str,
) -> None:
    with pytest.raises(triton.InferenceServerException) as caught:
        ask(server, ensemble, FRAMES=frames)
    assert re.search(words, str(caught.value)), caught.value
    assert client.classify_window(moving_clip(1)).label


@pytest.mark.parametrize(
    ("pixels", "luma", "words"),
    [
        ((8, 32, 32, 3), (8, 2, 64, 64), r"\[-1,64,64,3\], got \[8,32,32,3\]"),
        ((8, 64, 64, 3), (7, 2, 64, 64), r"LUMA_U8: expected \[8,2,64,64\].* got \[7, 2, 64, 64\]"),
        ((0, 64, 64, 3), (0, 2, 64, 64), "PIXELS_U8: expected 1 to 64 samples"),
        ((65, 64, 64, 3), (65, 2, 64, 64), "PIXELS_U8: expected 1 to 64 samples.* got 65"),
        ((9, 64, 64, 3), (9, 2, 64, 64), "expected a multiple of 8 samples without a history"),
    ],
)
def test_wrong_u8_stages_are_refused(
    server: EmbeddedServer,
    client: ActionClient,
    moving_clip: MovingClip,
    pixels: tuple[int, ...],
    luma: tuple[int, ...],
    words: str,
) -> None:
    with pytest.raises(triton.InferenceServerException) as caught:
        ask(server, "fgm_clip_edge", PIXELS_U8=black(*pixels), LUMA_U8=black(*luma))
    assert re.search(words, str(caught.value))
    assert client.classify_window(moving_clip(0)).label


@pytest.mark.parametrize(
    ("box", "words"),
    [
        ([np.nan, 0, 10, 10], "ROI"),
        ([10, 0, 10, 10], "ROI"),
        ([500, 500, 600, 600], "ROI"),
    ],
)
def test_a_wrong_roi_is_refused(
    server: EmbeddedServer, moving_clip: MovingClip, box: list[float], words: str
) -> None:
    rois = np.tile(np.array(box, np.float32), (1, 9, 1))
    with pytest.raises(triton.InferenceServerException, match=words):
        ask(server, "fgm_clip", FRAMES=moving_clip(0), ROI=rois)


def test_too_many_tracks_are_refused(server: EmbeddedServer, moving_clip: MovingClip) -> None:
    rois = np.tile(np.array([0, 0, 50, 50], np.float32), (9, 9, 1))
    with pytest.raises(triton.InferenceServerException, match="at most 64 tracks times samples"):
        ask(server, "fgm_clip", FRAMES=moving_clip(0), ROI=rois)


def test_a_foreign_tag_is_refused(server: EmbeddedServer, moving_clip: MovingClip) -> None:
    tensors = history(server, moving_clip(0), 1) | {"HISTORY_TAG": np.array([b"0" * 16], object)}
    with pytest.raises(triton.InferenceServerException, match="computed by another release"):
        ask(server, "fgm_clip_stream", FRAMES=black(2, 64, 64, 3), **tensors)


def test_a_history_with_nan_is_refused(server: EmbeddedServer, moving_clip: MovingClip) -> None:
    tensors = history(server, moving_clip(0), 1)
    tensors["MOTION_HISTORY"][0, 0, 0] = np.nan
    with pytest.raises(triton.InferenceServerException, match="expected finite values"):
        ask(server, "fgm_clip_stream", FRAMES=black(2, 64, 64, 3), **tensors)


def test_tracks_are_answered_as_if_alone(client: ActionClient, moving_clip: MovingClip) -> None:
    frames = moving_clip(3)
    rois = np.array([[0, 0, 60, 60], [30, 20, 100, 90]], np.float32)[:, None].repeat(9, axis=1)
    together = client.classify_tracks(frames, rois)
    for index in range(2):
        (alone,) = client.classify_tracks(frames, rois[index : index + 1])
        np.testing.assert_allclose(together[index].logits, alone.logits, atol=1e-5)


def test_nv12_is_answered_like_the_rgb_of_the_same_picture(
    server: EmbeddedServer, moving_clip: MovingClip
) -> None:
    # A grey clip is the same in both layouts: full-range luma, neutral chroma.
    grey = moving_clip(5)[..., :1]
    rgb = np.repeat(grey, 3, axis=3)
    chroma = np.full((9, 48, 128, 1), 128, np.uint8)
    nv12 = np.concatenate([grey, chroma], axis=1)
    tensor = triton.InferInput("FRAMES", list(nv12.shape), "UINT8")
    tensor.set_data_from_numpy(nv12)
    with triton.InferenceServerClient(server.url) as stock:
        answer = stock.infer("fgm_clip", [tensor], parameters={"color_range": "full"})
    np.testing.assert_allclose(
        answer.as_numpy("LOGITS"),
        ask(server, "fgm_clip", FRAMES=rgb).as_numpy("LOGITS"),
        atol=0.05,
    )
