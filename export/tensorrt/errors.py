"""Errors of `fgmclip.export.tensorrt`.

ExportError
├── LibraryError         TensorRT is not here, or cannot do what was asked of it (ImportError)
├── GraphRefusedError    the ONNX parser, or our own look at a graph, refused it (ValueError)
├── EngineBuildError     the builder gave no engine (RuntimeError)
├── EngineFileError      an engine file is of another library, version or GPU (ValueError)
└── PrecisionError       a graph or an engine is not of the precision asked for (GateError); exit 4
"""

from __future__ import annotations

from fgmclip.export.errors import ExportError, GateError


class LibraryError(ExportError, ImportError):
    """TensorRT cannot be imported here, or this one of its libraries lacks what was asked for."""


class GraphRefusedError(ExportError, ValueError):
    """A graph cannot become an engine; the message names nodes and the remedy."""


class EngineBuildError(ExportError, RuntimeError):
    """The builder returned nothing; the message carries what it logged."""


class EngineFileError(ExportError, ValueError):
    """An engine file cannot run here; the message says what it is, what is here, and the remedy."""


class PrecisionError(GateError):
    """The types in a graph, or the layers of an engine, contradict the precision asked for."""
