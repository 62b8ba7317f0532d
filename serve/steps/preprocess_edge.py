"""`preprocess_edge`: the u8 stages from a camera's host to PIXELS and MOTION."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from fgmclip.kernels.checks import check_luma, check_pixels
from fgmclip.kernels.parameters import PreprocessParameters
from fgmclip.kernels.preprocess import preprocess_edge
from fgmclip.serve.steps.step import (
    RequestParameters,
    StepConfig,
    StepError,
    Tensors,
    TritonStep,
    each,
)


class PreprocessEdgeStep:
    """Runs `fgmclip.kernels.preprocess.preprocess_edge` after the number of rows was checked."""

    def __init__(self, config: StepConfig) -> None:
        """Read the parameters `preprocess` and `limits` of the config."""
        self._parameters = PreprocessParameters.from_dict(
            json.loads(config.parameters["preprocess"])
        )
        self._max_rows = int(json.loads(config.parameters["limits"])["max_rows"])

    def run(self, batch: Sequence[tuple[Tensors, RequestParameters]]) -> list[Any]:
        """Answer each request by itself."""
        return each(self, batch)

    def answer(self, inputs: Tensors, parameters: RequestParameters) -> Mapping[str, NDArray[Any]]:
        """Return PIXELS [R n,3,S,S] and MOTION [R n,3,M,M]."""
        pixels_u8, luma_u8 = inputs["PIXELS_U8"], inputs.get("LUMA_U8")
        check_pixels(pixels_u8, self._parameters.image_size)
        rows = len(pixels_u8)
        if not 1 <= rows <= self._max_rows:
            raise StepError(
                f"PIXELS_U8: expected 1 to {self._max_rows} samples, tracks times new samples, "
                f"got {rows}; send fewer tracks in a request"
            )
        if luma_u8 is not None:
            check_luma(luma_u8, self._parameters.motion_size, rows)
        pixels, motion = preprocess_edge(pixels_u8, luma_u8, self._parameters)
        return {"PIXELS": pixels} if motion is None else {"PIXELS": pixels, "MOTION": motion}


class TritonPythonModel(TritonStep):
    """What Triton loads."""

    def build(self, config: StepConfig) -> PreprocessEdgeStep:
        """Return the preprocess_edge step."""
        return PreprocessEdgeStep(config)
