"""A server's arithmetic without a server, the three public models over plain numpy; events."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fgmclip.client import MockRequest, MockTransport, RefusedError
from fgmclip.client.events.event import Event, event_id
from fgmclip.client.messages import Tensors
from fgmclip.kernels.parameters import PreprocessParameters
from fgmclip.kernels.preprocess import preprocess_u8
from fgmclip.spec import Limits, PublicManifest, preset

EMBEDDING = 6


class FakeModel:
    """Encodes samples and pairs one by one, then looks across the window, as the real chain does.

    Attributes:
        manifest: What it was exported with; may be replaced between requests.
        weights: Seed of its weights: those of another release differ.
        encoded: How many samples it encoded.
        probabilities: Answered instead of its own, if given.
    """

    def __init__(self, manifest: PublicManifest, weights: int = 0) -> None:
        self.manifest = manifest
        self.weights = weights
        self.encoded = 0
        self.probabilities: NDArray[np.float32] | None = None

    def __call__(self, request: MockRequest) -> Tensors:
        spec, limits = self.manifest.spec, self.manifest.limits
        random = np.random.default_rng(self.weights)
        visual_weights = random.normal(size=(3, spec.visual.width))
        motion_width = spec.motion.width if spec.motion else 1
        motion_weights = random.normal(size=(3, motion_width))
        fusion = random.normal(size=(spec.visual.width + motion_width, EMBEDDING))
        classes = random.normal(size=(EMBEDDING, len(spec.labels)))
        inputs, window = request.inputs, spec.clip.frames
        if request.model == "fgm_clip" and len(inputs["FRAMES"]) != window + 1:
            raise RefusedError(f"FRAMES: [{window + 1},-1,-1,-1] expected")
        pixels, luma = self._stages(request)
        self._refuse_foreign(inputs)
        history = inputs.get("VISUAL_HISTORY")
        if "ROI" in inputs:
            tracks = len(inputs["ROI"])
        elif "FRAMES" in inputs:
            tracks = 1
        else:
            tracks = len(pixels) // window if history is None else len(history)
        new = len(pixels) // tracks
        if tracks > limits.max_tracks or tracks * new > limits.max_rows:
            raise RefusedError(f"expected at most {limits.max_rows} rows, got {tracks} x {new}")
        self.encoded += tracks * new
        seen = pixels.reshape(tracks, new, -1, 3) / 255
        rows = {"VISUAL": seen[:, :, ::7].mean(axis=2) @ visual_weights}
        if luma is not None:
            pairs = luma.reshape(tracks, new, 2, -1) / 255
            moved = pairs[:, :, 1] - pairs[:, :, 0]
            measures = (moved.mean(axis=2), np.abs(moved).mean(axis=2), pairs[:, :, 0].mean(axis=2))
            rows["MOTION"] = np.stack(measures, axis=2) @ motion_weights
        outputs: dict[str, NDArray[Any]] = {
            "TAG": np.array([self.manifest.embedding_tag.encode()], dtype=object),
            "MODEL_TAG": np.array([self.manifest.model_tag.encode()], dtype=object),
        }
        windows = []
        for name, value in rows.items():
            outputs[f"{name}_NEW"] = value.astype(np.float32)
            kept = inputs.get(f"{name}_HISTORY", value[:, :0])
            if kept.shape[:2] != (tracks, window - new):
                raise RefusedError(f"{name}_HISTORY: expected [{tracks},{window - new},-1]")
            assert np.isfinite(kept).all()
            assert kept.any(axis=2).all()
            windows.append(np.concatenate([kept, value], axis=1))
        joined = np.concatenate(windows, axis=2)
        order = np.linspace(0.5, 1.5, window)[:, None]
        embedding = (joined * order).mean(axis=1) @ fusion[: joined.shape[2]]
        logits = embedding @ classes
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

    def _stages(self, request: MockRequest) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        """Return PIXELS_U8 and LUMA_U8, as the server's own step makes them of frames."""
        inputs = request.inputs
        if request.model == "fgm_clip_edge":
            size = self.manifest.spec.visual.image_size
            if inputs["PIXELS_U8"].shape[1:] != (size, size, 3):
                raise RefusedError(f"[-1,{size},{size},3] expected")
            return inputs["PIXELS_U8"], inputs.get("LUMA_U8")
        parameters = replace(PreprocessParameters.from_spec(self.manifest.spec), flow=None)
        color: Any = dict(request.parameters)
        return preprocess_u8(inputs["FRAMES"], parameters, rois=inputs.get("ROI"), **color)

    def _refuse_foreign(self, inputs: Tensors) -> None:
        if "VISUAL_HISTORY" not in inputs:
            return
        came = inputs["HISTORY_TAG"][0].decode()
        if came != self.manifest.embedding_tag:
            raise RefusedError(
                f"in ensemble, HISTORY_TAG: expected {self.manifest.embedding_tag}, got {came}"
            )


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
def renamed(manifest: PublicManifest) -> PublicManifest:
    """A release that differs in its class file alone: the same classes in another order."""
    spec = manifest.spec
    return manifest.replace(
        release=8, model_tag="n" * 16, spec=spec.replace(classes=spec.classes[::-1])
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


@pytest.fixture(scope="session")
def make_event() -> Callable[..., Event]:
    """Make an open event; any field can be given."""

    def make(number: int = 1, **fields: object) -> Event:
        event = Event(
            id=event_id("door", None, "hug", number, "wall", "m"),
            camera="door",
            track=None,
            label="hug",
            start=float(number),
            end=None,
            peak=0.9,
            peak_time=number + 0.5,
            state="open",
            clock="wall",
            model_tag="m",
        )
        return replace(event, **fields)  # type: ignore[arg-type]

    return make
