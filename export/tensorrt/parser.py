"""An ONNX graph parsed into a network, and the parser's errors told so that one can act on them."""

from __future__ import annotations

import re
from typing import Any

from fgmclip.export.tensorrt.errors import GraphRefusedError
from fgmclip.export.tensorrt.library import Builder, Library, Network, Parser, ParserError

REMEDIES: tuple[tuple[str, str], ...] = (
    (
        r"Plugin not found|kUNSUPPORTED_NODE|^false$",
        "this version has no such operator: export the model without it, or serve this part with "
        "'--target onnx-gpu'",
    ),
    (
        r"must have (the )?same (input )?types?|types? mismatch|is of type \w+ and",
        "a strongly typed network casts nothing by itself: cast one side in the graph, or give the "
        "fp32 graph and let --precision convert it",
    ),
    (
        r"zero.?point",
        "quantise signed and symmetric, with zero points of 0",
    ),
    (
        r"parse the ONNX model|ParseFromCodedStream|deserialize",
        "the file is no ONNX model or was cut short: export the checkpoint again",
    ),
    (
        r"must match|dimension|broadcast|shape",
        "the graph contradicts itself: export the checkpoint again, and check it with "
        "onnx.checker.check_model",
    ),
)
"""Pattern of what the parser says, and what to do about it; the first that fits is told."""

OTHERWISE = (
    "try a newer version of the library, or serve this part with '--target onnx-gpu', which needs "
    "no parser of TensorRT"
)


def parse_graph(library: Library, builder: Builder, logger: Any, graph: bytes) -> Network:
    """Return a strongly typed network of an ONNX graph.

    Args:
        library: The library to use.
        builder: A builder of it.
        logger: A logger of it.
        graph: The serialized graph, weights inside.

    Raises:
        GraphRefusedError: The parser refused the graph; every node that it named is told.
    """
    # Version 11 and TensorRT for RTX always are strongly typed and ignore the flag.
    flag = library.module.NetworkDefinitionCreationFlag.STRONGLY_TYPED
    network = builder.create_network(1 << int(flag))
    parser = library.parser(network, logger)
    if not parser.parse(graph):
        raise GraphRefusedError(f"{library.title} refused the graph: {refusal(parser)}")
    return network


def refusal(parser: Parser) -> str:
    """Return one line about everything that a parser refused."""
    errors = [tell(parser.get_error(index)) for index in range(parser.num_errors)]
    return " | ".join(errors) or f"it gave no reason; {OTHERWISE}"


def tell(error: ParserError) -> str:
    """Return what one error is about, what it says, and the remedy."""
    text = error.desc()
    reason = _reason(text)
    remedy = next((advice for pattern, advice in REMEDIES if re.search(pattern, text)), OTHERWISE)
    if not error.node_operator():
        return f"{reason}; {remedy}"
    return (
        f"{error.node_operator()} '{error.node_name()}' (node {error.node()}): {reason}; {remedy}"
    )


def _reason(text: str) -> str:
    """Return the line that says why: the last that is no assertion of the library's own code."""
    if text == "false":
        return "operator not supported"
    lines = [line.strip() for line in text.splitlines()]
    # Without a GPU a line about the driver follows the real reason.
    lines = [line for line in lines if line and "Cuda Runtime" not in line]
    telling = [line for line in lines if not line.startswith("Invalid Node")] or lines
    return re.sub(r"\s+In \w+ at \S+\)", ")", telling[-1]) if telling else "no reason given"
