"""The same build as a line for `trtexec`, or `tensorrt_rtx`, for people who prefer those."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from fgmclip.export.tensorrt.builder import BuildOptions
from fgmclip.serve.runtimes.libraries import LibraryName

TOOLS: dict[LibraryName, str] = {"tensorrt": "trtexec", "rtx": "tensorrt_rtx"}


def trtexec_line(
    library: LibraryName,
    options: BuildOptions,
    graph: Path,
    engine: Path,
    shapes: Mapping[str, tuple[int, ...]],
) -> str:
    """Return a command line that builds the same engine.

    Args:
        library: Whose tool.
        options: What to build for.
        graph: The ONNX file, in the types that it shall compute in.
        engine: File to write.
        shapes: Shape of each input by name, -1 first.
    """
    words = [TOOLS[library], f"--onnx={graph}", f"--saveEngine={engine}", "--skipInference"]
    if library == "tensorrt":
        # Needed by TensorRT 10; 11 always is and ignores it.
        words.append("--stronglyTyped")
    triples = {name: options.profile(shape) for name, shape in shapes.items()}
    for index, flag in enumerate(("--minShapes", "--optShapes", "--maxShapes")):
        parts = [f"{name}:{'x'.join(map(str, item[index]))}" for name, item in triples.items()]
        words.append(f"{flag}={','.join(parts)}")
    words.append("--profilingVerbosity=detailed")
    if options.has_fp32:
        words.append("--noTF32")
    if options.level is not None:
        words.append(f"--builderOptimizationLevel={options.level}")
    if options.version_compatible:
        words.append("--versionCompatible")
    if options.hardware_compatible:
        words.append("--hardwareCompatibilityLevel=ampere+")
    if library == "rtx" and options.sms:
        words.append(f"--computeCapabilities={','.join(map(str, options.sms))}")
    if library == "tensorrt" and options.timing_cache is not None:
        words.append(f"--timingCacheFile={options.timing_cache}")
    return shlex.join(words)
