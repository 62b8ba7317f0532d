"""What can be said of an engine that was just built, and what cannot."""

from __future__ import annotations

from dataclasses import dataclass

from fgmclip.export.tensorrt.builder import BuildOptions
from fgmclip.export.tensorrt.errors import EngineBuildError
from fgmclip.export.tensorrt.graph_types import Product
from fgmclip.export.tensorrt.inspector import assert_precision, inspect_engine
from fgmclip.export.tensorrt.library import Library
from fgmclip.serve.runtimes.gpu import Gpu
from fgmclip.serve.runtimes.libraries import version_tuple
from fgmclip.serve.runtimes.plan_file import PlanHead, plan_fault, read_plan_head

UNVERIFIED = "requested, unverified"


@dataclass(frozen=True)
class Verdict:
    """What was proved of an engine.

    Attributes:
        built_precision: The precision where the inspector proved it, else `UNVERIFIED`.
        inspected: Whether a GPU loaded the engine and the inspector was asked.
        verified: What was checked.
        unverified: What was not, and why.
    """

    built_precision: str
    inspected: bool
    verified: tuple[str, ...]
    unverified: tuple[str, ...]


def verify_engine(
    library: Library,
    options: BuildOptions,
    engine: bytes,
    products: list[Product],
    gpu: Gpu | None,
) -> Verdict:
    """Read an engine back, and load it where a GPU that it was built for is here.

    Args:
        library: Who built it.
        options: What it was built for.
        engine: The serialized engine.
        products: Its graph's products, without those kept in fp32 on purpose.
        gpu: The GPU that is here, if any.

    Raises:
        EngineBuildError: Its head is not what was asked for.
        EngineFileError: The library refused to load it.
        PrecisionError: It computes in another precision.
    """
    head = read_plan_head(engine)
    version = version_tuple(library.version)
    for sm in options.sms or (None,):
        fault = plan_fault(head, library=library.name, version=version, sm=sm)
        if fault is not None:
            raise EngineBuildError(f"the engine that was just built: {fault}")
    verified = [
        f"each engine's head, read back: {_told(head)}",
        "weights: those counted as found stand in the engine bit for bit",
    ]
    why_not = _why_not_here(head, library, gpu)
    if why_not is not None:
        what = "the built precision and the outputs"
        return Verdict(UNVERIFIED, False, tuple(verified), (f"{what}: {why_not}",))
    inspection = assert_precision(inspect_engine(library, engine), products, options.precision)
    verified.append(f"inspector: {inspection.proved} products in {options.precision}")
    unverified = ["the outputs: the gate does that"]
    if inspection.unnamed:
        unverified.append(f"{inspection.unnamed} products that the inspector does not name")
    proved = options.precision if inspection.proved else UNVERIFIED
    return Verdict(proved, True, tuple(verified), tuple(unverified))


def _why_not_here(head: PlanHead | None, library: Library, gpu: Gpu | None) -> str | None:
    if gpu is None:
        return "no GPU here, so no engine was loaded and the inspector was not asked"
    version = version_tuple(library.version)
    if plan_fault(head, library=library.name, version=version, sm=gpu.sm) is not None:
        return f"{gpu.name} (SM{gpu.sm}), the GPU here, is none that the engine was built for"
    return None


def _told(head: PlanHead | None) -> str:
    """Return what a head says, in words."""
    if head is None or head.sms is None:
        return "library and version"
    names = ", ".join(f"SM{sm}" for sm in head.sms)
    return f"library, version and GPUs ({names}{' and later' if head.later else ''})"
