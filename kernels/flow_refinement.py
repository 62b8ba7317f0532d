"""Variational refinement: one dense flow that explains brightness and gradients and is smooth.

Brox, Bruhn, Papenberg, Weickert, "High Accuracy Optical Flow Estimation Based on a Theory for
Warping" (ECCV 2004), with constancy terms normalised by their gradients. The linear system is
relaxed in red-black order, so that the pixels of one colour may be updated in any order.

The unknown is the whole flow, not a step from where it begins. Every operation stands in the order
in which the C++ and CUDA builds have it, so that all give the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fgmclip.kernels.flow_patches import gradients, sample
from fgmclip.kernels.parameters import FlowParameters

Floats = NDArray[np.float32]

_OMEGA = np.float32(1.9)
"""Over-relaxation."""

_EPSILON = np.float32(1e-3) * np.float32(1e-3)
"""Keeps the robust penalty differentiable at zero."""

_ZETA = np.float32(0.1) * np.float32(0.1)
"""Keeps the normalisation of flat regions finite."""

_HALF = np.float32(0.5)
_ONE = np.float32(1)


def refine(
    earlier: Floats, later: Floats, flow: Floats, iterations: int, parameters: FlowParameters
) -> Floats:
    """Return the flow that minimises the energy near `flow`.

    Args:
        earlier: Luma [N,h,w], 0..255.
        later: Luma [N,h,w].
        flow: Where to begin, [N,2,h,w] pixels.
        iterations: Fixed-point steps.
        parameters: Weights, and sweeps of a step.

    Returns:
        Flow [N,2,h,w] in pixels.
    """
    terms = _constancies(earlier, later, flow)
    for _ in range(iterations):
        system = _System.around(terms, flow, parameters)
        flow = system.relax(flow, parameters.relaxation_iterations)
    return flow


def inverse_root(x: Floats) -> Floats:
    """Return 1 / sqrt(x) of x > 0, relative error below 5e-6.

    An integer guess and two Newton steps (Lomont, "Fast Inverse Square Root", 2003): the same bits
    on every machine, and less than half the time of a square root and a division.
    """
    guess = (np.int32(0x5F3759DF) - (x.view(np.int32) >> 1)).view(np.float32)
    half = x * _HALF
    for _ in range(2):
        guess = guess * (np.float32(1.5) - half * guess * guess)
    return guess


@dataclass(frozen=True, slots=True)
class _Constancy:
    """One constancy term (a u + b v + c)**2, normalised by its gradient; each [N,h,w]."""

    a: Floats
    b: Floats
    c: Floats

    @classmethod
    def around(cls, a: Floats, b: Floats, change: Floats, flow: Floats) -> _Constancy:
        """Linearise around a flow, where the change is what is left."""
        scale = inverse_root(a * a + b * b + _ZETA)
        a, b = a * scale, b * scale
        return cls(a, b, change * scale - a * flow[:, 0] - b * flow[:, 1])

    def squared(self, flow: Floats) -> Floats:
        """Return the squared residual [N,h,w] at a flow."""
        value = self.a * flow[:, 0] + self.b * flow[:, 1] + self.c
        squared: Floats = value * value
        return squared


def _constancies(earlier: Floats, later: Floats, flow: Floats) -> tuple[_Constancy, ...]:
    """Return the constancy of brightness and of both gradients around a flow."""
    _, height, width = earlier.shape
    y = np.arange(height, dtype=np.float32)[None, :, None] + flow[:, 1]
    x = np.arange(width, dtype=np.float32)[None, None, :] + flow[:, 0]
    warped = sample(later, y, x)
    mean = (warped + earlier) * _HALF
    change = warped - earlier
    slope_y, slope_x = gradients(mean)
    slope_yy, slope_yx = gradients(slope_y)
    _, slope_xx = gradients(slope_x)
    change_y, change_x = gradients(change)
    return (
        _Constancy.around(slope_x, slope_y, change, flow),
        _Constancy.around(slope_xx, slope_yx, change_x, flow),
        _Constancy.around(slope_yx, slope_yy, change_y, flow),
    )


@dataclass(frozen=True, slots=True)
class _System:
    """The equations of every pixel, each [N,h,w].

    Attributes:
        right: Weight of the link to the right.
        down: Weight of the link down.
        cross: What couples u and v.
        rhs_u: Right side of the first equation.
        rhs_v: Right side of the second.
        inverse_u: Over-relaxation by the diagonal of the first.
        inverse_v: Over-relaxation by the diagonal of the second.
    """

    right: Floats
    down: Floats
    cross: Floats
    rhs_u: Floats
    rhs_v: Floats
    inverse_u: Floats
    inverse_v: Floats

    @classmethod
    def around(
        cls, terms: tuple[_Constancy, ...], flow: Floats, parameters: FlowParameters
    ) -> _System:
        """Return the equations with the robust weights that a flow gives them."""
        right, down = _links(flow, np.float32(parameters.smoothness))
        squared = [term.squared(flow) for term in terms]
        brightness = inverse_root(squared[0] + _EPSILON) * np.float32(parameters.intensity)
        gradient = inverse_root(squared[1] + squared[2] + _EPSILON) * np.float32(
            parameters.gradient
        )
        uu = (_shift(right, 2, 1) + right) + (_shift(down, 1, 1) + down)
        vv = uu.copy()
        uv, rhs_u, rhs_v = (np.zeros_like(uu) for _ in range(3))
        for term, weight in zip(terms, (brightness, gradient, gradient), strict=True):
            wa, wb = weight * term.a, weight * term.b
            uu += wa * term.a
            uv += wa * term.b
            vv += wb * term.b
            rhs_u -= wa * term.c
            rhs_v -= wb * term.c
        inverse: Floats = _OMEGA / (uu * vv)
        return cls(right, down, uv, rhs_u, rhs_v, inverse * vv, inverse * uu)

    def relax(self, flow: Floats, sweeps: int) -> Floats:
        """Return the flow [N,2,h,w] after sweeps of red-black successive over-relaxation."""
        u, v = flow[:, 0].copy(), flow[:, 1].copy()
        left, up = _shift(self.right, 2, 1), _shift(self.down, 1, 1)

        def pull(field: Floats) -> Floats:
            sides: Floats = left * _shift(field, 2, 1) + self.right * _shift(field, 2, -1)
            ends: Floats = up * _shift(field, 1, 1) + self.down * _shift(field, 1, -1)
            return sides + ends

        rows, columns = np.indices(flow.shape[2:])
        for sweep in range(2 * sweeps):
            turn = (rows + columns) % 2 == sweep % 2
            sum_u = self.rhs_u + pull(u)
            new_u = u * (_ONE - _OMEGA) + (sum_u - self.cross * v) * self.inverse_u
            sum_v = self.rhs_v + pull(v)
            new_v = v * (_ONE - _OMEGA) + (sum_v - self.cross * new_u) * self.inverse_v
            u, v = np.where(turn, new_u, u), np.where(turn, new_v, v)
        return np.stack([u, v], axis=1)


def _links(flow: Floats, alpha: np.float32) -> tuple[Floats, Floats]:
    """Return the weights of the links to the right [N,h,w] and down; no link leaves the picture."""
    right = np.diff(flow, axis=3, append=flow[..., -1:])
    down = np.diff(flow, axis=2, append=flow[:, :, -1:])
    squared = right * right + down * down
    weight = inverse_root(squared[:, 0] + squared[:, 1] + _EPSILON) * alpha
    across, along = weight.copy(), weight.copy()
    across[:, :, -1] = 0
    along[:, -1] = 0
    return across, along


def _shift(field: Floats, axis: int, by: int) -> Floats:
    """Return a field [N,h,w] moved by one along an axis, 0 where nothing comes in."""
    moved = np.zeros_like(field)
    ahead, behind = [slice(None)] * 3, [slice(None)] * 3
    ahead[axis], behind[axis] = slice(1, None), slice(None, -1)
    if by > 0:
        moved[tuple(ahead)] = field[tuple(behind)]
    else:
        moved[tuple(behind)] = field[tuple(ahead)]
    return moved
