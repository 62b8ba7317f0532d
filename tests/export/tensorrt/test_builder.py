"""Engines from the real TensorRT for RTX, and what TensorRT is told by the same builder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper

from fgmclip.export.names import PARTS, Part
from fgmclip.export.tensorrt.builder import RTX_SMS, BuildOptions, build_engine, check_options
from fgmclip.export.tensorrt.errors import EngineBuildError, GraphRefusedError, LibraryError
from fgmclip.export.tensorrt.graph_types import Precision, weight_bytes
from fgmclip.export.tensorrt.half import HALVES, to_half
from fgmclip.export.tensorrt.library import Library
from fgmclip.export.tensorrt.stored import stored_bytes
from fgmclip.serve.runtimes.libraries import version_tuple
from fgmclip.serve.runtimes.plan_file import read_plan_head

FP32 = BuildOptions(precision="fp32", max_batch=4)


@pytest.fixture
def relu(make_graph: Any) -> onnx.ModelProto:
    model: onnx.ModelProto = make_graph(helper.make_node("Relu", ["X"], ["Y"], "relu"))
    return model


@pytest.mark.parametrize("precision", ["fp32", *HALVES])
@pytest.mark.parametrize("part", PARTS)
def test_every_submodule_becomes_an_engine_in_every_precision(
    rtx: Library, models: dict[Part, onnx.ModelProto], part: Part, precision: Precision
) -> None:
    graph = models[part] if precision == "fp32" else to_half(models[part], precision)
    options = BuildOptions(precision=precision, max_batch=4, sms=(86, 89))
    built = build_engine(rtx, graph, options)
    head = read_plan_head(built.data)
    assert head is not None
    assert (head.library, head.version) == ("rtx", version_tuple(rtx.version))
    assert head.sms == (86, 89)
    assert not head.later
    assert built.warnings == ()
    # Half of the small image encoder is its patch convolution, stored padded, and the query,
    # key and value weights, stored as one.
    assert stored_bytes(graph, built.data)[precision] > 0.25 * weight_bytes(graph)[precision]


def test_weights_of_an_fp16_engine_are_not_found_as_fp32(
    rtx: Library, models: dict[Part, onnx.ModelProto]
) -> None:
    half = to_half(models["motion_encoder"], "fp16")
    built = build_engine(rtx, half, BuildOptions(precision="fp16", max_batch=4))
    found = stored_bytes(models["motion_encoder"], built.data)
    assert sum(found.values()) < 0.05 * sum(weight_bytes(models["motion_encoder"]).values())


@pytest.mark.parametrize("sms", [(sm,) for sm in RTX_SMS] + [(75, 121), RTX_SMS])
def test_the_head_of_a_real_engine_names_its_gpus(
    rtx: Library, relu: onnx.ModelProto, sms: tuple[int, ...]
) -> None:
    built = build_engine(rtx, relu, BuildOptions(precision="fp32", max_batch=4, sms=sms))
    head = read_plan_head(built.data)
    assert head is not None
    assert (head.sms, head.later) == (sms, False)


def test_without_sm_an_engine_is_for_every_gpu_from_ampere_on(
    rtx: Library, relu: onnx.ModelProto
) -> None:
    head = read_plan_head(build_engine(rtx, relu, FP32).data)
    assert head is not None
    assert (head.sms, head.later) == (tuple(sm for sm in RTX_SMS if sm >= 80), True)


def test_progress_runs_from_nothing_to_all_and_never_back(
    rtx: Library, models: dict[Part, onnx.ModelProto]
) -> None:
    seen: list[tuple[str, float]] = []
    build_engine(
        rtx, models["fusion_head"], FP32, progress=lambda phase, share: seen.append((phase, share))
    )
    shares = [share for _, share in seen]
    assert shares == sorted(shares)
    assert shares[0] < 0.2
    assert shares[-1] == 1
    assert len({phase for phase, _ in seen}) > 3


def test_control_c_ends_the_build(rtx: Library, models: dict[Part, onnx.ModelProto]) -> None:
    def interrupt(phase: str, share: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_engine(rtx, models["fusion_head"], FP32, progress=interrupt)


@pytest.mark.parametrize("shape", [(4, 4), ("N", "M"), ()])
def test_an_input_without_a_batch_as_its_only_free_axis_is_refused(
    rtx: Library, make_graph: Any, shape: tuple[int | str, ...]
) -> None:
    model = make_graph(helper.make_node("Relu", ["X"], ["Y"], "relu"), shape=shape)
    with pytest.raises(GraphRefusedError, match="input X: expected a free first axis"):
        build_engine(rtx, model, FP32)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sms": (86, 90)}, r"--sm: expected some of 75, 80, .*, got 90"),
        ({"version_compatible": True}, "expected with --library tensorrt, got --library rtx"),
        ({"hardware_compatible": True}, "expected with --library tensorrt, got --library rtx"),
        ({"sms": (75, 86), "precision": "bf16"}, "expected fp16 or fp32 with --sm 75, got bf16"),
    ],
)
def test_options_that_rtx_does_not_have_are_refused(
    rtx: Library, changes: dict[str, Any], message: str
) -> None:
    options = BuildOptions(**({"precision": "fp16"} | changes))
    with pytest.raises(LibraryError, match=message):
        check_options(rtx, options)


def test_tensorrt_itself_takes_no_compute_capabilities(noting_library: Library) -> None:
    with pytest.raises(LibraryError, match="--sm: expected with --library rtx"):
        check_options(noting_library, BuildOptions(precision="fp16", sms=(86,)))


def test_one_profile_from_1_to_the_largest_batch() -> None:
    assert BuildOptions(precision="fp16").profile((-1, 3, 2)) == ((1, 3, 2), (8, 3, 2), (64, 3, 2))
    assert BuildOptions(precision="fp16", max_batch=4).profile((-1,)) == ((1,), (4,), (4,))


def test_tensorrt_gets_strong_typing_profile_level_compatibility_and_timing_cache(
    noting_library: Library, noting: Any, relu: onnx.ModelProto, tmp_path: Path
) -> None:
    cache = tmp_path / "new" / "timing.cache"
    options = BuildOptions(
        precision="fp16",
        max_batch=16,
        level=5,
        version_compatible=True,
        hardware_compatible=True,
        timing_cache=cache,
    )
    built = build_engine(noting_library, relu, options)
    assert built.data == noting.engine
    assert noting.notes == [
        ("network", 1 << 1),
        ("shapes", "X", (1, 4), (8, 4), (16, 4)),
        ("set", "version"),
        ("cache", b""),
        ("use cache", False),
    ]
    assert noting.settings.builder_optimization_level == 5
    assert noting.settings.hardware_compatibility_level == "ampere+"
    assert noting.settings.profiling_verbosity == "detailed"
    assert cache.read_bytes() == b"times"
    assert list(cache.parent.iterdir()) == [cache]
    build_engine(noting_library, relu, options)
    assert ("cache", b"times") in noting.notes


def test_fp32_is_not_tf32(noting_library: Library, noting: Any, relu: onnx.ModelProto) -> None:
    build_engine(noting_library, relu, FP32)
    assert ("clear", "tf32") in noting.notes


def test_a_builder_that_returns_nothing_is_told_with_a_remedy(
    noting_library: Library, noting: Any, relu: onnx.ModelProto
) -> None:
    noting.engine = None
    with pytest.raises(
        EngineBuildError, match=r"expected an engine, got none.*a GPU with a driver"
    ):
        build_engine(noting_library, relu, FP32)


def test_what_stands_in_an_engine_is_found_in_any_layout() -> None:
    random = np.random.default_rng(0)
    plain, convolution, packed = (
        random.standard_normal(shape).astype(np.float16)
        for shape in ((8, 8), (8, 4, 3, 3), (12, 8))
    )
    lost = random.standard_normal((8, 8)).astype(np.float32)
    tensors: dict[str, NDArray[Any]] = {
        "plain": plain,
        "convolution": convolution,
        "packed": packed,
        "lost": lost,
    }
    graph = helper.make_graph(
        [],
        "g",
        [],
        [],
        [onnx.numpy_helper.from_array(item, name) for name, item in tensors.items()],
    )
    query, _, value = np.split(packed, 3)
    engine = b"|".join(
        (
            plain.tobytes(),
            np.moveaxis(convolution, 1, -1).tobytes(),
            value.tobytes(),
            query.tobytes(),
        )
    )
    assert stored_bytes(helper.make_model(graph), engine) == {
        "fp16": plain.nbytes + convolution.nbytes + packed.nbytes * 2 // 3,
        "fp32": 0,
    }
