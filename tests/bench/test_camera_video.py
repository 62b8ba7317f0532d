"""What the benches' camera shows, and for how long."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from fgmclip.bench.camera_video import HEIGHT, RATE, WIDTH, camera_video, looped
from fgmclip.video.decode import decode


def test_its_shots_follow_each_other_and_looping_repeats_them(tmp_path: Path) -> None:
    shots = camera_video(tmp_path / "once.mp4", seconds=3, actions=("kick", "jump"))
    assert [shot.label for shot in shots] == ["kick", "jump"]
    assert shots[0].start == 0
    assert shots[0].end == shots[1].start
    frames = list(decode(tmp_path / "once.mp4"))
    assert {frame.pixels.shape for frame in frames} == {(HEIGHT, WIDTH, 3)}
    assert len(frames) / RATE == pytest.approx(shots[-1].end)
    looped(tmp_path / "once.mp4", tmp_path / "thrice.mp4", times=3)
    times = [frame.time for frame in decode(tmp_path / "thrice.mp4")]
    assert len(times) == 3 * len(frames)
    assert max(b - a for a, b in pairwise(times)) == pytest.approx(1 / RATE)
