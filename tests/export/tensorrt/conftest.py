"""Graphs of the small model, the real TensorRT for RTX, and a TensorRT that only takes notes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from fgmclip.export.errors import ExportError
from fgmclip.export.gate import Thresholds
from fgmclip.export.graphs import parts_of
from fgmclip.export.names import Part
from fgmclip.export.precision import PrecisionRequest
from fgmclip.export.release import export_release
from fgmclip.export.tensorrt.library import Library, load_library
from fgmclip.kernels.cuda import binary
from fgmclip.model.network import FgmClip
from fgmclip.model.onnx_graph import to_onnx

MakeGraph = Callable[..., onnx.ModelProto]


@pytest.fixture(scope="session")
def rtx() -> Library:
    """TensorRT for RTX, which builds without a GPU; skips where it is not installed."""
    try:
        return load_library("rtx")
    except ExportError as error:
        pytest.skip(f"NO ENGINE IS BUILT HERE: {error}")


@pytest.fixture(scope="session")
def repository(tiny: FgmClip, kernel_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release of the small model whose engines TensorRT builds; any speed passes its gate."""
    path = tmp_path_factory.mktemp("tensorrt") / "repository"
    request = PrecisionRequest("fp16", thresholds=Thresholds(speedup=0), trained=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(binary.CACHE_VARIABLE, str(kernel_cache))
        export_release(tiny, path, target="tensorrt", precision=request)
    return path


@pytest.fixture(scope="session")
def graphs(tiny: FgmClip, tmp_path_factory: pytest.TempPathFactory) -> dict[Part, Path]:
    """ONNX files of the small model's submodules."""
    folder = tmp_path_factory.mktemp("graphs")
    files = {part: folder / f"{part}.onnx" for part in parts_of(tiny.spec)}
    for part, path in files.items():
        onnx.save(to_onnx(tiny, part), path)
    return files


@pytest.fixture
def models(graphs: dict[Part, Path]) -> dict[Part, onnx.ModelProto]:
    return {part: onnx.load(path) for part, path in graphs.items()}


@pytest.fixture
def make_graph() -> MakeGraph:
    """Return a function that makes a graph from X [N,4] to Y of the nodes that it is given."""

    def make(
        *nodes: onnx.NodeProto,
        weights: dict[str, Any] | None = None,
        shape: tuple[int | str, ...] = ("N", 4),
        types: tuple[int, int] = (TensorProto.FLOAT, TensorProto.FLOAT),
    ) -> onnx.ModelProto:
        source, target = types
        graph = helper.make_graph(
            nodes,
            "graph",
            [helper.make_tensor_value_info("X", source, shape)],
            [helper.make_tensor_value_info("Y", target, [None] * len(shape))],
            [numpy_helper.from_array(np.asarray(item), name) for name, item in weights.items()]
            if weights
            else [],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)

    return make


class NotingTensorRt:
    """The part of TensorRT's module that is used, without a GPU: it notes what it is told.

    Attributes:
        notes: What was called, with its arguments.
        engine: What the builder returns.
        information: What the inspector returns; the runtime refuses engines while it is None.
        says: What the runtime logs when it refuses.
    """

    __version__ = "10.13.0.35"

    def __init__(self) -> None:
        self.notes: list[tuple[Any, ...]] = []
        self.engine: bytes | None = b"ftrt" + bytes(20) + bytes((10, 13, 0, 35)) + bytes(100)
        self.information: str | None = None
        self.says = ""
        self.NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=1)
        self.ProfilingVerbosity = SimpleNamespace(DETAILED="detailed")
        self.BuilderFlag = SimpleNamespace(TF32="tf32", VERSION_COMPATIBLE="version")
        self.HardwareCompatibilityLevel = SimpleNamespace(AMPERE_PLUS="ampere+")
        self.LayerInformationFormat = SimpleNamespace(JSON="json")
        self.IProgressMonitor = type("IProgressMonitor", (), {})
        self.ILogger = type("ILogger", (), {"WARNING": 2})

    def Builder(self, logger: Any) -> Any:  # noqa: N802
        tensor = SimpleNamespace(name="X", shape=(-1, 4))
        network = SimpleNamespace(num_inputs=1, get_input=lambda index: tensor)
        return SimpleNamespace(
            create_network=lambda flags: self.note("network", flags) or network,
            create_builder_config=lambda: self.config(),
            create_optimization_profile=lambda: SimpleNamespace(
                set_shape=lambda *shapes: self.note("shapes", *shapes)
            ),
            build_serialized_network=self.build,
        )

    def OnnxParser(self, network: Any, logger: Any) -> Any:  # noqa: N802
        return SimpleNamespace(parse=lambda data: True, num_errors=0)

    def Runtime(self, logger: Any) -> Any:  # noqa: N802
        def deserialize(data: bytes) -> Any:
            if self.information is None:
                logger.log(1, self.says)
                return None
            inspector = SimpleNamespace(get_engine_information=lambda layout: self.information)
            return SimpleNamespace(create_engine_inspector=lambda: inspector)

        return SimpleNamespace(deserialize_cuda_engine=deserialize)

    def config(self) -> Any:
        self.settings = SimpleNamespace(
            add_optimization_profile=lambda profile: 0,
            set_flag=lambda flag: self.note("set", flag),
            clear_flag=lambda flag: self.note("clear", flag),
            create_timing_cache=lambda data: self.note("cache", data),
            set_timing_cache=lambda cache, ignore: self.note("use cache", ignore),
            get_timing_cache=lambda: SimpleNamespace(serialize=lambda: b"times"),
        )
        return self.settings

    def build(self, network: Any, config: Any) -> bytes | None:
        monitor = config.progress_monitor
        monitor.phase_start("Building engine", None, 1)
        monitor.step_complete("Building engine", 0)
        monitor.phase_finish("Building engine")
        return self.engine

    def note(self, *what: Any) -> Any:
        self.notes.append(what)
        return None


@pytest.fixture
def noting() -> NotingTensorRt:
    return NotingTensorRt()


@pytest.fixture
def noting_library(noting: NotingTensorRt) -> Library:
    """The noting module as TensorRT 10.13."""
    return Library("tensorrt", noting, noting.__version__)


@pytest.fixture(scope="session")
def quantised(graphs: dict[Part, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small motion encoder with signed symmetric Q/DQ nodes, the recipe of FACTS.md."""
    random = np.random.default_rng(0)

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = 2

        def get_next(self) -> dict[str, Any] | None:
            self.left -= 1
            shape = (4, 3, 32, 32)
            return {"MOTION": random.standard_normal(shape, np.float32)} if self.left >= 0 else None

    path = tmp_path_factory.mktemp("quantised") / "motion_encoder.onnx"
    quantize_static(
        graphs["motion_encoder"],
        path,
        Reader(),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=["Conv"],
        per_channel=True,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        extra_options={"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False},
    )
    return path
