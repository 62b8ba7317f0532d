"""A server's arithmetic without a server: both public models over plain numpy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fgmclip.client import MockRequest, MockTransport, RefusedError
from fgmclip.client.messages import Tensors
from fgmclip.spec import Limits, PublicManifest, preset

EMBEDDING = 6


class FakeModel:
    """Encodes frames and pairs one by one, then looks across the window, as the real chain does."""

    def __init__(self, manifest: PublicManifest) -> None:
        self.manifest = manifest
        self.encoded = 0
        self.probabilities: NDArray[np.float32] | None = None
        spec = manifest.spec
        random = np.random.default_rng(0)
        self._visual = random.normal(size=(3, spec.visual.width))
        motion_width = spec.motion.width if spec.motion else 1
        self._motion = random.normal(size=(3, motion_width))
        self._order = np.linspace(0.5, 1.5, spec.clip.frames)[:, None]
        self._fusion = random.normal(size=(spec.visual.width + motion_width, EMBEDDING))
        self._classes = random.normal(size=(EMBEDDING, len(spec.labels)))

    def __call__(self, request: MockRequest) -> Tensors:
        inputs, window = request.inputs, self.manifest.spec.clip.frames
        frames = inputs["FRAMES"].astype(float)
        new = len(frames) - 1
        rois = inputs.get("ROI")
        tracks = 1 if rois is None else len(rois)
        color = 0.0 if request.parameters.get("color_matrix") != "bt709" else 1.0
        means = frames.reshape(new + 1, -1, frames.shape[3])[..., :3].mean(axis=1)
        means = np.broadcast_to(means, (tracks, new + 1, means.shape[-1])) / 255 + color
        if means.shape[-1] == 1:
            means = means.repeat(3, axis=-1)
        if rois is not None:
            means = means + rois.mean(axis=2, keepdims=True) / 1000
        self.encoded += tracks * new
        rows = {
            "VISUAL": means[:, 1:] @ self._visual,
            "MOTION": (means[:, 1:] - means[:, :-1]) @ self._motion,
        }
        outputs: dict[str, NDArray[Any]] = {
            "TAG": np.array([self.manifest.embedding_tag.encode()], dtype=object)
        }
        if new < window:
            came = inputs["HISTORY_TAG"][0].decode()
            if came != self.manifest.embedding_tag:
                raise RefusedError(
                    f"in ensemble, HISTORY_TAG: expected {self.manifest.embedding_tag}, got {came}"
                )
        if self.manifest.spec.motion is None:
            del rows["MOTION"]
        windows = []
        for name, value in rows.items():
            outputs[f"{name}_NEW"] = value.astype(np.float32)
            history = inputs.get(f"{name}_HISTORY", value[:, :0])
            assert history.shape[1] == window - new
            windows.append(np.concatenate([history, value], axis=1))
        joined = np.concatenate(windows, axis=2)
        embedding = (joined * self._order).mean(axis=1) @ self._fusion[: joined.shape[2]]
        logits = embedding @ self._classes
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
        if self.probabilities is not None:
            probabilities = np.tile(self.probabilities, (tracks, 1))
        outputs |= {
            "LOGITS": logits.astype(np.float32),
            "PROBABILITIES": probabilities.astype(np.float32),
            "EMBEDDING": embedding.astype(np.float32),
        }
        return outputs


@pytest.fixture(scope="session")
def manifest() -> PublicManifest:
    spec = preset("demo")
    return PublicManifest(
        release=7,
        model_tag="m" * 16,
        embedding_tag="e" * 16,
        precision="fp32",
        dt=spec.clip.dt,
        spec=spec,
        limits=Limits(max_tracks=3, max_rows=16, max_side=640, max_pixels=640 * 480),
    )


@pytest.fixture(scope="session")
def make_model() -> Callable[[PublicManifest], FakeModel]:
    return FakeModel


@pytest.fixture
def model(manifest: PublicManifest) -> FakeModel:
    return FakeModel(manifest)


@pytest.fixture
def transport(manifest: PublicManifest, model: FakeModel) -> MockTransport:
    return MockTransport(manifest, model)
