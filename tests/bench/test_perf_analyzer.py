"""`perf_analyzer` as we start it: a stand-in that keeps what it was given."""

from __future__ import annotations

import base64
import json
import os
import stat
from pathlib import Path

import numpy as np
import pytest

from fgmclip.bench.load.perf_analyzer import (
    PROGRAM,
    PerfAnalyzerError,
    find_perf_analyzer,
    requests_per_second,
)
from fgmclip.bench.load.plan import Traffic

FRAMES = np.arange(2 * 3 * 4 * 3, dtype=np.uint8).reshape(2, 3, 4, 3)
TRAFFIC = Traffic("clip", "fgm_clip", {"FRAMES": FRAMES}, {}, ("PROBABILITIES",))

SCRIPT = """#!/bin/sh
echo "$@" > "{folder}/arguments"
while [ "$1" != "--input-data" ]; do shift; done
cp "$2" "{folder}/requests.json"
while [ "$1" != "-f" ]; do shift; done
printf 'Concurrency,Inferences/Second,Client Send\\n4,{rate},10\\n' > "$2"
exit {status}
"""


def program(folder: Path, *, rate: str = "123.5", status: int = 0) -> str:
    path = folder / PROGRAM
    path.write_text(SCRIPT.format(folder=folder, rate=rate, status=status), encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_it_is_given_the_requests_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    path = program(tmp_path)
    assert find_perf_analyzer() == path
    assert requests_per_second(path, "127.0.0.1:1", TRAFFIC, 4, seconds=2.0) == 123.5
    arguments = (tmp_path / "arguments").read_text(encoding="utf-8")
    assert "-m fgm_clip -u 127.0.0.1:1 -i grpc --input-data" in arguments
    assert "--concurrency-range 4 --measurement-interval 2000" in arguments
    (request,) = json.loads((tmp_path / "requests.json").read_text(encoding="utf-8"))["data"]
    # It sends what stands here, and no optional input that does not.
    assert list(request) == ["FRAMES"]
    assert request["FRAMES"]["shape"] == [2, 3, 4, 3]
    assert base64.b64decode(request["FRAMES"]["content"]["b64"]) == FRAMES.tobytes()


def test_one_that_fails_is_not_passed_over(tmp_path: Path) -> None:
    with pytest.raises(PerfAnalyzerError, match="exit status 3"):
        requests_per_second(program(tmp_path, status=3), "127.0.0.1:1", TRAFFIC, 4, seconds=2.0)


def test_where_there_is_none_none_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert find_perf_analyzer() is None
