"""The search over threads and streams takes another way only for a clear gain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fgmclip.export import tuning
from fgmclip.export.gate import Likeness
from fgmclip.export.ladder.candidate import Candidate
from fgmclip.export.trial import Race, Tried

EXACT = Likeness(True, 0.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("faster", "taken"),
    [
        ({"threads": 1.05, "streams": 1.05}, {"precision": "f32"}),
        ({"threads": 0.5, "streams": 1.3}, {"precision": "f32", "streams": "2"}),
        ({"threads": 1.5, "streams": 1.3}, {"precision": "f32", "threads": "1"}),
        # The second way must beat the first by as much again.
        ({"threads": 1.3, "streams": 1.4}, {"precision": "f32", "threads": "1"}),
    ],
)
def test_a_way_is_taken_for_a_clear_gain_alone(
    monkeypatch: pytest.MonkeyPatch, faster: dict[str, float], taken: dict[str, str]
) -> None:
    def race(first: Any, second: dict[str, str], inputs: Any) -> Race:
        (way,) = set(second) - {"precision"}
        return Race((10.0, 2.0), (10.0 / faster[way], 2.0 / faster[way]), 1 / faster[way])

    monkeypatch.setattr(tuning, "open_runtime", lambda name, graph, options: dict(options))
    monkeypatch.setattr(tuning, "race", race)
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0, 1})
    candidate = Candidate("fp32", "openvino", Path("a.onnx"), {"precision": "f32"})
    chosen = Tried(candidate, EXACT, 10.0, 2.0, 1.0, "")
    inputs = {"PIXELS": np.zeros((8, 3, 4, 4), np.float32)}
    best, found = tuning.tune("clip_image_encoder", chosen, inputs, lambda what: None)
    assert best.options == taken
    assert [item.options for item in found if item.taken] == [taken]
    assert len(found) == 3
