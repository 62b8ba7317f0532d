"""What the field's tests share: tiny releases for the real server, and ways to wait."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fgmclip.client.events.event import Event, event_id
from fgmclip.serve import ServeError, find_tritonserver

_STEP = """
import json, time
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        parameters = json.loads(args["model_config"])["parameters"]
        self.add = float(parameters["add"]["string_value"])

    def execute(self, requests):
        answers = []
        for request in requests:
            x = pb_utils.get_input_tensor_by_name(request, "X").as_numpy()
            # X is also how long it takes, in seconds.
            time.sleep(float(x[0]))
            answers.append(pb_utils.InferenceResponse([pb_utils.Tensor("Y", x + self.add)]))
        return answers
"""

_TENSORS = """
input [ { name: "X" data_type: TYPE_FP32 dims: [ -1 ] } ]
output [ { name: "Y" data_type: TYPE_FP32 dims: [ -1 ] } ]
"""

Publish = Callable[[Path, int], None]
Eventually = Callable[..., bool]


@pytest.fixture
def tritonserver() -> None:
    """Skip loudly where there is no Triton server."""
    try:
        find_tritonserver()
    except ServeError as error:
        pytest.skip(str(error))


@pytest.fixture
def publish() -> Publish:
    """Write a release that answers X + its number after X seconds, as an exporter would."""

    def write(repository: Path, release: int) -> None:
        step = repository / f"step__r{release}"
        (step / "1").mkdir(parents=True)
        (step / "1" / "model.py").write_text(_STEP, encoding="utf-8")
        (step / "config.pbtxt").write_text(
            f'backend: "python"\n{_TENSORS}'
            f'parameters {{ key: "add" value {{ string_value: "{release}" }} }}\n',
            encoding="utf-8",
        )
        ensemble = repository / "public"
        (ensemble / "1").mkdir(parents=True, exist_ok=True)
        temporary = ensemble / ".writing"
        temporary.write_text(
            f'platform: "ensemble" {_TENSORS} ensemble_scheduling {{ step [ '
            f'{{ model_name: "step__r{release}" model_version: -1 '
            'input_map { key: "X" value: "X" } output_map { key: "Y" value: "Y" } } ] }',
            encoding="utf-8",
        )
        temporary.replace(ensemble / "config.pbtxt")

    return write


@pytest.fixture(scope="session")
def event() -> Event:
    """An open event."""
    return Event(
        id=event_id("door", None, "hug", 1, "wall", "m"),
        camera="door",
        track=None,
        label="hug",
        start=1.0,
        end=None,
        peak=0.9,
        peak_time=1.5,
        state="open",
        clock="wall",
        model_tag="m",
    )


@pytest.fixture
def eventually() -> Eventually:
    """Return whether something comes to hold in time."""

    def wait(condition: Callable[[], bool], seconds: float = 30.0) -> bool:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    return wait
