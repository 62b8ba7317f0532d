"""FGM-CLIP on Triton: from a training checkpoint to a served fine-grained action recogniser."""

import os

# From its import on, ONNX Runtime keeps an identifier of the device, and what it counts, in the
# user's cache. Servers that are started from here inherit this.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"
