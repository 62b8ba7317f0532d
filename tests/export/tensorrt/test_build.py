"""One graph to one engine in the cache: what the report says, and when nothing is built anew."""

from __future__ import annotations

import json
import resource
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from fgmclip.export.names import Part
from fgmclip.export.tensorrt.build import Workbench, engine_key, gpu_name
from fgmclip.export.tensorrt.builder import BuildOptions
from fgmclip.export.tensorrt.errors import EngineBuildError, GraphRefusedError, PrecisionError
from fgmclip.export.tensorrt.graph_types import products
from fgmclip.export.tensorrt.half import to_half
from fgmclip.export.tensorrt.library import Library
from fgmclip.export.tensorrt.report import (
    EngineReport,
    asked_text,
    report_file,
    report_lines,
)
from fgmclip.export.tensorrt.verify import UNVERIFIED
from fgmclip.serve.runtimes.gpu import Gpu, find_gpu
from fgmclip.serve.runtimes.proof import cache_folder
from fgmclip.serve.runtimes.recipe import Rest

FP16 = BuildOptions(precision="fp16", max_batch=4)
L4 = Gpu("NVIDIA L4", 89)


def quiet(phase: str, share: float) -> None:
    """Report nothing."""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "fgmclip" / "engines"


@pytest.fixture
def product(make_graph: Callable[..., onnx.ModelProto], tmp_path: Path) -> Path:
    """An fp32 file with one product, for TensorRT that only takes notes."""
    weights = np.random.default_rng(0).standard_normal((4, 4), dtype=np.float32)
    model = make_graph(
        helper.make_node("MatMul", ["X", "w"], ["Y"], "my_matmul"), weights={"w": weights}
    )
    onnx.save(model, tmp_path / "product.onnx")
    return tmp_path / "product.onnx"


def test_without_a_gpu_the_precision_is_requested_and_unverified(
    rtx: Library, graphs: dict[Part, Path], cache: Path
) -> None:
    bench = Workbench(rtx, replace(FP16, sms=(86, 89)), None)
    report, reused = bench.build("fusion_head", graphs["fusion_head"], quiet)
    assert not reused
    assert report.built_precision == UNVERIFIED == "requested, unverified"
    assert (report.precision, report.gpu, report.profile) == ("fp16", "SM86, SM89", (1, 4, 4))
    assert report.weight_bytes["fp16"] > 10 * report.weight_bytes["fp32"]
    assert 0 < report.stored_bytes["fp16"] <= report.weight_bytes["fp16"]
    assert report.centred_cosine is not None
    assert report.centred_cosine > 0.999
    assert any("no GPU here" in line for line in report.unverified)
    assert any("version and GPUs (SM86, SM89)" in line for line in report.verified)
    engine = Path(report.engine)
    assert cache == engine.parents[1] == cache_folder()
    assert engine.stat().st_size == report.engine_bytes
    assert EngineReport.from_json(report_file(engine).read_bytes()) == report
    assert sorted(path.name for path in engine.parent.iterdir()) == [
        "fusion_head.onnx",
        "fusion_head.plan",
        "fusion_head.plan.json",
    ]
    lines = report_lines([report])
    assert f"the same by hand: {report.trtexec}" in lines
    assert f"--onnx={report.graph}" in report.trtexec
    # What the line is given already is the half graph.
    assert {kind for item in products(onnx.load(report.graph)) for kind in item.types} == {"fp16"}


def test_an_engine_is_built_once_and_again_when_it_is_damaged(
    rtx: Library, graphs: dict[Part, Path]
) -> None:
    bench = Workbench(rtx, FP16, None)
    first, _ = bench.build("motion_encoder", graphs["motion_encoder"], quiet)
    assert bench.build("motion_encoder", graphs["motion_encoder"], quiet) == (first, True)
    engine = Path(first.engine)
    engine.write_bytes(engine.read_bytes()[:-1])
    again, reused = bench.build("motion_encoder", graphs["motion_encoder"], quiet)
    assert not reused
    assert engine.stat().st_size == again.engine_bytes == first.engine_bytes
    report_file(engine).write_text("{}", encoding="utf-8")
    assert not bench.build("motion_encoder", graphs["motion_encoder"], quiet)[1]


def test_an_engine_that_finds_no_room_leaves_nothing(
    noting_library: Library, product: Path, cache: Path
) -> None:
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    # The graph fits and its report does not.
    resource.setrlimit(resource.RLIMIT_FSIZE, (1500, limit[1]))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            Workbench(noting_library, FP16, None).build("product", product, quiet)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert str(cache) in caught.value.filename
    assert not [path for path in cache.rglob("*") if path.is_file()]


