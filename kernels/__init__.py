"""Preprocessing: one definition of pixels and motion for training, CPU and CUDA serving."""
