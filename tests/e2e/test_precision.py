"""The demo in int8, from export to an answer of the real server."""

from __future__ import annotations

from pathlib import Path

import pytest

from fgmclip.client import ActionClient
from fgmclip.export.gate import Thresholds
from fgmclip.export.precision import PrecisionRequest
from fgmclip.export.release import export_release, stages
from fgmclip.model.network import FgmClip
from fgmclip.serve import EmbeddedServer
from fgmclip.video.samples import generate_samples


@pytest.mark.e2e
def test_the_demo_in_int8_passes_the_gate_and_names_actions(
    tritonserver: None, model: FgmClip, tmp_path: Path
) -> None:
    # Speed is no matter here: a busy machine would refuse what an idle one takes.
    request = PrecisionRequest("int8", thresholds=Thresholds(speedup=0))
    repository = tmp_path / "repository"
    seen: list[str] = []
    manifest = export_release(model, repository, precision=request, report=seen.append)
    assert len(seen) == stages(model.spec, request)
    assert manifest.public.precision == "int8"
    assert set(manifest.precision_built.values()) == {"int8"}
    assert manifest.gate is not None
    assert manifest.gate.verdicts[-1].agreement == 1
    assert "| chain | int8/int8/int8 |" in (repository / "gate-r1.md").read_text(encoding="utf-8")
    samples = generate_samples(
        tmp_path / "samples", per_class=1, seed=9_000_000, actions=("walk_left", "sit_down")
    )
    with EmbeddedServer(repository) as server, ActionClient(server.url) as client:
        assert [client.classify(sample.path).label for sample in samples] == [
            sample.label for sample in samples
        ]
