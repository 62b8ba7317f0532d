"""A release for TensorRT for RTX on a machine without a GPU: its graphs serve in ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import pytest

from fgmclip.client import ActionClient
from fgmclip.export.errors import ExportError
from fgmclip.export.lint import lint_repository
from fgmclip.export.precision import PrecisionRequest
from fgmclip.export.release import export_release
from fgmclip.export.tensorrt.library import load_library
from fgmclip.model.network import FgmClip
from fgmclip.serve import EmbeddedServer
from fgmclip.serve.runtimes.gpu import find_gpu
from fgmclip.video.samples import generate_samples


@pytest.mark.e2e
@pytest.mark.usefixtures("fat_binary")
def test_it_names_actions_without_a_gpu(tritonserver: None, model: FgmClip, tmp_path: Path) -> None:
    if find_gpu() is not None:
        pytest.skip("a GPU is here, and its engines would have to be proved first")
    try:
        load_library("rtx")
    except ExportError as error:
        pytest.skip(f"NO RELEASE IS SERVED HERE: {error}")
    repository = tmp_path / "repository"
    # Few clips judge what counts as untrained: how good it is, other tests say.
    request = PrecisionRequest("fp16", trained=False)
    manifest = export_release(model, repository, target="rtx", precision=request, sms=(86, 89))
    assert all(not item.inspected for item in manifest.engines)
    assert lint_repository(repository) == []
    samples = generate_samples(
        tmp_path / "samples", per_class=1, seed=9_000_000, actions=("walk_left", "sit_down")
    )
    with EmbeddedServer(repository) as server, ActionClient(server.url) as client:
        assert [client.classify(sample.path).label for sample in samples] == [
            sample.label for sample in samples
        ]
    # What the server wrote beside the steps' code is nothing to complain about.
    assert lint_repository(repository) == []
