"""Requests as bytes, and answers back: what goes over the wire is the protocol's own message."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2

from fgmclip.client import RefusedError
from fgmclip.client.messages import decode_response, encode_request


def parsed(*arguments: Any) -> Any:
    return service_pb2.ModelInferRequest.FromString(encode_request(*arguments))


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.arange(24, dtype=np.uint8).reshape(2, 3, 4)[:, ::2],
        np.arange(12, dtype=np.float32).reshape(3, 4).T,
        np.array(2.5, np.float32),
        np.array([[b"", b"\x00\xff"]], dtype=object),
        np.zeros((0, 4), np.float32),
        np.zeros((0,), object),
    ],
)
def test_arrays_survive_the_wire(array: NDArray[Any]) -> None:
    request = parsed("m", {"X": array}, ("Y",), {})
    response = service_pb2.ModelInferResponse(raw_output_contents=request.raw_input_contents)
    for tensor in request.inputs:
        response.outputs.add(name="Y", datatype=tensor.datatype, shape=tensor.shape)
    came = decode_response(response)["Y"]
    assert came.dtype == array.dtype
    np.testing.assert_array_equal(came, array)


@pytest.mark.parametrize("length", [1, 127, 128, 16383, 16384, 2**21])
def test_a_request_is_what_the_protocols_own_message_would_be(length: int) -> None:
    array = np.arange(length).astype(np.uint8)
    inputs: dict[str, NDArray[Any]] = {
        "A": array,
        "B": np.zeros((2, 0), np.float32),
        "C": array[:1],
    }
    expected = service_pb2.ModelInferRequest(
        model_name="m", raw_input_contents=[item.tobytes() for item in inputs.values()]
    )
    for name, item in inputs.items():
        datatype = "UINT8" if item.dtype == np.uint8 else "FP32"
        expected.inputs.add(name=name, datatype=datatype, shape=item.shape)
    for name in ("Y", "Z"):
        expected.outputs.add(name=name)
    expected.parameters["color_matrix"].string_param = "bt709"
    assert parsed("m", inputs, ("Y", "Z"), {"color_matrix": "bt709"}) == expected


def test_parameters_keep_their_types() -> None:
    request = parsed("m", {}, (), {"a": "x", "b": 3, "c": True})
    kinds = {key: item.WhichOneof("parameter_choice") for key, item in request.parameters.items()}
    assert kinds == {"a": "string_param", "b": "int64_param", "c": "bool_param"}


def test_a_dtype_that_the_protocol_lacks_is_refused() -> None:
    with pytest.raises(RefusedError, match="X: expected a dtype of KServe v2, got complex64"):
        encode_request("m", {"X": np.zeros(1, np.complex64)}, (), {})


def test_a_request_beyond_what_grpc_can_hold_is_refused() -> None:
    huge = np.broadcast_to(np.uint8(0), (2**31,))
    with pytest.raises(RefusedError, match="expected at most 2147483647 bytes"):
        encode_request("m", {"X": huge}, (), {})
