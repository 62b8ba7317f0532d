"""`preprocess_edge`: the u8 stages become what whole frames become, or are refused by name."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fgmclip.kernels.parameters import PreprocessParameters
from fgmclip.kernels.preprocess import preprocess, preprocess_u8
from fgmclip.serve.steps.preprocess_edge import PreprocessEdgeStep
from fgmclip.serve.steps.step import StepConfig, StepError
from fgmclip.spec import Limits, preset

PARAMETERS = PreprocessParameters.from_spec(preset("demo"))


@pytest.fixture
def step() -> PreprocessEdgeStep:
    limits = Limits(max_rows=3).model_dump()
    parameters = {"preprocess": json.dumps(asdict(PARAMETERS)), "limits": json.dumps(limits)}
    return PreprocessEdgeStep(
        StepConfig(Path(), parameters, ("PIXELS_U8", "LUMA_U8"), ("PIXELS", "MOTION"))
    )


def stages(samples: int) -> tuple[NDArray[np.uint8], dict[str, NDArray[Any]]]:
    random = np.random.default_rng(0)
    frames = random.integers(0, 256, (samples + 1, 80, 90, 3), dtype=np.uint8)
    pixels_u8, luma_u8 = preprocess_u8(frames, PARAMETERS)
    assert luma_u8 is not None
    return frames, {"PIXELS_U8": pixels_u8, "LUMA_U8": luma_u8}


def test_the_answer_is_that_of_whole_frames(step: PreprocessEdgeStep) -> None:
    frames, inputs = stages(3)
    answer = step.answer(inputs, {})
    pixels, motion = preprocess(frames, PARAMETERS)
    np.testing.assert_array_equal(answer["PIXELS"], pixels)
    assert motion is not None
    np.testing.assert_array_equal(answer["MOTION"], motion)


def test_what_does_not_fit_is_refused_and_spares_the_others(step: PreprocessEdgeStep) -> None:
    _, good = stages(2)
    _, many = stages(4)
    wrong = {**good, "LUMA_U8": good["LUMA_U8"][:1]}
    missing = {"PIXELS_U8": good["PIXELS_U8"]}
    answers = step.run([(good, {}), (many, {}), (wrong, {}), (missing, {})])
    assert answers[0]["PIXELS"].shape == (2, 3, 64, 64)
    words = [str(answer) for answer in answers[1:] if isinstance(answer, StepError)]
    assert "expected 1 to 3 samples" in words[0]
    assert "LUMA_U8: expected [2,2,64,64]" in words[1]
    assert "got none; send what preprocess_u8 returns" in words[2]
