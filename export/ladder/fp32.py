"""The fp32 rung: the graph as it was exported."""

from __future__ import annotations

from pathlib import Path

from fgmclip.export.ladder.candidate import Candidate


def fp32_candidates(graph: Path) -> list[Candidate]:
    """Return what can serve the graph in fp32."""
    return [
        Candidate("fp32", "onnxruntime", graph),
        Candidate("fp32", "openvino", graph, {"precision": "f32"}),
    ]
