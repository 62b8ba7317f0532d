"""FGM-CLIP on Triton: from a training checkpoint to a served fine-grained action recogniser."""

__version__ = "0.1.0"