def test_a_cache_that_was_moved_is_told_where_it_is_now(
    rtx: Library, graphs: dict[Part, Path], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = Workbench(rtx, FP16, None).build("motion_encoder", graphs["motion_encoder"], quiet)
    moved = cache.parent / "moved"
    cache.rename(moved)
    monkeypatch.setenv("FGMCLIP_ENGINES", str(moved))
    again, reused = Workbench(rtx, FP16, None).build(
        "motion_encoder", graphs["motion_encoder"], quiet
    )
    assert reused
    for path in (again.engine, again.graph):
        assert Path(path).is_file()
        assert path in again.trtexec
    assert Path(first.engine).relative_to(cache) == Path(again.engine).relative_to(moved)


def test_a_folder_of_ones_own_holds_the_engine_of_the_last_options(
    rtx: Library, graphs: dict[Part, Path], tmp_path: Path, cache: Path
) -> None:
    out = tmp_path / "out"
    for options, reused in ((FP16, False), (FP16, True), (replace(FP16, max_batch=2), False)):
        bench = Workbench(rtx, options, None, out)
        assert bench.build("motion_encoder", graphs["motion_encoder"], quiet)[1] is reused
    assert not cache.exists()


def test_everything_that_decides_an_engine_is_in_its_key(
    rtx: Library, noting_library: Library
) -> None:
    keys = [
        engine_key(library, options, digest, gpu)
        for library, options, digest, gpu in (
            (rtx, FP16, "a", "SM86"),
            (rtx, FP16, "b", "SM86"),
            (rtx, FP16, "a", "SM89"),
            (rtx, replace(FP16, precision="bf16"), "a", "SM86"),
            (rtx, replace(FP16, max_batch=8), "a", "SM86"),
            (rtx, replace(FP16, keep=("node",)), "a", "SM86"),
            (rtx, replace(FP16, precision="int8", rest="fp16"), "a", "SM86"),
            (rtx, replace(FP16, precision="int8", rest="bf16"), "a", "SM86"),
            (rtx, replace(FP16, precision="int8", rest="fp32"), "a", "SM86"),
            (rtx, replace(FP16, level=5), "a", "SM86"),
            (rtx, replace(FP16, version_compatible=True), "a", "SM86"),
            (replace(rtx, version="1.8.0.1"), FP16, "a", "SM86"),
            (noting_library, FP16, "a", "SM86"),
        )
    ]
    assert len(set(keys)) == len(keys)
    timed = replace(FP16, timing_cache=Path("t.cache"))
    assert engine_key(rtx, timed, "a", "SM86") == keys[0]
    # Of a graph without Q/DQ nodes there is no rest.
    assert engine_key(rtx, replace(FP16, rest="fp16"), "a", "SM86") == keys[0]


def test_what_an_engine_is_for_is_said_in_words(rtx: Library, noting_library: Library) -> None:
    assert gpu_name(rtx, FP16, None) == "SM80 and later"
    assert gpu_name(rtx, replace(FP16, sms=(86,)), L4) == "SM86"
    assert gpu_name(noting_library, FP16, L4) == "NVIDIA L4 (SM89)"
    assert gpu_name(noting_library, FP16, None) == "no GPU"


def test_a_contradicting_graph_is_refused_before_anything_is_built(
    noting_library: Library, noting: Any, graphs: dict[Part, Path], tmp_path: Path, cache: Path
) -> None:
    half = tmp_path / "half.onnx"
    onnx.save(to_half(onnx.load(graphs["motion_encoder"]), "fp16"), half)
    for precision in ("fp32", "bf16"):
        options = replace(FP16, precision=precision)
        with pytest.raises(PrecisionError, match=f"expected products in {precision}"):
            Workbench(noting_library, options, None).build("half", half, quiet)
    assert noting.notes == []
    assert not cache.exists()


def test_a_graph_that_is_half_already_is_taken_as_it_is(
    rtx: Library, graphs: dict[Part, Path], tmp_path: Path
) -> None:
    half = tmp_path / "half.onnx"
    onnx.save(to_half(onnx.load(graphs["motion_encoder"]), "fp16"), half)
    report, _ = Workbench(rtx, FP16, None).build("half", half, quiet)
    assert report.centred_cosine is None
    assert not any("emulated" in line or "norms" in line for line in report.verified)
    assert "how far fp16 is from fp32" in report.unverified


@pytest.mark.parametrize("content", [b"", b"no graph"])
def test_a_file_that_is_no_graph_is_refused(rtx: Library, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file.onnx"
    path.write_bytes(content)
    with pytest.raises(GraphRefusedError, match="expected an ONNX model with its weights"):
        Workbench(rtx, FP16, None).build("file", path, quiet)


def inspected(kind: str) -> str:
    return json.dumps({"Layers": [{"Name": "my_matmul", "Inputs": [{"Format/Datatype": kind}]}]})


def test_on_a_gpu_the_inspector_proves_the_precision(
    noting_library: Library, noting: Any, product: Path
) -> None:
    noting.information = inspected("Half")
    report, _ = Workbench(noting_library, FP16, L4).build("product", product, quiet)
    assert report.built_precision == "fp16"
    assert report.gpu == "NVIDIA L4 (SM89)"
    assert "inspector: 1 products in fp16" in report.verified
    assert report.inspected
    assert report.unverified == ("the outputs: the gate does that",)
    assert Workbench(noting_library, FP16, L4).build("product", product, quiet) == (report, True)


def test_on_a_gpu_an_engine_in_another_precision_is_refused_and_not_kept(
    noting_library: Library, noting: Any, product: Path, cache: Path
) -> None:
    noting.information = inspected("Row major linear FP32")
    with pytest.raises(PrecisionError, match=r"MatMul 'my_matmul' in fp32"):
        Workbench(noting_library, FP16, L4).build("product", product, quiet)
    assert not list(cache.rglob("*.plan"))


def test_on_a_gpu_products_without_a_name_leave_the_precision_unverified(
    noting_library: Library, noting: Any, product: Path
) -> None:
    noting.information = json.dumps({"Layers": ["my_matmul"]})
    report, _ = Workbench(noting_library, FP16, L4).build("product", product, quiet)
    assert report.built_precision == UNVERIFIED
    assert "1 products that the inspector does not name" in report.unverified


def test_an_engine_for_other_gpus_than_the_one_here_is_not_loaded(
    rtx: Library, product: Path
) -> None:
    options = replace(FP16, sms=(86,))
    report, _ = Workbench(rtx, options, L4).build("product", product, quiet)
    assert not report.inspected
    assert report.built_precision == UNVERIFIED
    assert any("NVIDIA L4 (SM89), the GPU here, is none" in line for line in report.unverified)
    # Nothing new would come of building it again here.
    assert Workbench(rtx, options, L4).build("product", product, quiet) == (report, True)


def test_an_engine_from_a_machine_without_a_gpu_is_proved_where_one_is(
    noting_library: Library, noting: Any, product: Path, tmp_path: Path
) -> None:
    # TensorRT for RTX builds anywhere; here the key is made equal by the name of the GPU.
    noting.information = inspected("Half")
    first, _ = Workbench(noting_library, FP16, L4, tmp_path).build("product", product, quiet)
    unproved = first.replace(inspected=False, built_precision=UNVERIFIED, gpu_here="")
    report_file(Path(first.engine)).write_text(unproved.to_json(), encoding="utf-8")
    assert (
        Workbench(noting_library, FP16, L4, tmp_path)
        .build("product", product, quiet)[0]
        .built_precision
        == "fp16"
    )


def test_an_engine_of_another_version_than_the_builders_is_told(
    noting_library: Library, noting: Any, product: Path
) -> None:
    noting.engine = b"ftrt" + bytes(20) + bytes((9, 0, 0, 1)) + bytes(100)
    with pytest.raises(EngineBuildError, match=r"just built: .* got one of TensorRT 9\.0\.0\.1"):
        Workbench(noting_library, FP16, None).build("product", product, quiet)


def test_a_gpu_is_found_or_none_is() -> None:
    gpu = find_gpu()
    assert gpu is None or (gpu.name and gpu.sm >= 50)


@pytest.mark.parametrize("rest", ["fp16", "bf16"])
def test_what_is_not_quantised_is_converted_as_the_recipe_says(
    rtx: Library, quantised: Path, rest: Rest
) -> None:
    options = replace(FP16, precision="int8", rest=rest, sms=(86, 89))
    report, _ = Workbench(rtx, options, None).build("motion_encoder", quantised, quiet)
    assert set(report.weight_bytes) >= {"int8", rest}
    assert report.weight_bytes["int8"] > report.weight_bytes.get("fp32", 0)
    assert (report.precision, report.rest, asked_text(report)) == (
        "int8",
        rest,
        f"int8, rest {rest}",
    )
    # Whether that is good enough only the gate's clips can say.
    assert report.centred_cosine is None
    assert "how far int8 is from fp32" in report.unverified


def test_nodes_that_are_kept_stay_fp32_and_are_not_tf32(
    noting_library: Library, noting: Any, product: Path
) -> None:
    kept = replace(FP16, keep=("my_matmul",))
    report, _ = Workbench(noting_library, kept, None).build("product", product, quiet)
    assert {kind for item in products(onnx.load(report.graph)) for kind in item.types} == {"fp32"}
    assert ("clear", "tf32") in noting.notes
    assert "--noTF32" in report.trtexec
    assert asked_text(report) == "fp16, 1 kept"


def test_a_quantised_graph_is_built_as_it_is(rtx: Library, quantised: Path) -> None:
    options = replace(FP16, precision="int8", sms=(86, 89))
    report, _ = Workbench(rtx, options, None).build("motion_encoder", quantised, quiet)
    assert report.weight_bytes["int8"] > report.weight_bytes["fp32"]
    assert any(f"{report.products} of {report.products + 1} products" in x for x in report.verified)
    assert report.built_precision == UNVERIFIED
