"""Bytes that a camera sends each second: edge frames, raw frames, and windows sent again.

Run as `python bench/stream_bytes.py`. The requests are those of the clients themselves, encoded as
they go out, with one decision a sample; gRPC adds a few dozen bytes to each. The content of frames
does not matter, as tensors travel uncompressed. "Window sent again" is what a server needs that
keeps no history and is sent none: T + 1 frames a decision. Prints a table; `--json FILE` writes the
figures.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from tritonclient.grpc import service_pb2
from tritonclient.utils import np_to_triton_dtype, serialize_byte_tensor

from fgmclip.bench.machine import describe_machine
from fgmclip.client import ActionClient, MockRequest, MockTransport, StreamSession
from fgmclip.client.messages import Tensors, encode_request
from fgmclip.command import run_command
from fgmclip.spec import PRESETS, Limits, ModelSpec, PublicManifest, preset

MODELS = ("demo", "gym99")

SIZES = {"480p": (480, 854), "1080p": (1080, 1920)}
"""Height and width of frames, pixels."""

LAYOUTS = ("RGB", "NV12")

TAG = "0" * 16
"""As long as the tags of releases."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """What one way of asking costs.

    Attributes:
        model: Name of the preset.
        way: What is sent for a decision.
        frames: Size and layout of the frames that are sent.
        decisions_per_second: One a sample.
        request_bytes: Of one decision's request.
        answer_bytes: Of its answer.
    """

    model: str
    way: str
    frames: str
    decisions_per_second: float
    request_bytes: int
    answer_bytes: int

    @property
    def sent_per_second(self) -> float:
        """Bytes that the camera's host sends each second."""
        return self.request_bytes * self.decisions_per_second


def main(argv: Sequence[str] | None = None) -> int:
    """Run the bench and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--model", action="append", choices=PRESETS, help=f"presets; {', '.join(MODELS)} if absent"
    )
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args(argv)
    console = Console()
    console.width = max(console.width, 120)
    measured = [traffic for name in arguments.model or MODELS for traffic in measure(preset(name))]
    console.print(_table(measured))
    if arguments.json:
        figures = {
            "machine": describe_machine(),
            "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "traffic": [
                asdict(item) | {"sent_per_second": item.sent_per_second} for item in measured
            ],
        }
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return 0


def measure(spec: ModelSpec) -> list[Traffic]:
    """Return the traffic of every way of asking a model, the stream of edge frames first."""
    network = _Network(spec)
    traffic = [
        network.stream("stream, edge", _edge_size(spec), _frames(spec, "480p", "RGB"), edge=True)
    ]
    kinds = [(size, layout) for size in SIZES for layout in LAYOUTS]
    for size, layout in kinds:
        frames = _frames(spec, size, layout)
        traffic.append(network.stream("stream, raw", f"{size} {layout}", frames, edge=False))
    frames = _frames(spec, "480p", "RGB")
    traffic.append(network.again("window sent again, edge", _edge_size(spec), frames, edge=True))
    for size, layout in kinds:
        frames = _frames(spec, size, layout)
        kind = f"{size} {layout}"
        traffic.append(network.again("window sent again, raw", kind, frames, edge=False))
    return traffic


class _Network:
    """Takes requests as a server would, and weighs them."""

    def __init__(self, spec: ModelSpec) -> None:
        self._spec = spec
        manifest = PublicManifest(
            release=1,
            model_tag=TAG,
            embedding_tag=TAG,
            precision="fp32",
            dt=spec.clip.dt,
            spec=spec,
            limits=Limits(),
        )
        self._transport = MockTransport(manifest, self._answer)
        self._client = ActionClient("nowhere:1", transport=self._transport)

    def stream(self, way: str, kind: str, frames: NDArray[np.uint8], *, edge: bool) -> Traffic:
        """Return the traffic of a window that slides by one sample."""
        session = StreamSession(self._client, edge=edge)
        session.push(frames)
        session.push(frames[-2:])
        return self._weigh(way, kind)

    def again(self, way: str, kind: str, frames: NDArray[np.uint8], *, edge: bool) -> Traffic:
        """Return the traffic of a window that is sent whole each time."""
        if edge:
            StreamSession(self._client, edge=True).push(frames)
        else:
            self._client.classify_window(frames)
        return self._weigh(way, kind)

    def _weigh(self, way: str, kind: str) -> Traffic:
        request = self._transport.requests[-1]
        # Requests hold large frames.
        self._transport.requests.clear()
        encoded = encode_request(request.model, request.inputs, request.outputs, request.parameters)
        answer = service_pb2.ModelInferResponse(model_name=request.model, model_version="1")
        for name, value in self._answer(request).items():
            if name in request.outputs:
                datatype = np_to_triton_dtype(value.dtype)
                answer.outputs.add(name=name, datatype=datatype, shape=value.shape)
                packed = serialize_byte_tensor(value).item() if datatype == "BYTES" else value.data
                answer.raw_output_contents.append(bytes(packed))
        return Traffic(
            self._spec.name, way, kind, 1 / self._spec.clip.dt, len(encoded), answer.ByteSize()
        )

    def _answer(self, request: MockRequest) -> Tensors:
        spec, inputs = self._spec, request.inputs
        first = "FRAMES" if "FRAMES" in inputs else "PIXELS_U8"
        new = len(inputs[first]) - (first == "FRAMES")

        def zeros(*shape: int) -> NDArray[Any]:
            return np.zeros(shape, np.float32)

        motion = 0 if spec.motion is None else spec.motion.width
        return {
            "LOGITS": zeros(1, len(spec.labels)),
            "PROBABILITIES": zeros(1, len(spec.labels)),
            "EMBEDDING": zeros(1, spec.fusion.width),
            "VISUAL_NEW": zeros(1, new, spec.visual.width),
            "MOTION_NEW": zeros(1, new, motion),
            "TAG": np.array([TAG.encode()], dtype=object),
            "MODEL_TAG": np.array([TAG.encode()], dtype=object),
        }


def _frames(spec: ModelSpec, size: str, layout: str) -> NDArray[np.uint8]:
    """Return the T + 1 frames of a window."""
    height, width = SIZES[size]
    shape = (height, width, 3) if layout == "RGB" else (height * 3 // 2, width, 1)
    return np.zeros((spec.clip.frames + 1, *shape), np.uint8)


def _edge_size(spec: ModelSpec) -> str:
    luma = "" if spec.motion is None else f", 2 lumas {spec.motion.size}"
    return f"RGB {spec.visual.image_size}{luma}"


def _table(measured: Sequence[Traffic]) -> Table:
    table = Table(title="Bytes of one camera, one decision a sample", title_justify="left")
    for column in ("model", "sent for a decision", "frames"):
        table.add_column(column, no_wrap=True)
    for column in ("decisions/s", "request kB", "answer kB", "sent kB/s", "to edge"):
        table.add_column(column, justify="right")
    for item in measured:
        edge = next(other for other in measured if other.model == item.model)
        table.add_row(
            item.model,
            item.way,
            item.frames,
            f"{item.decisions_per_second:g}",
            f"{item.request_bytes / 1e3:.1f}",
            f"{item.answer_bytes / 1e3:.1f}",
            f"{item.sent_per_second / 1e3:.0f}",
            f"x {item.request_bytes / edge.request_bytes:.1f}",
            end_section=item is measured[-1] or measured[measured.index(item) + 1] is edge,
        )
    return table


if __name__ == "__main__":
    sys.exit(run_command(main))
