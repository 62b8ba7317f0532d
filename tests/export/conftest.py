"""A model that is small enough to be exported in seconds."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from fgmclip.export import release as release_module
from fgmclip.export.errors import ExportError
from fgmclip.export.ladder.candidate import Precision
from fgmclip.export.names import Part
from fgmclip.export.precision import PrecisionRequest
from fgmclip.export.release import export_release, stages
from fgmclip.export.targets import Target
from fgmclip.export.tensorrt.library import load_library
from fgmclip.kernels.cuda import binary
from fgmclip.kernels.cuda.abi import KERNELS
from fgmclip.model.build import build_model
from fgmclip.model.network import FgmClip
from fgmclip.model.onnx_graph import to_onnx
from fgmclip.spec import ModelSpec


@pytest.fixture(scope="session")
def tiny(small_spec: ModelSpec) -> FgmClip:
    """The small model."""
    return build_model(small_spec, seed=0)


@pytest.fixture(scope="session")
def kernel_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with a fat binary in it: what is inside is no business of export."""
    cache = tmp_path_factory.mktemp("kernels")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(binary.CACHE_VARIABLE, str(cache))
        path = binary.cache_path(binary.source_hash())
    path.parent.mkdir(parents=True)
    path.write_bytes(b"code")
    figures = tuple(
        binary.KernelFigures(kernel, "sm_90", 32, 0, 0, 0, 0, 1, 256) for kernel in KERNELS
    )
    record = binary.BinaryRecord(
        source_sha256=binary.source_hash(),
        binary_sha256=hashlib.sha256(b"code").hexdigest(),
        compiler="13.0",
        flags=(),
        architectures=("sm_90",),
        virtual=(),
        left_out=(),
        figures=figures,
    )
    binary.record_path(path).write_text(record.to_json())
    return cache


@pytest.fixture(scope="session")
def quick_onnx(tiny: FgmClip) -> Callable[[FgmClip, Part], onnx.ModelProto]:
    """Stand in for `to_onnx` where the small model is exported again and again."""
    made: dict[Part, onnx.ModelProto] = {}

    def export(model: FgmClip, part: Part) -> onnx.ModelProto:
        assert model is tiny
        if part not in made:
            made[part] = to_onnx(model, part)
        return made[part]

    return export


MakeRelease = Callable[[Target, Precision], Path]


@pytest.fixture(scope="session")
def release_of(
    tiny: FgmClip,
    kernel_cache: Path,
    quick_onnx: Callable[[FgmClip, Part], onnx.ModelProto],
    tmp_path_factory: pytest.TempPathFactory,
) -> MakeRelease:
    """Return a function that exports the small model for a target, once each."""
    made: dict[tuple[Target, Precision], Path] = {}
    cache = tmp_path_factory.mktemp("cache")

    def export(target: Target, precision: Precision) -> Path:
        if target == "rtx":
            try:
                load_library("rtx")
            except ExportError as error:
                pytest.skip(f"NO ENGINE IS BUILT HERE: {error}")
        if (target, precision) not in made:
            path = tmp_path_factory.mktemp(f"{target}-{precision}") / "repository"
            request = PrecisionRequest(precision, trained=False)
            seen: list[str] = []
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv(binary.CACHE_VARIABLE, str(kernel_cache))
                patch.setenv("XDG_CACHE_HOME", str(cache))
                patch.setattr(release_module, "to_onnx", quick_onnx)
                sms = (86, 89) if target == "rtx" else ()
                export_release(
                    tiny, path, target=target, precision=request, sms=sms, report=seen.append
                )
            assert len(seen) == stages(tiny.spec, request, target)
            made[target, precision] = path
        return made[target, precision]

    return export
