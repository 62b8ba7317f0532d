"""Engines on a real GPU: the numbers of ONNX Runtime, and a proof that is found again."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fgmclip.export.errors import ExportError
from fgmclip.export.names import Part
from fgmclip.export.tensorrt.build import Workbench
from fgmclip.export.tensorrt.builder import RTX_SMS, BuildOptions
from fgmclip.export.tensorrt.building import build_release
from fgmclip.export.tensorrt.library import Library, load_library
from fgmclip.export.tensorrt.released import read_released
from fgmclip.serve.runtimes.gpu import Gpu, find_gpu
from fgmclip.serve.runtimes.libraries import LIBRARIES, LibraryName
from fgmclip.serve.runtimes.onnxruntime_cpu import OnnxRuntime
from fgmclip.serve.runtimes.proof import CACHE_VARIABLE, cache_folder
from fgmclip.serve.runtimes.proven import Here, choose_engine
from fgmclip.serve.runtimes.tensorrt_gpu import TensorRtRuntime

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="session")
def gpu() -> Gpu:
    found = find_gpu()
    if found is None:
        pytest.skip("NO ENGINE IS RUN HERE: no GPU")
    return found


@pytest.fixture(scope="session", params=LIBRARIES)
def library(request: pytest.FixtureRequest, gpu: Gpu) -> Library:
    name: LibraryName = request.param
    if name == "rtx" and gpu.sm not in RTX_SMS and gpu.sm < max(RTX_SMS):
        pytest.skip(f"TensorRT for RTX builds nothing for {gpu.name}")
    try:
        return load_library(name)
    except ExportError as error:
        pytest.skip(f"NO ENGINE IS RUN HERE: {error}")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "engines"))


def test_an_fp32_engine_gives_the_numbers_of_onnx_runtime_at_every_batch(
    library: Library, gpu: Gpu, graphs: dict[Part, Path]
) -> None:
    sms = (gpu.sm,) if library.name == "rtx" and gpu.sm in RTX_SMS else ()
    options = BuildOptions(precision="fp32", max_batch=16, sms=sms)
    report, _ = Workbench(library, options, gpu).build(
        "motion_encoder", graphs["motion_encoder"], lambda stage, share: None
    )
    engine = TensorRtRuntime(Path(report.engine), library.name)
    graph = OnnxRuntime(graphs["motion_encoder"])
    # Batches that repeat, so that recorded CUDA graphs are run too.
    for seed, batch in enumerate((1, 1, 1, 3, 3, 3, 16, 1, 2, 16)):
        random = np.random.default_rng(seed)
        inputs = {"MOTION": random.standard_normal((batch, 3, 32, 32), np.float32)}
        came, expected = (item.run(inputs)["MOTION_FEATURES"] for item in (engine, graph))
        np.testing.assert_allclose(came, expected, rtol=0, atol=1e-3 * np.abs(expected).max())
    engine.close()


def test_a_release_is_built_judged_and_proven(
    library: Library, gpu: Gpu, repository: Path, tmp_path: Path
) -> None:
    source = tmp_path / "repository"
    shutil.copytree(repository, source)
    released = read_released(source)
    for part, recipe in released.recipes.items():
        file = released.version(part) / "recipe.json"
        file.write_text(replace(recipe, library=library.name).to_json(), encoding="utf-8")
    shown = build_release(source, sms=(), level=None, stages=lambda part: lambda stage, share: None)
    assert shown.refusal is None
    assert all(row["built_precision"] == "fp16" for row in shown.rows)
    for part, recipe in read_released(source).recipes.items():
        graph = released.version(part) / "model.onnx"
        choice = choose_engine(graph, recipe, Here(library.version, gpu), cache_folder())
        assert choice.engine is not None, choice.why
