"""`naive_model`: the whole of FGM-CLIP in one Python model, as one writes it first.

Every frame goes through PIL and NumPy as CLIP's own transform has it, motion is OpenCV's DIS flow
(its medium preset, the OpenCV flow nearest to the model's own), and ONNX Runtime runs the graphs
that PyTorch exported.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.float32]


class NaiveClip:
    """Frames to PROBABILITIES.

    Args:
        folder: With the graphs and `settings.json`.
    """

    def __init__(self, folder: Path) -> None:
        """Load the graphs."""
        settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
        self._image_size: int = settings["image_size"]
        self._motion_size: int | None = settings["motion_size"]
        self._mean = np.array(settings["mean"], np.float32)
        self._std = np.array(settings["std"], np.float32)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = settings["threads"]
        self._sessions = {
            path.stem: onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
            for path in folder.glob("*.onnx")
        }
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)

    def run(self, frames: NDArray[np.uint8]) -> Array:
        """Return PROBABILITIES [1,C].

        Args:
            frames: RGB u8 [T+1,H,W,3]; the first is only what the second is compared with.
        """
        pictures = [Image.fromarray(frame) for frame in frames]
        pixels = np.stack([self._pixels(picture) for picture in pictures[1:]])
        windows = {"VISUAL": self._encode("clip_image_encoder", {"PIXELS": pixels})[None]}
        if self._motion_size is not None:
            motion = self._motion([self._grey(picture) for picture in pictures])
            windows["MOTION_FEATURES"] = self._encode("motion_encoder", {"MOTION": motion})[None]
        embedding = self._encode("fusion_head", windows)
        logits = self._encode("classifier", {"EMBEDDING": embedding})
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities: Array = exponentials / exponentials.sum(axis=1, keepdims=True)
        return probabilities

    def _encode(self, part: str, inputs: Mapping[str, Array]) -> Array:
        output: Array = self._sessions[part].run(None, dict(inputs))[0]
        return output

    def _pixels(self, picture: Image.Image) -> Array:
        """Return one frame of PIXELS [3,S,S]."""
        square = _square(picture, self._image_size, Image.Resampling.BICUBIC)
        normal = (np.asarray(square, np.float32) / 255 - self._mean) / self._std
        pixels: Array = normal.transpose(2, 0, 1)
        return pixels

    def _grey(self, picture: Image.Image) -> NDArray[np.uint8]:
        """Return one frame's luma [M,M]."""
        assert self._motion_size is not None
        return np.asarray(_square(picture.convert("L"), self._motion_size, Image.Resampling.BOX))

    def _motion(self, greys: Sequence[NDArray[np.uint8]]) -> Array:
        """Return MOTION [T,3,M,M]."""
        size = len(greys[0])
        rows = []
        for earlier, later in pairwise(greys):
            difference = (later.astype(np.float32) - earlier) / 255
            flow: Any = self._flow.calc(earlier, later, None)  # type: ignore[call-overload]
            rows.append(np.stack([difference, flow[..., 0] / size, flow[..., 1] / size]))
        motion: Array = np.stack(rows).astype(np.float32)
        return motion


def _square(picture: Image.Image, size: int, resampling: Image.Resampling) -> Image.Image:
    """Return the middle of a picture whose shorter side became `size`."""
    scale = size / min(picture.size)
    width, height = (round(side * scale) for side in picture.size)
    left, top = (width - size) // 2, (height - size) // 2
    return picture.resize((width, height), resampling).crop((left, top, left + size, top + size))


class TritonPythonModel:
    """What Triton loads."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Load the graphs beside this file."""
        self._backend = importlib.import_module("triton_python_backend_utils")
        self._clip = NaiveClip(Path(args["model_repository"]) / args["model_version"])

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer each request by itself."""
        responses = []
        for request in requests:
            frames = self._backend.get_input_tensor_by_name(request, "FRAMES").as_numpy()
            probabilities = self._backend.Tensor("PROBABILITIES", self._clip.run(frames))
            responses.append(self._backend.InferenceResponse([probabilities]))
        return responses
