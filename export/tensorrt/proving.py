"""Engines are judged where they will run, by what PyTorch made of the release's own clips.

No torch: inputs and outputs come with the release. An engine must be as close to PyTorch as the
thresholds ask, and faster than what would serve without it: ONNX Runtime on the same graph.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fgmclip.export.gate import Answers, Likeness, Thresholds, compare_answers, likeness
from fgmclip.export.gate_folder import GateFolder
from fgmclip.export.names import Part
from fgmclip.export.targets import ENGINE_FILE
from fgmclip.export.tensorrt.errors import LibraryError
from fgmclip.export.tensorrt.library import Library
from fgmclip.export.tensorrt.released import Released
from fgmclip.export.tensorrt.report import EngineReport
from fgmclip.serve.runtimes.gpu import Gpu
from fgmclip.serve.runtimes.libraries import LibraryName
from fgmclip.serve.runtimes.onnxruntime_cuda import open_fallback
from fgmclip.serve.runtimes.proof import Proof, proof_file, recipe_hash
from fgmclip.serve.runtimes.runtime import Runtime
from fgmclip.storage.atomic import write_text

Array = NDArray[np.float32]

ORDINAL = 0
"""The GPU that engines are built for and judged on, as CUDA counts."""

WARM_UP = 3
ROUNDS = (5, 50)
"""Fewest and most timed runs of each; they take turns."""

TIMING_SECONDS = 4.0
"""About how long the two runtimes of one submodule are timed."""


@dataclass(frozen=True)
class Judged:
    """An engine as the gate saw it.

    Attributes:
        report: What was built.
        like: How far its rows are from PyTorch's.
        milliseconds: Median time of one clip's rows.
        fallback_milliseconds: The same of ONNX Runtime on the release's graph.
        provider: What ONNX Runtime ran on.
        reason: Why it may not serve; empty if it may.
    """

    report: EngineReport
    like: Likeness
    milliseconds: float
    fallback_milliseconds: float
    provider: str
    reason: str


@dataclass(frozen=True)
class Chain:
    """The release as it would be served: engines that passed, ONNX Runtime for the others.

    Attributes:
        engines: Submodules that an engine computed.
        like: How far EMBEDDING is from PyTorch's.
        answers: How far the answers are; None where EMBEDDING is not finite.
        milliseconds: Median time of one clip.
        reason: Why it may not serve; empty if it may.
    """

    engines: tuple[str, ...]
    like: Likeness
    answers: Answers | None
    milliseconds: float
    reason: str


def open_engine(engine: Path, library: LibraryName) -> Runtime:
    """Load an engine on the GPU.

    Raises:
        LibraryError: pycuda is not installed.
        RuntimeError: The library or the GPU refused it.
        ValueError: It is of another version or GPU.
    """
    from fgmclip.serve.runtimes.tensorrt_gpu import TensorRtRuntime

    try:
        return TensorRtRuntime(engine, library, gpu=ORDINAL)
    except ImportError as error:
        raise LibraryError(str(error)) from error


def judge(
    released: Released,
    reports: Sequence[EngineReport],
    report: Callable[[str], None],
) -> tuple[list[Judged], Chain]:
    """Run every engine, and the chain of those that pass, over the release's clips.

    Args:
        released: The release.
        reports: Its engines.
        report: Called with what is done next.

    Returns:
        The engines, and the chain; where it does not pass, none of the engines may serve.

    Raises:
        RepositoryError: The release's clips are missing or damaged.
        LibraryError: pycuda is not installed.
    """
    gate = released.gate()
    judged: list[Judged] = []
    serving: dict[Part, Runtime] = {}
    with ExitStack() as stack:
        for part, built in zip(released.recipes, reports, strict=True):
            report(f"gate {part}")
            graph = released.version(part) / ENGINE_FILE
            fallback, provider = open_fallback(graph, ORDINAL)
            serving[part] = fallback
            try:
                own = open_engine(Path(built.engine), released.library)
                stack.callback(getattr(own, "close", lambda: None))
                item = _judge_part(gate, part, built, own, fallback, provider)
            except (RuntimeError, ValueError) as error:
                like = Likeness(False, 0.0, 0.0, 0.0)
                item = Judged(built, like, 0.0, 0.0, provider, str(error))
            if not item.reason:
                serving[part] = own
            judged.append(item)
        report("gate chain")
        engines = tuple(item.report.part for item in judged if not item.reason)
        chain = _judge_chain(released, gate, serving, engines)
    if chain.reason:
        judged = [
            item if item.reason else replace(item, reason=f"chain: {chain.reason}")
            for item in judged
        ]
    return judged, chain


def write_proofs(
    released: Released, judged: Sequence[Judged], chain: Chain, library: Library, gpu: Gpu
) -> None:
    """Write what the gate said beside each engine, refusals too: a server tells them."""
    for recipe, item in zip(released.recipes.values(), judged, strict=True):
        proof = Proof(
            part=recipe.part,
            model_tag=recipe.model_tag,
            onnx_sha256=item.report.onnx_sha256,
            recipe_sha256=recipe_hash(recipe),
            engine_sha256=item.report.engine_sha256,
            library=library.name,
            library_version=library.version,
            gpu=gpu.name,
            sm=gpu.sm,
            precision=recipe.precision,
            figures=figures(item) | {"chain": chain_figures(chain)},
            passed=not item.reason,
            reason=item.reason,
        )
        path = proof_file(Path(item.report.engine), recipe.part, recipe.model_tag)
        write_text(path, proof.to_json())


def figures(item: Judged) -> dict[str, object]:
    """Return what was measured of an engine, by name."""
    return {
        "milliseconds": item.milliseconds,
        "fallback_milliseconds": item.fallback_milliseconds,
        "fallback": item.provider,
        "finite": item.like.finite,
        "max_abs": item.like.max_abs,
        "cosine": item.like.cosine,
        "identity": item.like.identity,
    }


def chain_figures(chain: Chain) -> dict[str, object]:
    """Return what was measured of the chain, by name."""
    answers = chain.answers
    return {
        "engines": list(chain.engines),
        "milliseconds": chain.milliseconds,
        "max_abs": chain.like.max_abs,
        "cosine": chain.like.cosine,
        "identity": chain.like.identity,
        "agreement": None if answers is None else answers.agreement,
        "drift": None if answers is None else answers.drift,
        "recall_change": None if answers is None else answers.recall_change,
        "reason": chain.reason,
    }


def _judge_part(
    gate: GateFolder,
    part: Part,
    built: EngineReport,
    engine: Runtime,
    fallback: Runtime,
    provider: str,
) -> Judged:
    batches = gate.batches(part)
    came = np.concatenate([_output(engine, batch) for batch in batches])
    like = likeness(gate.outputs[part], came)
    own, other = take_turns((engine, fallback), batches[0])
    reason = like.fault(gate.thresholds) or _slow(own, other, provider, gate.thresholds)
    return Judged(built, like, own, other, provider, reason)


def _slow(own: float, other: float, provider: str, thresholds: Thresholds) -> str:
    if own * thresholds.speedup < other:
        return ""
    return f"{own:.2f} ms, not faster than ONNX Runtime's {other:.2f} ms ({provider})"


def _judge_chain(
    released: Released,
    gate: GateFolder,
    serving: Mapping[Part, Runtime],
    engines: tuple[str, ...],
) -> Chain:
    """Run the clips through the submodules as the server chains them."""
    encoders = {part: gate.batches(part) for part in serving if part != "fusion_head"}
    windows = tuple(gate.inputs["fusion_head"])
    embeddings, times = [], []
    for index in range(len(gate.labels)):
        start = time.perf_counter()
        features = [
            _output(serving[part], batches[index])[None] for part, batches in encoders.items()
        ]
        window = dict(zip(windows, features, strict=True))
        embeddings.append(_output(serving["fusion_head"], window))
        times.append(time.perf_counter() - start)
    came = np.concatenate(embeddings)
    like = likeness(gate.outputs["fusion_head"], came)
    reason = like.fault(gate.thresholds)
    answers = None
    if like.finite:
        answers = compare_answers(
            gate.logits, released.classify(came), gate.labels, released.labels
        )
        least = gate.thresholds.agreement
        if not reason and gate.trained and answers.agreement < least:
            reason = f"top-1 agreement {answers.agreement:.1%}, expected {least:.1%}"
    return Chain(engines, like, answers, 1000 * float(np.median(times)), reason)


def take_turns(runtimes: Sequence[Runtime], inputs: Mapping[str, Array]) -> list[float]:
    """Return the median milliseconds of each runtime; they take turns, so noise meets all alike."""
    for runtime in runtimes:
        for _ in range(WARM_UP):
            runtime.run(inputs)
    times: list[list[float]] = [[] for _ in runtimes]
    fewest, most = ROUNDS
    begin = time.perf_counter()
    for done in range(most):
        if done >= fewest and time.perf_counter() - begin > TIMING_SECONDS:
            break
        for runtime, taken in zip(runtimes, times, strict=True):
            start = time.perf_counter()
            runtime.run(inputs)
            taken.append(time.perf_counter() - start)
    return [1000 * float(np.median(taken)) for taken in times]


def _output(runtime: Runtime, inputs: Mapping[str, Array]) -> Array:
    (output,) = runtime.run(inputs).values()
    return output
