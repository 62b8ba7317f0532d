"""Engine runtimes behind one small interface, for the Python-backend steps."""

from fgmclip.serve.runtimes.runtime import Runtime, open_runtime

__all__ = ["Runtime", "open_runtime"]
