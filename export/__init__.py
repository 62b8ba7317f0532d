"""Checkpoint to ONNX to engines to a release in a live Triton repository."""
