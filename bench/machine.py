"""What the figures were measured on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path

PACKAGES = (
    "fgmclip",
    "numpy",
    "onnx",
    "onnxruntime",
    "open_clip_torch",
    "opencv-python-headless",
    "openvino",
    "pillow",
    "torch",
    "torchvision",
    "tritonclient",
    "nvidia-pytriton",
)
"""What computes, or prepares what is computed, in some bench."""


def describe_machine() -> dict[str, str]:
    """Return processor, cores, memory, system and versions, as text by name."""
    facts = {
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "system": platform.platform(),
        "python": platform.python_version(),
    }
    for package in PACKAGES:
        try:
            facts[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            facts[package] = "not installed"
    return facts


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
