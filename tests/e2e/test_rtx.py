"""A release for TensorRT for RTX in the real server, on a machine where no engine is proven."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fgmclip.client import ActionClient
from fgmclip.export.precision import PrecisionRequest
from fgmclip.export.release import export_release
from fgmclip.export.tensorrt.errors import LibraryError
from fgmclip.model.network import FgmClip
from fgmclip.serve import EmbeddedServer
from fgmclip.serve.runtimes.proof import (
    CACHE_VARIABLE,
    Proof,
    file_sha256,
    proof_file,
    recipe_hash,
)
from fgmclip.serve.runtimes.recipe import read_recipe

pytestmark = pytest.mark.e2e


@pytest.mark.usefixtures("fat_binary")
def test_without_a_gpu_its_graphs_serve_and_the_log_says_why(
    model: FgmClip,
    client: ActionClient,
    moving_clip: Callable[..., NDArray[np.uint8]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "engines"))
    repository = tmp_path / "repository"
    try:
        export_release(
            model, repository, target="rtx", precision=PrecisionRequest("fp16", trained=False)
        )
    except LibraryError as error:
        pytest.skip(f"NO ENGINE IS BUILT HERE: {error}")
    # One engine is proven, but on another machine.
    version = repository / "fusion_head__r1" / "1"
    recipe = read_recipe(version / "recipe.json")
    engine = tmp_path / "engines" / "key" / "fusion_head.plan"
    engine.parent.mkdir(parents=True)
    engine.write_bytes((version / "model.plan").read_bytes())
    proof = Proof(
        part="fusion_head",
        model_tag=recipe.model_tag,
        onnx_sha256=recipe.onnx_sha256,
        recipe_sha256=recipe_hash(recipe),
        engine_sha256=file_sha256(engine),
        library="rtx",
        library_version=json.loads((version / "model.plan.json").read_text(encoding="utf-8"))[
            "library_version"
        ],
        gpu="a GPU that no machine has",
        sm=89,
        precision="fp16",
        figures={},
        passed=True,
        reason="",
    )
    proof_file(engine, "fusion_head", recipe.model_tag).write_text(
        proof.to_json(), encoding="utf-8"
    )
    frames = moving_clip(0)
    with EmbeddedServer(repository) as server, ActionClient(server.url) as other:
        answer = other.classify_window(frames)
        log = server.log_path.read_text(encoding="utf-8")
    # Bit for bit the demo's answer of a release for CPUs: the same graphs in the same runtime.
    np.testing.assert_array_equal(answer.logits, client.classify_window(frames).logits)
    for part in ("clip_image_encoder", "motion_encoder", "fusion_head"):
        lines = [line for line in log.splitlines() if f"{part}: " in line and "serves" in line]
        (line,) = lines
        assert f"{part}: ONNX Runtime (" in line
        # Triton's own log, at its level for warnings.
        assert line.startswith("W")
        assert "no engine: expected" in line
