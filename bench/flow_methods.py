"""The flow methods that are compared: ours, and OpenCV's that run without a GPU or a network."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from fgmclip.kernels import native
from fgmclip.kernels.parameters import FlowParameters

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]

FlowMethod = Callable[[Bytes], Floats]
"""From LUMA_U8 [2,M,M], earlier then later, to flow [M,M,2], pixels."""

OURS = "fgmclip"
DIS_MEDIUM = "DIS medium"
DIS_FAST = "DIS fast"
DIS_ULTRAFAST = "DIS ultrafast"
FARNEBACK = "Farneback"

_PRESETS = {
    DIS_MEDIUM: cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
    DIS_FAST: cv2.DISOPTICAL_FLOW_PRESET_FAST,
    DIS_ULTRAFAST: cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
}


def flow_methods(parameters: FlowParameters, side: int, threads: int) -> dict[str, FlowMethod]:
    """Return the methods by name, ours first, each with its own buffers for one size.

    What a method returns is valid until its next call. OpenCV's threads are set by
    `cv2.setNumThreads`.

    Args:
        parameters: Of our flow.
        side: M, pixels.
        threads: Threads of our flow.
    """
    methods = {OURS: _ours(parameters, side, threads)}
    methods |= {name: _dis(preset) for name, preset in _PRESETS.items()}
    methods[FARNEBACK] = _farneback
    return methods


def _ours(parameters: FlowParameters, side: int, threads: int) -> FlowMethod:
    out = np.empty((1, 2, side, side), np.float32)
    flow: Floats = out[0].transpose(1, 2, 0)

    def method(luma: Bytes) -> Floats:
        native.optical_flow_into(luma[None], parameters, out, threads=threads)
        return flow

    return method


def _dis(preset: int) -> FlowMethod:
    # One object for all calls: it keeps its buffers.
    dis = cv2.DISOpticalFlow.create(preset)

    def method(luma: Bytes) -> Floats:
        # A flow of the right size would be taken as the initial one, so a buffer cannot be passed.
        flow: Floats = dis.calc(luma[0], luma[1], None)  # type: ignore[call-overload]
        return flow

    return method


def _farneback(luma: Bytes) -> Floats:
    # The parameters of OpenCV's own sample (samples/python/opt_flow.py).
    flow: Floats = cv2.calcOpticalFlowFarneback(  # type: ignore[call-overload]
        luma[0], luma[1], None, 0.5, 3, 15, 3, 5, 1.2, 0
    )
    return flow
