"""A report that nobody measured, for tests of what shows reports."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fgmclip.bench.cost.competitor import EAGER, NAIVE, SERVED
from fgmclip.bench.cost.datasets import DATASETS, SAME_CLIP
from fgmclip.bench.cost.report import CostReport, Entry, Group, Latency, Ratio
from fgmclip.bench.cost.sheets import KEYS

PASSED = "gate: passed, invented"
OURS_MS = 271.5

# Key, name, group, parameters (M), multiply-adds (G), precision, times of ours.
LINEUP: tuple[tuple[str, str, Group, float, float, str, float], ...] = (
    (SERVED, "invented model, served", "served", 166.5, 193.25, "int8/bf16/int8", 1.0),
    (EAGER, "eager, invented fp32", "pytorch", 166.5, 193.25, "fp32", 8.4375),
    ("eager-bf16", "eager, invented bf16", "pytorch", 166.5, 193.25, "bf16", 3.1875),
    ("invented-runtime", "runtime as is <b>", "runtime", 166.5, 193.25, "fp32", 4.625),
    (NAIVE, "naive | invented", "naive", 166.5, 193.25, "fp32", 5.875),
    ("invented-tiny", "tiny peer", "peer", 8.125, 3.5, "fp32", 0.03125),
    ("invented-3d", "3D peer, one engine", "peer", 78.25, 38.5, "fp32", 2.375),
    ("invented-3d-again", "3D peer, other engine", "peer", 78.25, 38.5, "bf16", 1.625),
    ("invented-swin", "peer with windows", "peer", 28.125, 43.875, "fp32", 2.875),
    ("invented-two", "peer of two streams", "peer", 25.125, 107.875, "fp32", 3.875),
    ("ablation-resnet50", "invented ResNet", "ablation", 42.5, 60.75, "fp32", 1.25),
    ("ablation-tcn", "invented TCN", "ablation", 155.25, 176.5, "fp32", 0.9375),
    ("ablation-concat", "invented concat", "ablation", 163.75, 192.5, "fp32", 0.96875),
)


def invented_time(factor: float) -> Latency:
    p50 = OURS_MS * factor
    return Latency(p50, 1.11 * p50, 1.37 * p50, 0.97 * p50, 1.04 * p50, 120, 12, 1 / 12)


def invented_entry(
    key: str, name: str, group: Group, size: float, work: float, precision: str, factor: float
) -> Entry:
    return Entry(
        key=key,
        name=name,
        group=group,
        dataset=None,
        clip=(10, 224, 224),
        parameters=round(size * 1e6),
        served_parameters=round(0.625 * size * 1e6),
        multiply_adds=round(work * 1e9),
        precision=precision,
        verdict=PASSED if group == "served" else "",
        includes="nothing: this was not run",
        latency=invented_time(factor),
    )


@pytest.fixture
def report() -> CostReport:
    entries = [invented_entry(*fields) for fields in LINEUP]
    absent = replace(
        entries[1], key="invented-absent", name="absent", latency=None, why="it does not exist"
    )
    rows = [
        replace(
            entry,
            dataset=dataset.key,
            parameters=(entry.parameters or 0) + 512 * dataset.classes,
            includes=SAME_CLIP,
            training_seconds=123.25 if dataset.key == "gym99" else None,
        )
        for dataset in DATASETS.values()
        for entry in entries
        if entry.key in KEYS.values()
    ]
    return CostReport(
        started="1970-01-01T00:00:00+00:00",
        quick=True,
        protocol={
            "device": "an invented machine: no figure here was measured",
            "threads": "2",
            "batch": "1",
            "versions": "none <&>",
        },
        entries=(*entries, absent, *rows),
        ratios=tuple(
            Ratio(entry.key, SERVED, factor, 0.95 * factor, 1.06 * factor, 12)
            for entry, (*_, factor) in zip(entries[1:], LINEUP[1:], strict=True)
        ),
    )
