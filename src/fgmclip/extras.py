"""Which extra brings a library that a command asked for and did not find."""

from __future__ import annotations

_LIBRARIES = {
    "client": ("av", "google", "grpc", "tritonclient"),
    "gateway": ("PIL", "httpx", "paho", "prometheus_client", "starlette", "uvicorn", "yaml"),
    "export,serve,cpu": ("onnx", "onnxscript", "open_clip", "safetensors", "torch", "torchvision"),
}


def missing_library(error: ModuleNotFoundError) -> str | None:
    """Return what to install, in one line; None for a module that is none of these libraries."""
    library = (error.name or "").partition(".")[0]
    for extra, libraries in _LIBRARIES.items():
        if library in libraries:
            return (
                f"expected the library {library}, got none; install it with "
                f"pip install 'fgmclip[{extra}]'"
            )
    return None
