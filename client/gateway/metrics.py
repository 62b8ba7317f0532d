"""The board in Prometheus' words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Metric, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from fgmclip import __version__
from fgmclip.client.gateway.board import Board
from fgmclip.client.gateway.snapshot import (
    CAMERA_STATES,
    CameraSnapshot,
    HistogramSnapshot,
    Snapshot,
)

Cameras = tuple[CameraSnapshot, ...]

_COUNTERS = {
    "frames": ("frames", "Frames decoded."),
    "frames_lost": ("lost", "Frames that were damaged or missing."),
    "samples": ("samples", "Samples of the time grid made of frames."),
    "samples_dropped": ("dropped", "Samples thrown away because the server was too slow."),
    "gaps": ("gaps", "Points of the time grid without a frame."),
    "reconnects": ("reconnects", "Times that the source was opened again after it was lost."),
    "samples_encoded": ("encoded", "Samples sent to be encoded."),
    "decisions": ("decisions", "Decisions made."),
    "decisions_skipped": ("skipped", "Decisions that were due and not made."),
    "gate_open_seconds": ("gate_open_seconds", "Time with the motion gate open."),
    "gate_seconds": ("gate_seconds", "Time with a motion gate, open or closed."),
}
"""Metric by what the snapshot calls it, and its help."""


class BoardCollector(Collector):
    """Reads the board at each scrape; keeps nothing itself."""

    def __init__(self, board: Board) -> None:
        """Collect from a board."""
        self._board = board

    def collect(self) -> Iterator[Metric]:
        """Return every metric with its samples."""
        snapshot = self._board.snapshot()
        yield InfoMetricFamily("fgmclip_build", "What runs.", {"version": __version__})
        yield from _cameras(snapshot.cameras)
        yield from _servers(snapshot)
        yield from _sinks(snapshot)
        yield from _outbox(snapshot)


class BoardMetrics:
    """What `/metrics` answers, out of a registry of its own."""

    def __init__(self, board: Board) -> None:
        """Answer for a board, and for this process (memory, CPU, files)."""
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(BoardCollector(board))
        ProcessCollector(registry=self._registry)

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """Return the exposition and its content type.

        Args:
            accept: The request's header: OpenMetrics where it is asked for, else plain text.
        """
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type


def _cameras(cameras: Cameras) -> Iterator[Metric]:
    for name, (field, help_text) in _COUNTERS.items():
        family = CounterMetricFamily(f"fgmclip_camera_{name}", help_text, labels=["camera"])
        for camera in cameras:
            family.add_metric([camera.name], getattr(camera, field))
        yield family
    yield _by_name("resets", "reason", "Windows that began anew, by reason.", cameras)
    yield _by_name("server_errors", "kind", "Failed requests by kind.", cameras)
    yield _states(cameras)
    newest = GaugeMetricFamily(
        "fgmclip_camera_last_decision_timestamp_seconds",
        "Unix time of the newest decision.",
        labels=["camera"],
    )
    for camera in cameras:
        if camera.last_decision is not None:
            newest.add_metric([camera.name], camera.last_decision)
    yield newest
    yield _latencies("decision", cameras)
    yield _latencies("event", cameras)
    events = CounterMetricFamily(
        "fgmclip_events",
        "Events accepted, by the state that they came into.",
        labels=["camera", "label", "state"],
    )
    for camera in cameras:
        for event in camera.events:
            events.add_metric([camera.name, event.label, event.state], event.count)
    yield events


def _by_name(field: str, label: str, help_text: str, cameras: Cameras) -> Metric:
    family = CounterMetricFamily(f"fgmclip_camera_{field}", help_text, labels=["camera", label])
    for camera in cameras:
        counts: Mapping[str, int] = getattr(camera, field)
        for name, count in counts.items():
            family.add_metric([camera.name, name], count)
    return family


def _states(cameras: Cameras) -> Metric:
    family = GaugeMetricFamily(
        "fgmclip_camera_state", "1 for the state that the camera is in.", labels=["camera", "state"]
    )
    for camera in cameras:
        for state in CAMERA_STATES:
            family.add_metric([camera.name, state], float(camera.state == state))
    return family


def _latencies(of: str, cameras: Cameras) -> Metric:
    family = HistogramMetricFamily(
        f"fgmclip_camera_{of}_latency_seconds",
        f"From the capture of a sample to the {of} made of it.",
        labels=["camera"],
    )
    for camera in cameras:
        histogram: HistogramSnapshot = getattr(camera, f"{of}_latency")
        family.add_metric([camera.name], _buckets(histogram), histogram.sum_seconds)
    return family


def _buckets(histogram: HistogramSnapshot) -> list[tuple[str, float]]:
    """Return cumulative counts by upper bound, as Prometheus wants them."""
    buckets, total = [], 0
    bounds = (*(str(float(bound)) for bound in histogram.bounds), "+Inf")
    for bound, count in zip(bounds, histogram.counts, strict=True):
        total += count
        buckets.append((bound, float(total)))
    return buckets


def _servers(snapshot: Snapshot) -> Iterator[Metric]:
    rows = [(endpoint.url, endpoint) for endpoint in snapshot.endpoints]
    prefix = "fgmclip_endpoint"
    yield _gauge(f"{prefix}_healthy", "1 where a server is in use.", "healthy", rows)
    yield _gauge(f"{prefix}_in_flight", "Requests that are out now.", "in_flight", rows)
    yield _counter(f"{prefix}_requests", "Requests sent, retries included.", "requests", rows)
    yield _gauge(f"{prefix}_waiting", "Requests that wait for a slot.", "waiting", rows)
    yield _counter(f"{prefix}_failures", "Requests that no answer came to.", "failures", rows)
    yield _counter(f"{prefix}_retries", "Requests that had been sent before.", "retries", rows)


def _sinks(snapshot: Snapshot) -> Iterator[Metric]:
    rows = [(sink.sink, sink) for sink in snapshot.sinks]
    prefix = "fgmclip_sink"
    yield _counter(f"{prefix}_delivered", "Messages delivered.", "delivered", rows)
    yield _counter(f"{prefix}_failures", "Attempts that failed and are repeated.", "failures", rows)
    yield _counter(f"{prefix}_refused", "Messages refused for good.", "refused", rows)


def _outbox(snapshot: Snapshot) -> Iterator[Metric]:
    rows = [] if snapshot.outbox is None else [("", snapshot.outbox)]
    prefix = "fgmclip_outbox"
    yield _gauge(f"{prefix}_bytes", "Disk that the outbox takes.", "bytes", rows)
    yield _gauge(f"{prefix}_limit_bytes", "Disk that it may take.", "limit_bytes", rows)
    yield _gauge(f"{prefix}_open_events", "Events that have not ended.", "open", rows)
    yield _gauge(
        f"{prefix}_oldest_seconds",
        "How long the oldest message has waited.",
        "oldest_seconds",
        rows,
    )
    yield _counter(f"{prefix}_accepted", "Events committed to the outbox.", "accepted", rows)
    yield _counter(f"{prefix}_refused", "Events refused for want of room.", "refused", rows)
    waiting = GaugeMetricFamily(
        f"{prefix}_waiting_messages", "Messages that a sink has yet to take.", labels=["sink"]
    )
    for sink, count in ({} if snapshot.outbox is None else snapshot.outbox.waiting).items():
        waiting.add_metric([sink], count)
    yield waiting


Rows = Iterable[tuple[str, object]]


def _gauge(name: str, help_text: str, field: str, rows: Rows) -> Metric:
    return _fill(GaugeMetricFamily(name, help_text, labels=_labels(name)), field, rows)


def _counter(name: str, help_text: str, field: str, rows: Rows) -> Metric:
    return _fill(CounterMetricFamily(name, help_text, labels=_labels(name)), field, rows)


def _labels(name: str) -> list[str]:
    # The outbox is one alone, so it needs no label.
    kind = name.split("_")[1]
    return [] if kind == "outbox" else [kind]


def _fill(
    family: GaugeMetricFamily | CounterMetricFamily, field: str, rows: Rows
) -> GaugeMetricFamily | CounterMetricFamily:
    for name, status in rows:
        family.add_metric([name] if name else [], getattr(status, field))
    return family
