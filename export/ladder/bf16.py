"""The bf16 rung: on a CPU a way of computing the fp32 graph, not another graph.

OpenVINO converts the weights when it compiles and decides itself which nodes stay fp32, so the file
and its size are those of fp32.
"""

from __future__ import annotations

from pathlib import Path

from fgmclip.export.ladder.candidate import Candidate


def bf16_candidates(graph: Path) -> list[Candidate]:
    """Return what can serve the graph in bf16: nothing on a CPU without the instructions."""
    # Where engines are for a GPU, OpenVINO need not be installed.
    from fgmclip.serve.runtimes.openvino_cpu import computes_bf16

    if not computes_bf16():
        return []
    return [Candidate("bf16", "openvino", graph, {"precision": "bf16"})]
