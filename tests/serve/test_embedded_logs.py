"""The cause of a failed start, read from logs as Triton writes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from fgmclip.serve.logs import failure, short_reason

NOISE = """\
W1123 22:46:57.242352 21193 pinned_memory_manager.cc:273] "Unable to allocate pinned system memory"
E1123 22:46:57.242497 21193 server.cc:241] "CudaDriverHelper has not been initialized."
I1123 22:46:57.245124 21193 model_lifecycle.cc:472] "loading: b__r1:1"
E1123 22:46:59.744389 21193 ensemble_scheduler.cc:1468] "unable to create stream for pub: CUDA"
Error: Failed to initialize NVML
W1123 22:46:59.748159 21193 metrics.cc:798] "DCGM unable to start: DCGM initialization error"
"""

FAILED_STEP = """\
E1123 22:47:02.146461 21193 model_lifecycle.cc:642] "failed to load 'head__r2' version 1: Internal:\
 ValueError: expected 8 rows,
  got 9

At:
  /repository/head__r2/1/model.py(6): initialize
"
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "triton.log"
    path.write_text(text, encoding="utf-8")
    return path


def test_noise_is_no_cause(tmp_path: Path) -> None:
    assert failure(write(tmp_path, NOISE)) == ""


def test_a_failed_step_is_named_with_its_reason_in_one_line(tmp_path: Path) -> None:
    log = write(tmp_path, NOISE + FAILED_STEP + NOISE)
    assert failure(log) == "head__r2: ValueError: expected 8 rows, got 9"


def test_other_errors_are_told_as_they_are(tmp_path: Path) -> None:
    log = write(
        tmp_path,
        NOISE + "E1123 22:47:02.146461 21193 main.cc:1 ] odd\n"
        'E1123 22:47:02.146461 21193 main.cc:421] "failed to start GRPC service: Unavailable"\n',
    )
    assert "failed to start GRPC service: Unavailable" in failure(log)


@pytest.mark.parametrize(
    ("text", "short"),
    [
        (
            "load failed for model 'a__r4': version 1 is at UNAVAILABLE state: Internal: "
            "RuntimeError: gone\n\nAt:\n  model.py(6): initialize\n;",
            "RuntimeError: gone",
        ),
        ("Invalid argument: no such input", "no such input"),
        ("plain", "plain"),
    ],
)
def test_reasons_are_shortened(text: str, short: str) -> None:
    assert short_reason(text) == short
