"""Served answers against PyTorch, and stream answers against clip answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import tritonclient.grpc as triton
from numpy.typing import NDArray

from fgmclip.client import ActionClient, StreamSession
from fgmclip.kernels.parameters import PreprocessParameters
from fgmclip.kernels.preprocess import preprocess
from fgmclip.model.network import FgmClip
from fgmclip.serve import EmbeddedServer
from fgmclip.video.samples import ACTIONS, generate_samples
from fgmclip.video.windows import read_windows

pytestmark = pytest.mark.e2e

MovingClip = Callable[..., NDArray[np.uint8]]


def test_served_logits_are_pytorchs_on_32_clips(
    client: ActionClient, model: FgmClip, moving_clip: MovingClip
) -> None:
    parameters = PreprocessParameters.from_spec(model.spec)
    worst = 0.0
    for seed in range(32):
        frames = moving_clip(seed)
        pixels, motion = preprocess(frames, parameters)
        assert motion is not None
        with torch.inference_mode():
            expected = model(torch.from_numpy(pixels)[None], torch.from_numpy(motion)[None])
        came = client.classify_window(frames)
        worst = max(worst, float(np.abs(came.logits - expected.logits.numpy()[0]).max()))
    assert worst < 1e-4


@pytest.mark.parametrize("edge", [False, True])
@pytest.mark.parametrize("stride", range(1, 9))
def test_a_stream_gives_the_clips_answers_at_every_stride(
    client: ActionClient, moving_clip: MovingClip, stride: int, edge: bool
) -> None:
    frames = moving_clip(100 + stride, frames=25)
    session = StreamSession(client, edge=edge)
    decisions = [(8, session.push(frames[:9]))]
    for end in range(8 + stride, 25, stride):
        decisions.append((end, session.push(frames[end - stride : end + 1])))
    assert len(decisions) >= 3
    for end, decision in decisions:
        clip = client.classify_window(frames[end - 8 : end + 1])
        np.testing.assert_allclose(decision.logits, clip.logits, atol=1e-5)
        np.testing.assert_allclose(decision.embedding, clip.embedding, atol=1e-5)


def test_a_file_is_answered_as_its_whole_frames_are_to_the_last_bit(
    client: ActionClient, tmp_path: Path
) -> None:
    spec = client.manifest.spec
    for sample in generate_samples(tmp_path, per_class=1, seed=5, actions=ACTIONS[:3]):
        windows = [
            client.classify_window(
                window.frames, color_matrix=window.color_matrix, color_range=window.color_range
            ).probabilities
            for window in read_windows(sample.path, spec.clip)
        ]
        mean = np.zeros(len(spec.labels))
        for probabilities in windows:
            mean += probabilities
        mean /= len(windows)
        answer = client.classify(sample.path)
        assert answer.windows == len(windows)
        assert dict(answer.top) == {
            spec.labels[index]: mean[index] for index in np.argsort(-mean, kind="stable")[:5]
        }


def test_tracks_resized_at_the_camera_are_answered_like_those_of_whole_frames(
    client: ActionClient, moving_clip: MovingClip
) -> None:
    frames = moving_clip(3, frames=12)
    rois = np.array([[0, 0, 60, 60], [30, 20, 140, 90]], np.float32)[:, None].repeat(12, axis=1)
    sessions = [StreamSession(client, edge=edge) for edge in (False, True)]
    for part in (slice(0, 9), slice(8, 12)):
        answers = [session.push_tracks(frames[part], rois[:, part]) for session in sessions]
        for whole, edge in zip(*answers, strict=True):
            np.testing.assert_allclose(edge.logits, whole.logits, atol=1e-5)


@pytest.mark.parametrize("edge", [False, True])
def test_a_stream_decision_encodes_only_its_new_frames(
    server: EmbeddedServer, client: ActionClient, moving_clip: MovingClip, edge: bool
) -> None:
    def encoded() -> dict[str, int]:
        with triton.InferenceServerClient(server.url) as stock:
            statistics = stock.get_inference_statistics().model_stats
        return {item.name.partition("__")[0]: item.inference_count for item in statistics}

    frames = moving_clip(7, frames=12)
    session = StreamSession(client, edge=edge)
    before = encoded()
    session.push(frames[:9])
    first = encoded()
    session.push(frames[8:10])
    second = encoded()
    session.push(frames[9:12])
    third = encoded()
    for encoder in ("clip_image_encoder", "motion_encoder"):
        counts = [state[encoder] for state in (before, first, second, third)]
        assert np.diff(counts).tolist() == [8, 1, 2]
