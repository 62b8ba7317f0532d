"""Which weights stand in an engine, bit for bit, in the types of its graph.

Without a GPU an engine cannot be loaded, but its bytes can be read: a weight that was asked for in
fp16 and stands there in fp16 was not turned into fp32. It says nothing about the type that a kernel
multiplies in; only the inspector does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from fgmclip.export.tensorrt.graph_types import type_name, weight_types

SMALLEST_BYTES = 64
"""Weights below this could be found by chance; they are not looked for."""

PACKED = 3
"""Attention's query, key and value come in one weight, and are taken apart."""


def stored_bytes(model: onnx.ModelProto, engine: bytes) -> dict[str, int]:
    """Return how many bytes of weights stand in an engine as in its graph, by type.

    Args:
        model: The graph that the engine was built from.
        engine: The serialized engine.
    """
    count: Counter[str] = Counter()
    for tensor in model.graph.initializer:
        if tensor.data_type in weight_types():
            weight = numpy_helper.to_array(tensor)
            if weight.nbytes >= SMALLEST_BYTES:
                count[type_name(tensor.data_type)] += _found(weight, engine)
    return dict(count)


def _found(weight: NDArray[np.generic], engine: bytes) -> int:
    for layout in _layouts(weight):
        if layout.tobytes() in engine:
            return weight.nbytes
    if weight.ndim == 0 or weight.shape[0] % PACKED:
        return 0
    pieces = (piece.tobytes() for piece in np.split(weight, PACKED))
    return sum(len(piece) for piece in pieces if piece in engine)


def _layouts(weight: NDArray[np.generic]) -> Iterator[NDArray[np.generic]]:
    yield weight
    if weight.ndim > 2:
        # Convolutions are stored with channels last.
        yield np.moveaxis(weight, 1, -1)
