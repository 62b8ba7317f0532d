"""`bench/stream_bytes.py`: what is weighed is what the clients send."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fgmclip.bench.stream_bytes import Traffic, main, measure
from fgmclip.spec import preset


def by_kind(traffic: list[Traffic]) -> dict[tuple[str, str], Traffic]:
    return {(item.way, item.frames): item for item in traffic}


def test_requests_hold_their_tensors_and_little_else() -> None:
    spec = preset("demo")
    assert spec.motion is not None
    found = by_kind(measure(spec))
    side, luma, window = spec.visual.image_size, spec.motion.size, spec.clip.frames
    history = (window - 1) * (spec.visual.width + spec.motion.width) * 4
    sample = side * side * 3 + 2 * luma * luma
    frame = 480 * 854 * 3
    edge = f"RGB {side}, 2 lumas {luma}"
    expected = {
        ("stream, edge", edge): sample + history,
        ("stream, raw", "480p RGB"): 2 * frame + history,
        ("stream, raw", "480p NV12"): frame + history,
        ("window sent again, edge", edge): window * sample,
        ("window sent again, raw", "480p RGB"): (window + 1) * frame,
        ("window sent again, raw", "1080p NV12"): (window + 1) * 1080 * 1920 * 3 // 2,
    }
    for kind, size in expected.items():
        assert size < found[kind].request_bytes < size + 500, kind
    assert len(found) == 10
    answer = (spec.visual.width + spec.motion.width + spec.fusion.width + 2 * 12) * 4
    assert answer < found[("stream, edge", edge)].answer_bytes < answer + 500


def test_a_second_is_one_over_dt_decisions() -> None:
    spec = preset("demo")
    for item in measure(spec):
        assert item.sent_per_second == pytest.approx(item.request_bytes / spec.clip.dt)


def test_it_prints_and_writes_what_it_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bytes.json"
    assert main(["--model", "demo", "--json", str(path)]) == 0
    figures = json.loads(path.read_text(encoding="utf-8"))
    assert {item["model"] for item in figures["traffic"]} == {"demo"}
    assert "window sent again" in capsys.readouterr().out
    assert {"machine", "date"} <= set(figures)
