"""The same build as a command line."""

from __future__ import annotations

import shlex
from pathlib import Path

from fgmclip.export.tensorrt.builder import BuildOptions
from fgmclip.export.tensorrt.trtexec import trtexec_line

SHAPES = {"VISUAL": (-1, 10, 512), "MOTION_FEATURES": (-1, 10, 256)}


def test_the_line_for_tensorrt() -> None:
    options = BuildOptions(
        precision="fp32",
        level=4,
        version_compatible=True,
        hardware_compatible=True,
        timing_cache=Path("t.cache"),
    )
    line = trtexec_line("tensorrt", options, Path("my model.onnx"), Path("m.plan"), SHAPES)
    assert shlex.split(line) == [
        "trtexec",
        "--onnx=my model.onnx",
        "--saveEngine=m.plan",
        "--skipInference",
        "--stronglyTyped",
        "--minShapes=VISUAL:1x10x512,MOTION_FEATURES:1x10x256",
        "--optShapes=VISUAL:8x10x512,MOTION_FEATURES:8x10x256",
        "--maxShapes=VISUAL:64x10x512,MOTION_FEATURES:64x10x256",
        "--profilingVerbosity=detailed",
        "--noTF32",
        "--builderOptimizationLevel=4",
        "--versionCompatible",
        "--hardwareCompatibilityLevel=ampere+",
        "--timingCacheFile=t.cache",
    ]


def test_the_line_for_rtx_names_gpus_and_no_timing_cache() -> None:
    options = BuildOptions(precision="fp16", sms=(86, 89), timing_cache=Path("t.cache"))
    line = trtexec_line("rtx", options, Path("m.onnx"), Path("m.plan"), {"X": (-1, 4)})
    assert line.startswith("tensorrt_rtx --onnx=m.onnx")
    assert "--computeCapabilities=86,89" in line
    assert not any(flag in line for flag in ("timingCache", "stronglyTyped", "noTF32", "--fp16"))
