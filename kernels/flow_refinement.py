"""Variational refinement: one dense flow that explains brightness and gradients and is smooth.

Brox, Bruhn, Papenberg, Weickert, "High Accuracy Optical Flow Estimation Based on a Theory for
Warping" (ECCV 2004), with constancy terms normalised by their gradients. The linear system is
relaxed in red-black order, so that the pixels of one colour may be updated in any order.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fgmclip.kernels.flow_patches import gradients, sample
from fgmclip.kernels.parameters import FlowParameters

Floats = NDArray[np.float32]

_OMEGA = np.float32(1.6)
"""Over-relaxation."""

_EPSILON = np.float32(1e-3) ** 2
"""Keeps the robust penalty differentiable at zero."""

_ZETA = np.float32(0.1) ** 2
"""Keeps the normalisation of flat regions finite."""


def refine(earlier: Floats, later: Floats, flow: Floats, parameters: FlowParameters) -> Floats:
    """Return the flow that minimises the energy near `flow`.

    Args:
        earlier: Luma [N,h,w], 0..255.
        later: Luma [N,h,w].
        flow: Where to begin, [N,2,h,w] pixels.
        parameters: Weights and iterations.

    Returns:
        Flow [N,2,h,w] in pixels.
    """
    _, height, width = earlier.shape
    y = np.arange(height, dtype=np.float32)[None, :, None] + flow[:, 1]
    x = np.arange(width, dtype=np.float32)[None, None, :] + flow[:, 0]
    warped = sample(later, y, x)
    mean = (warped + earlier) * np.float32(0.5)
    change = warped - earlier
    slope_y, slope_x = gradients(mean)
    slope_yy, slope_yx = gradients(slope_y)
    _, slope_xx = gradients(slope_x)
    change_y, change_x = gradients(change)
    brightness = _Constancy(slope_x, slope_y, change)
    gradient_x = _Constancy(slope_xx, slope_yx, change_x)
    gradient_y = _Constancy(slope_yx, slope_yy, change_y)

    step = np.zeros_like(flow)
    for _ in range(parameters.refinement_iterations):
        system = _System.zeros(earlier.shape)
        residual = brightness.residual(step)
        weight = np.float32(parameters.intensity) / np.sqrt(residual + _EPSILON)
        system.add(brightness, weight)
        residual = gradient_x.residual(step) + gradient_y.residual(step)
        weight = np.float32(parameters.gradient) / np.sqrt(residual + _EPSILON)
        system.add(gradient_x, weight)
        system.add(gradient_y, weight)
        weights = _smoothness(flow + step, np.float32(parameters.smoothness))
        step = _relax(system, weights, flow, step, parameters.relaxation_iterations)
    return flow + step


class _Constancy:
    """One constancy term (a u + b v + c)**2 / norm."""

    def __init__(self, a: Floats, b: Floats, c: Floats) -> None:
        scale = np.float32(1) / np.sqrt(a * a + b * b + _ZETA)
        self.a, self.b, self.c = a * scale, b * scale, c * scale

    def residual(self, step: Floats) -> Floats:
        value = self.a * step[:, 0] + self.b * step[:, 1] + self.c
        squared: Floats = value * value
        return squared


class _System:
    """The 2x2 part of each pixel's equations, without its neighbours."""

    def __init__(self, uu: Floats, uv: Floats, vv: Floats, u: Floats, v: Floats) -> None:
        self.uu, self.uv, self.vv, self.u, self.v = uu, uv, vv, u, v

    @classmethod
    def zeros(cls, shape: tuple[int, ...]) -> _System:
        return cls(*(np.zeros(shape, np.float32) for _ in range(5)))

    def add(self, term: _Constancy, weight: Floats) -> None:
        self.uu += weight * term.a * term.a
        self.uv += weight * term.a * term.b
        self.vv += weight * term.b * term.b
        self.u -= weight * term.a * term.c
        self.v -= weight * term.b * term.c


def _smoothness(flow: Floats, alpha: np.float32) -> tuple[Floats, Floats]:
    """Return the weights of the links to the right [N,h,w] and down; no link leaves the picture."""
    right = np.diff(flow, axis=3, append=flow[..., -1:])
    down = np.diff(flow, axis=2, append=flow[:, :, -1:])
    weight = alpha / np.sqrt((right * right + down * down).sum(axis=1) + _EPSILON)
    across = weight.copy()
    across[:, :, -1] = 0
    along = weight.copy()
    along[:, -1] = 0
    return across, along


def _relax(
    system: _System,
    weights: tuple[Floats, Floats],
    flow: Floats,
    step: Floats,
    sweeps: int,
) -> Floats:
    """Return the step after some sweeps of red-black successive over-relaxation."""
    right, down = weights
    left = np.pad(right, ((0, 0), (0, 0), (1, 0)))[:, :, :-1]
    up = np.pad(down, ((0, 0), (1, 0), (0, 0)))[:, :-1]
    links = left + right + up + down
    inverse_u = np.float32(1) / (system.uu + links)
    inverse_v = np.float32(1) / (system.vv + links)
    total = np.pad(flow + step, ((0, 0), (0, 0), (1, 1), (1, 1)))
    inner = total[:, :, 1:-1, 1:-1]
    rows, columns = np.indices(flow.shape[2:])
    colors = ((rows + columns) % 2 == 0, (rows + columns) % 2 == 1)
    for _ in range(sweeps):
        for color in colors:
            around = (
                left[:, None] * total[:, :, 1:-1, :-2]
                + right[:, None] * total[:, :, 1:-1, 2:]
                + up[:, None] * total[:, :, :-2, 1:-1]
                + down[:, None] * total[:, :, 2:, 1:-1]
                - links[:, None] * flow
            )
            current = inner - flow
            u = (system.u + around[:, 0] - system.uv * current[:, 1]) * inverse_u
            u = current[:, 0] + _OMEGA * (u - current[:, 0])
            v = (system.v + around[:, 1] - system.uv * u) * inverse_v
            v = current[:, 1] + _OMEGA * (v - current[:, 1])
            np.copyto(inner[:, 0], flow[:, 0] + u, where=color)
            np.copyto(inner[:, 1], flow[:, 1] + v, where=color)
    result: Floats = inner - flow
    return result
