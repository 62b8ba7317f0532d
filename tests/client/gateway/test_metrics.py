"""Metrics: Prometheus' own tool takes names and rules, and the values are the board's."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fgmclip.client.endpoints.endpoint import EndpointStatus
from fgmclip.client.events.courier import CourierStatus
from fgmclip.client.events.event import Event
from fgmclip.client.events.outbox_status import OutboxStatus
from fgmclip.client.gateway.board import Board
from fgmclip.client.gateway.messages import Counts
from fgmclip.client.gateway.metrics import BoardMetrics

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "metrics.md"
EVENT = Event("e1", "door", None, 'wave "hi"', 10.0, None, 0.9, 11.0, "open", "wall", "tag")


@pytest.fixture
def board() -> Board:
    board = Board()
    camera = board.camera("door")
    camera.became("idle")
    camera.counted(Counts(frames=250, samples=80, dropped=3, gaps=2, reconnects=1))
    camera.decided(5.0, "wave", 0.9, None, 0.12, 8)
    camera.decided(6.0, "wave", 0.9, None, 0.7, 1)
    camera.skipped(4)
    camera.reset("gap")
    camera.failed_request("timeout")
    camera.gate(True)
    camera.evented(EVENT, 0.3)
    board.camera("yard")
    board.watch("endpoints", lambda: (EndpointStatus("h:8001", True, 9, 2, 1, 3, 0),))
    board.watch("sinks", lambda: {"mqtt": CourierStatus("mqtt", 7, 1, 4, "refused", 5)})
    board.watch(
        "outbox", lambda: OutboxStatus(8, 6, 1, {"mqtt": 5}, 2.5, 1, 4096, 2**20, damaged=None)
    )
    return board


def values(board: Board) -> dict[tuple[str, ...], float]:
    """Return each sample's value by its name and the values of its labels."""
    text = BoardMetrics(board).render()[0].decode()
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not installed (Debian: apt-get install prometheus)")
    return found


def test_what_the_board_knows_is_exposed(board: Board) -> None:
    shown = values(board)
    for name, value in {
        "frames": 250,
        "samples": 80,
        "samples_dropped": 3,
        "gaps": 2,
        "reconnects": 1,
        "samples_encoded": 9,
        "decisions": 2,
        "decisions_skipped": 4,
    }.items():
        assert shown[f"fgmclip_camera_{name}_total", "door"] == value, name
        assert shown[f"fgmclip_camera_{name}_total", "yard"] == 0, name
    assert shown["fgmclip_camera_resets_total", "door", "gap"] == 1
    assert shown["fgmclip_camera_server_errors_total", "door", "timeout"] == 1
    assert shown["fgmclip_events_total", "door", 'wave "hi"', "open"] == 1
    assert shown["fgmclip_camera_last_decision_timestamp_seconds", "door"] > 1e9
    assert ("fgmclip_camera_last_decision_timestamp_seconds", "yard") not in shown
    assert shown["fgmclip_endpoint_healthy", "h:8001"] == 1
    assert shown["fgmclip_endpoint_requests_total", "h:8001"] == 9
    assert shown["fgmclip_endpoint_failures_total", "h:8001"] == 2
    assert shown["fgmclip_sink_delivered_total", "mqtt"] == 7
    assert shown["fgmclip_sink_failures_total", "mqtt"] == 4
    assert shown["fgmclip_outbox_bytes",] == 4096
    assert shown["fgmclip_outbox_refused_total",] == 6
    assert shown["fgmclip_outbox_waiting_messages", "mqtt"] == 5
    assert shown["process_resident_memory_bytes",] > 2**20


def test_a_camera_is_in_one_state(board: Board) -> None:
    states = {
        key[2]: value
        for key, value in values(board).items()
        if "camera_state" in key[0] and key[1] == "door"
    }
    assert states.pop("idle") == 1
    assert set(states.values()) == {0}


def test_buckets_add_up(board: Board) -> None:
    shown = values(board)
    bucket = "fgmclip_camera_decision_latency_seconds_bucket"
    counts = [shown[bucket, "door", bound] for bound in ("0.1", "0.15", "0.75", "+Inf")]
    assert counts == [0, 1, 2, 2]
    assert shown["fgmclip_camera_decision_latency_seconds_count", "door"] == 2
    assert shown["fgmclip_camera_decision_latency_seconds_sum", "door"] == pytest.approx(0.82)
    assert shown["fgmclip_camera_event_latency_seconds_count", "door"] == 1


def test_the_gate_is_open_for_a_part_of_its_time(board: Board) -> None:
    shown = values(board)
    opened = shown["fgmclip_camera_gate_open_seconds_total", "door"]
    assert 0 < opened == shown["fgmclip_camera_gate_seconds_total", "door"]


def test_a_removed_camera_leaves_no_series(board: Board) -> None:
    board.remove("door")
    assert not [key for key in values(board) if "door" in key]


def test_two_boards_of_one_process_do_not_meet(board: Board) -> None:
    other = Board()
    other.camera("gate")
    assert ("fgmclip_camera_frames_total", "gate") not in values(board)
    assert ("fgmclip_camera_frames_total", "door") not in values(other)


def test_openmetrics_where_it_is_asked_for(board: Board) -> None:
    body, content_type = BoardMetrics(board).render("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")


def test_prometheus_takes_the_names(board: Board) -> None:
    body = BoardMetrics(board).render()[0]
    # The process' own metrics have the names that every client library gives them.
    ours = b"\n".join(line for line in body.splitlines() if b"fgmclip" in line) + b"\n"
    done = subprocess.run([promtool(), "check", "metrics"], input=ours, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b""), done.stderr.decode()


def test_the_document_names_every_metric_and_no_other(board: Board) -> None:
    text = BoardMetrics(board).render()[0].decode()
    exposed = set(re.findall(r"^# TYPE (fgmclip_\w+)", text, re.MULTILINE))
    documented = set(
        re.findall(r"^\| `(fgmclip_\w+)`", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    )
    assert documented == exposed


def test_prometheus_takes_the_example_rules(board: Board, tmp_path: Path) -> None:
    (rules,) = re.findall(
        r"```yaml\n(groups:.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL
    )
    text = BoardMetrics(board).render()[0].decode()
    for name in set(re.findall(r"fgmclip_\w+", rules)):
        assert re.search(rf"^{name}[ {{]", text, re.MULTILINE), name
    file = tmp_path / "rules.yaml"
    file.write_text(rules, encoding="utf-8")
    done = subprocess.run([promtool(), "check", "rules", str(file)], capture_output=True)
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
