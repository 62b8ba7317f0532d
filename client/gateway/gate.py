"""`MotionGate`: tells when nothing moves, so that nothing has to be encoded.

It looks at LUMA_U8 alone, by the same `frame_difference` that the model sees. Samples that it lets
pass unseen wait in the window, so the decision after a quiet time is the one that would have been
made without a gate.
"""

from __future__ import annotations

import numpy as np

from fgmclip.client.errors import RefusedError
from fgmclip.client.gateway.settings import GateSettings
from fgmclip.client.streams.samples import StreamSample
from fgmclip.kernels.frame_difference import frame_difference


class MotionGate:
    """The gate of one camera; opens at motion and at heartbeats, by the samples' own times.

    The first sample, one after a gap, and one whose tracks are others than before count as motion:
    a window begins there.
    """

    def __init__(self, settings: GateSettings, dt: float, window: int) -> None:
        """Start before the first sample.

        Args:
            settings: What counts as motion, and how long the gate stays open.
            dt: Time from one sample to the next, seconds.
            window: T, the samples for which it stays open after motion at least. If it closed
                sooner, the decision that holds while it is closed would be one of a window with
                the end of the motion in it.
        """
        self._settings = settings
        self._linger = max(settings.linger_seconds, window * dt)
        # Times are multiples of dt but for rounding, so half of it decides as exact numbers would.
        self._slack = dt / 2
        self._before: StreamSample | None = None
        self._moved = self._opened = 0.0
        self._samples = self._open = 0

    def sees(self, sample: StreamSample) -> bool:
        """Look at the next sample; return whether the window should be advanced now.

        Args:
            sample: Prepared at the edge, by a model with motion.

        Raises:
            RefusedError: It has no luma.
        """
        settings = self._settings
        moving = self._begins(sample) or motion(sample, settings.difference) > settings.threshold
        self._before = sample
        if moving:
            self._moved = sample.time
        lingers = sample.time - self._moved <= self._linger + self._slack
        beats = sample.time - self._opened >= settings.heartbeat_seconds - self._slack
        is_open = moving or lingers or beats
        if is_open:
            self._opened = sample.time
        self._samples += 1
        self._open += is_open
        return is_open

    def duty(self) -> float:
        """Return the part of the samples so far for which the gate was open; 1 before the first."""
        return self._open / self._samples if self._samples else 1.0

    def _begins(self, sample: StreamSample) -> bool:
        before = self._before
        return (
            before is None
            or sample.index != before.index + 1
            or sample.tracks != before.tracks
            or sample.time <= before.time
        )


def motion(sample: StreamSample, difference: float) -> float:
    """Return the part of the luma grid that differs from the sample before, of the liveliest track.

    Args:
        sample: Prepared at the edge, by a model with motion; without tracks nothing moves.
        difference: Difference of luma that counts, as a part of white.

    Raises:
        RefusedError: It has no luma.
    """
    if sample.tracks == ():
        return 0.0
    luma_u8 = sample.tensors.get("LUMA_U8")
    if luma_u8 is None:
        raise RefusedError(
            f"motion gate: expected samples with LUMA_U8, got {', '.join(sample.tensors)}; "
            "prepare frames at the edge for a model with motion, or leave the gate off"
        )
    differences = np.abs(frame_difference(luma_u8.astype(np.uint8, copy=False)))
    return float((differences > difference).mean(axis=(1, 2)).max())
