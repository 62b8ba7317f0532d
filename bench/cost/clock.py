"""How long a call takes: by this process's clock, or by events on the GPU's own stream."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fgmclip.bench.cost.plan import Device
from fgmclip.bench.stages import milliseconds

Clock = Callable[[Callable[[], object]], float]
"""Makes a call and returns how long it took, milliseconds."""


def clock(device: Device) -> Clock:
    """Return the clock of a device.

    On a GPU a call returns before its kernels have run, so two CUDA events around them tell the
    time, and the second is waited for.
    """
    return milliseconds if device == "cpu" else _cuda_milliseconds


def _cuda_milliseconds(call: Callable[[], object]) -> float:
    import torch

    # torch does not type its events.
    make: Callable[..., Any] = torch.cuda.Event
    start, end = make(enable_timing=True), make(enable_timing=True)
    start.record()
    call()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end))
