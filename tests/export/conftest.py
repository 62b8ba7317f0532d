"""A model that is small enough to be exported in seconds."""

from __future__ import annotations

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
from fgmclip.model.build import build_model
from fgmclip.model.network import FgmClip
from fgmclip.model.onnx_graph import to_onnx
from fgmclip.spec import ModelSpec


@pytest.fixture(scope="session")
def tiny(small_spec: ModelSpec) -> FgmClip:
    """The small model."""
    return build_model(small_spec, seed=0)


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
