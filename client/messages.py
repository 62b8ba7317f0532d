"""The two messages of an inference over KServe v2 gRPC: named arrays to bytes, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2
from tritonclient.utils import (
    deserialize_bytes_tensor,
    np_to_triton_dtype,
    serialize_byte_tensor,
    triton_to_np_dtype,
)

from fgmclip.client.errors import RefusedError

Tensors = Mapping[str, NDArray[Any]]
Parameters = Mapping[str, str | int | bool]

NO_PARAMETERS: Parameters = MappingProxyType({})

MAX_MESSAGE_BYTES = 2**31 - 1
"""What one gRPC message can hold at all; gRPC's own default of 4 MB is less than one clip."""

_RAW_INPUT = bytes(
    [service_pb2.ModelInferRequest.DESCRIPTOR.fields_by_name["raw_input_contents"].number << 3 | 2]
)
"""What stands before the length of each array on the wire: the field, and that a length follows."""


def encode_request(
    model: str, inputs: Tensors, outputs: Sequence[str], parameters: Parameters
) -> bytes:
    """Return the serialized `ModelInferRequest` of named arrays.

    Raises:
        RefusedError: A dtype is none of the protocol's, or the request is too large for gRPC.
    """
    size = sum(array.nbytes for array in inputs.values())
    if size > MAX_MESSAGE_BYTES:
        raise RefusedError(
            f"request for {model}: expected at most {MAX_MESSAGE_BYTES} bytes, got {size}; "
            "scale the frames down"
        )
    request = service_pb2.ModelInferRequest(model_name=model)
    # protobuf would copy an array three times on its way into the message; the rest of the message
    # is small, and fields may follow each other in any order.
    raw: list[bytes | memoryview] = []
    for name, array in inputs.items():
        datatype = np_to_triton_dtype(array.dtype)
        if datatype is None:
            raise RefusedError(f"{name}: expected a dtype of KServe v2, got {array.dtype}")
        request.inputs.add(name=name, datatype=datatype, shape=array.shape)
        content = _content(array, datatype)
        raw += [_RAW_INPUT, _varint(len(content)), content]
    for name in outputs:
        request.outputs.add(name=name)
    for key, value in parameters.items():
        # bool first: a bool is an int to Python.
        if isinstance(value, bool):
            request.parameters[key].bool_param = value
        elif isinstance(value, int):
            request.parameters[key].int64_param = value
        else:
            request.parameters[key].string_param = value
    return b"".join([request.SerializeToString(), *raw])


def decode_response(response: Any) -> dict[str, NDArray[Any]]:
    """Return the named arrays of a `ModelInferResponse`; they share its memory, read-only."""
    arrays: dict[str, NDArray[Any]] = {}
    for tensor, raw in zip(response.outputs, response.raw_output_contents, strict=True):
        if tensor.datatype == "BYTES":
            flat = deserialize_bytes_tensor(raw)
        else:
            flat = np.frombuffer(raw, dtype=triton_to_np_dtype(tensor.datatype))
        arrays[tensor.name] = flat.reshape(tuple(tensor.shape))
    return arrays


def _content(array: NDArray[Any], datatype: str) -> bytes | memoryview:
    # A memoryview of nothing cannot be cast.
    if not array.size:
        return b""
    if datatype == "BYTES":
        packed: bytes = serialize_byte_tensor(array).item()
        return packed
    return np.ascontiguousarray(array).data.cast("B")


def _varint(value: int) -> bytes:
    """Return a number as protobuf writes it: seven bits a byte, lowest first."""
    digits = bytearray()
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    digits.append(value)
    return bytes(digits)
