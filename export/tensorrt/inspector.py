"""What an engine really computes in, asked of the library's inspector; only where a GPU is.

Types of a network and of its inputs prove nothing about the engine: TensorRT for RTX was seen to
demote an fp32 product without a word when only its surroundings were half.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from fgmclip.export.tensorrt.errors import EngineFileError, PrecisionError
from fgmclip.export.tensorrt.graph_types import Precision, Product
from fgmclip.export.tensorrt.library import Library

# TensorRT 10 writes "Format/Datatype": "Row major linear FP16 format" or "Half"; TensorRT 11 splits
# it into "Format" and "DataType" ("Migrating IEngineInspector Usage from TensorRT 10.x to 11.x").
_TYPE_FIELDS = ("Format/Datatype", "DataType", "Format")
_TYPE_NAMES: tuple[tuple[str, str], ...] = (
    (r"BF16|BFloat16", "bf16"),
    (r"FP16|Half", "fp16"),
    (r"INT8|Int8", "int8"),
    (r"FP8", "fp8"),
    (r"FP32|Float", "fp32"),
)

# Of deserializeCudaEngine, TensorRT 7 to 10 (for example NVIDIA/TensorRT issue 2176).
_REFUSALS: tuple[tuple[str, str], ...] = (
    (
        r"incompatible device|expecting compute",
        "it was built for another GPU: build it again here with 'fgmclip engine build'",
    ),
    (
        r"not compatible with this version|[Vv]ersion tag|version mismatch|VERSION_MISMATCH",
        "it was built by another version: build it again here with 'fgmclip engine build', or "
        "install that version",
    ),
    (
        r"driver version is insufficient|no CUDA-capable device|CUDA initialization failure",
        "a GPU and a driver new enough for this version are needed",
    ),
)
_OTHERWISE = "build it again here with 'fgmclip engine build'"


@dataclass(frozen=True)
class Inspection:
    """What the inspector proved.

    Attributes:
        proved: Products that a layer of the asked precision computes.
        unnamed: Products that no layer names; nothing is known of them.
    """

    proved: int
    unnamed: int


def inspect_engine(library: Library, data: bytes) -> dict[str, Any]:
    """Read an engine on the GPU that is here and return the inspector's JSON.

    Raises:
        EngineFileError: The library refused the engine.
    """
    lines: list[str] = []
    engine = library.runtime(library.logger(lines)).deserialize_cuda_engine(data)
    if engine is None:
        raise EngineFileError(f"{library.title} refused the engine: {explain_refusal(lines)}")
    layout = library.module.LayerInformationFormat.JSON
    information: dict[str, Any] = json.loads(
        engine.create_engine_inspector().get_engine_information(layout)
    )
    return information


def explain_refusal(lines: Sequence[str]) -> str:
    """Return what the library logged when it refused an engine, and the remedy.

    Args:
        lines: What it logged.
    """
    said = " | ".join(lines) or "nothing was logged"
    remedy = next((advice for pattern, advice in _REFUSALS if re.search(pattern, said)), _OTHERWISE)
    return f"'{said}'; {remedy}"


def assert_precision(
    information: dict[str, Any], products: Iterable[Product], precision: Precision
) -> Inspection:
    """Hold the layers of an engine to the precision that its graph asks for.

    Args:
        information: The inspector's JSON.
        products: The graph's products, without those kept in fp32 on purpose.
        precision: What was asked for.

    Raises:
        PrecisionError: A layer that computes a product has no operand of that precision.
    """
    layers = [
        (f"{layer.get('Name', '')} {layer.get('Metadata', '')}", _operand_types(layer))
        for layer in information.get("Layers", [])
        if isinstance(layer, dict)
    ]
    proved, wrong = 0, []
    unnamed = 0
    for product in products:
        # A name may be another's beginning: node_MatMul_1 and node_MatMul_12.
        name = re.compile(rf"(?<![\w.]){re.escape(product.node)}(?![\w.])")
        types = [kinds for text, kinds in layers if kinds and name.search(text)]
        if not types:
            unnamed += 1
        elif any(precision in kinds for kinds in types):
            proved += 1
        else:
            wrong.append(
                f"{product.op} '{product.node}' in {'/'.join(sorted(set().union(*types)))}"
            )
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise PrecisionError(
            f"engine: expected products in {precision}, the inspector shows {'; '.join(wrong[:3])}"
            f"{more}; raise the optimisation level, or ask for a precision that this GPU has"
        )
    return Inspection(proved, unnamed)


def _operand_types(layer: dict[str, Any]) -> set[str]:
    """Return the types that a layer computes with: its weights' where it has any."""
    weights = layer.get("Weights")
    if isinstance(weights, dict) and "Type" in weights:
        return _types([str(weights["Type"])])
    fields = [
        str(tensor[field])
        for tensor in layer.get("Inputs", [])
        if isinstance(tensor, dict)
        for field in _TYPE_FIELDS
        if field in tensor
    ]
    return _types(fields)


def _types(texts: Iterable[str]) -> set[str]:
    found = set()
    for text in texts:
        kind = next((name for pattern, name in _TYPE_NAMES if re.search(pattern, text)), None)
        if kind is not None:
            found.add(kind)
    return found
