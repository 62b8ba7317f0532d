"""Dense inverse search: a grid of patches finds its displacements, and pixels average them.

Kroeger, Timofte, Dai, Van Gool, "Fast Optical Flow using Dense Inverse Search" (ECCV 2016), with a
regular grid that reaches over the border, so that every pixel lies in equally many patches and
gathers from them: no pixel is written twice, in any order of threads. Neighbours propagate what
they found in rounds, not one after the other, for the same reason.

Sums are taken in the order in which the C++ and CUDA builds take them: all give the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fgmclip.kernels.parameters import FlowParameters

Floats = NDArray[np.float32]

LANES = 8
"""Columns of a patch that are summed side by side."""

_HALF = np.float32(0.5)
_ONE = np.float32(1)


@dataclass(frozen=True, slots=True)
class PatchGrid:
    """Where the patches of a level lie.

    Attributes:
        side: Side of the picture, pixels.
        size: Side of a patch, pixels.
        stride: Distance between patches, pixels.
        count: Patches in a row and in a column.
        margin: Pixels that the first patch reaches over the border.
    """

    side: int
    size: int
    stride: int
    count: int
    margin: int

    @classmethod
    def over(cls, side: int, parameters: FlowParameters) -> PatchGrid:
        """Return the grid that covers a picture, each pixel (size / stride)**2 times."""
        size, stride = parameters.patch_size, parameters.patch_stride
        return cls(side, size, stride, -(-side // stride) + size // stride - 1, size - stride)

    def corners(self) -> tuple[Floats, Floats]:
        """Return y [count,1] and x [1,count] of the patches' first pixels."""
        corner = np.arange(self.count, dtype=np.float32) * self.stride - np.float32(self.margin)
        return corner[:, None], corner[None, :]

    def cut(self, picture: Floats, y: Floats, x: Floats) -> Floats:
        """Return the patches [N,count,count,size,columns] at whole pixels, border repeated.

        Args:
            picture: [N,side,side].
            y: First rows [N or 1,count,count or 1], whole numbers.
            x: First columns, the same.

        Returns:
            Patches; `columns` is the size, rounded up to whole lanes.
        """
        rows, columns = np.arange(self.size), np.arange(self._width)
        inside = self.side - 1
        pixel_y = np.clip(y.astype(np.int32)[..., None, None] + rows[:, None], 0, inside)
        pixel_x = np.clip(x.astype(np.int32)[..., None, None] + columns, 0, inside)
        pictures = np.arange(len(picture)).reshape(-1, 1, 1, 1, 1)
        patches: Floats = picture[pictures, pixel_y, pixel_x]
        return patches

    def sum(self, patches: Floats) -> Floats:
        """Return the sums [...] over patches [...,size,columns] in lanes, in one fixed order.

        Eight lanes add up rows from the top; then lanes 0 and 4, 2 and 6, 1 and 5, 3 and 7 meet.
        """
        lanes = np.zeros((*patches.shape[:-2], LANES), np.float32)
        for row in range(self.size):
            for first in range(0, self._width, LANES):
                lanes = lanes + patches[..., row, first : first + LANES]
        halves = lanes[..., :4] + lanes[..., 4:]
        total: Floats = (halves[..., 0] + halves[..., 2]) + (halves[..., 1] + halves[..., 3])
        return total

    def share(self) -> Floats:
        """Return 1 for the columns of a patch and 0 for those past its side, [columns]."""
        return (np.arange(self._width) < self.size).astype(np.float32)

    @property
    def _width(self) -> int:
        return -(-self.size // LANES) * LANES


def search_patches(
    earlier: Floats, later: Floats, flow: Floats, parameters: FlowParameters
) -> Floats:
    """Return a dense flow that patches found, starting from a coarser one.

    Args:
        earlier: Luma [N,h,h], 0..255.
        later: Luma [N,h,h].
        flow: What the coarser level found, [N,2,h,h] pixels.
        parameters: Patch size, stride, iterations and rounds.

    Returns:
        Flow [N,2,h,h] in pixels.
    """
    search = _Search(earlier, later, parameters)
    found = search.descend(flow)
    for _ in range(parameters.propagations):
        found = search.propagate(found)
    return search.densify(found)


class _Search:
    """One level's patches; displacements are u, v and how badly they fit, each [N,count,count]."""

    def __init__(self, earlier: Floats, later: Floats, parameters: FlowParameters) -> None:
        self._earlier, self._later = earlier, later
        self._iterations = parameters.iterations
        self._grid = PatchGrid.over(earlier.shape[1], parameters)
        self._share = self._grid.share()
        self._area = np.float32(parameters.patch_size**2)
        self._stiffness = np.float32(parameters.stiffness)
        self._y, self._x = self._grid.corners()
        self._template = self._grid.cut(earlier, self._y[None], self._x[None])

    def descend(self, flow: Floats) -> tuple[Floats, Floats, Floats]:
        """Return what Gauss-Newton steps find from a flow, where that fits better than it."""
        slope_x, slope_y = self._slopes()
        # A spring to the start: where there is only noise, noise must not lead the patch away.
        spring = self._stiffness * self._area
        xx = self._grid.sum(slope_x * slope_x) + spring
        xy = self._grid.sum(slope_x * slope_y)
        yy = self._grid.sum(slope_y * slope_y) + spring
        inverse = _ONE / (xx * yy - xy * xy)

        middle = np.float32(self._grid.size - 1) * _HALF
        shape = (len(flow), self._grid.count, self._grid.count)
        center_y = np.broadcast_to(self._y + middle, shape)
        center_x = np.broadcast_to(self._x + middle, shape)
        start_u = sample(flow[:, 0], center_y, center_x)
        start_v = sample(flow[:, 1], center_y, center_x)
        u, v = start_u, start_v
        for _ in range(self._iterations):
            error = self._errors(u, v)
            pull_x = self._grid.sum(slope_x * error) + spring * (u - start_u)
            pull_y = self._grid.sum(slope_y * error) + spring * (v - start_v)
            u = u - (yy * pull_x - xy * pull_y) * inverse
            v = v - (xx * pull_y - xy * pull_x) * inverse
        first, last = self._cost(start_u, start_v), self._cost(u, v)
        better = last < first
        return (
            np.where(better, u, start_u),
            np.where(better, v, start_v),
            np.where(better, last, first),
        )

    def propagate(self, found: tuple[Floats, Floats, Floats]) -> tuple[Floats, Floats, Floats]:
        """Return the displacements after a round in which patches look at their neighbours'.

        A patch takes over a neighbour's where that fits it better; one that is no more than a pixel
        away is left to the steps. All look at what was before the round.
        """
        before_u, before_v, cost = found
        u, v = before_u, before_v
        end = self._grid.count - 1
        here = np.arange(self._grid.count)
        after, before = np.minimum(here + 1, end), np.maximum(here - 1, 0)
        for rows, columns in ((here, after), (here, before), (after, here), (before, here)):
            other_u = before_u[:, rows[:, None], columns]
            other_v = before_v[:, rows[:, None], columns]
            du, dv = other_u - u, other_v - v
            fit = self._cost(other_u, other_v)
            better = (du * du + dv * dv > _ONE) & (fit < cost)
            u, v = np.where(better, other_u, u), np.where(better, other_v, v)
            cost = np.where(better, fit, cost)
        return u, v, cost

    def densify(self, found: tuple[Floats, Floats, Floats]) -> Floats:
        """Return the mean [N,2,h,h] of a pixel's patches, weighted by how well each fits there."""
        u, v, _ = found
        grid = self._grid
        weight = self._share / np.maximum(np.abs(self._errors(u, v)), _ONE)
        count, overlap = len(u), grid.size // grid.stride
        cells = grid.count - overlap + 1
        total = np.zeros((count, 2, cells * grid.stride, cells * grid.stride), np.float32)
        weights = np.zeros((count, *total.shape[2:]), np.float32)
        # A cell of stride x stride pixels lies in overlap x overlap patches, and in each elsewhere.
        for row in range(overlap):
            for column in range(overlap):
                down, right = slice(row, row + cells), slice(column, column + cells)
                y, x = (grid.stride * (overlap - 1 - index) for index in (row, column))
                part = weight[:, down, right, y : y + grid.stride, x : x + grid.stride]
                weights += _join(part)
                total[:, 0] += _join(part * u[:, down, right, None, None])
                total[:, 1] += _join(part * v[:, down, right, None, None])
        mean = total / weights[:, None]
        return np.ascontiguousarray(mean[:, :, : grid.side, : grid.side])

    def _slopes(self) -> tuple[Floats, Floats]:
        """Return slopes of the patches without their means: light that changes moves nothing."""
        down, right = gradients(self._earlier)
        slopes = []
        for gradient in (right, down):
            patch = self._grid.cut(gradient, self._y[None], self._x[None])
            mean = self._grid.sum(patch * self._share) / self._area
            slopes.append((patch - mean[..., None, None]) * self._share)
        return slopes[0], slopes[1]

    def _errors(self, u: Floats, v: Floats) -> Floats:
        """Return the later picture at displacements minus the earlier one, by patch."""
        # Farther out there is only more of the same border.
        least, most = np.float32(-self._grid.size - 1), np.float32(self._grid.side)
        y = np.clip(self._y + v, least, most)
        x = np.clip(self._x + u, least, most)
        first_y, first_x = np.floor(y), np.floor(x)
        fy, fx = (y - first_y)[..., None, None], (x - first_x)[..., None, None]
        upper = self._across(first_y, first_x, fx)
        lower = self._across(first_y + _ONE, first_x, fx)
        errors: Floats = upper + (lower - upper) * fy - self._template
        return errors

    def _across(self, y: Floats, x: Floats, fraction: Floats) -> Floats:
        first = self._grid.cut(self._later, y, x)
        between: Floats = first + (self._grid.cut(self._later, y, x + _ONE) - first) * fraction
        return between

    def _cost(self, u: Floats, v: Floats) -> Floats:
        """Return squared errors without their mean, which is free: light changes."""
        error = self._errors(u, v) * self._share
        mean = self._grid.sum(error)
        cost: Floats = self._grid.sum(error * error) - mean * mean / self._area
        return cost


def _join(cells: Floats) -> Floats:
    """Return cells [N,rows,columns,height,width] side by side, [N,rows height,columns width]."""
    count, rows, columns, height, width = cells.shape
    return cells.transpose(0, 1, 3, 2, 4).reshape(count, rows * height, columns * width)


def sample(picture: Floats, y: Floats, x: Floats) -> Floats:
    """Return bilinear samples of pictures [N,h,w] at y, x [N,...], border repeated."""
    count, height, width = picture.shape
    y = np.clip(y, np.float32(0), np.float32(height - 1))
    x = np.clip(x, np.float32(0), np.float32(width - 1))
    y0 = np.minimum(y.astype(np.int32), height - 2)
    x0 = np.minimum(x.astype(np.int32), width - 2)
    fy, fx = y - y0.astype(np.float32), x - x0.astype(np.float32)
    pictures = np.arange(count, dtype=np.int32).reshape(-1, *([1] * (y.ndim - 1)))
    first = (pictures * height + y0) * width + x0
    flat = picture.reshape(-1)
    top = flat[first]
    top = top + (flat[first + 1] - top) * fx
    bottom = flat[first + width]
    bottom = bottom + (flat[first + width + 1] - bottom) * fx
    values: Floats = top + (bottom - top) * fy
    return values


def gradients(picture: Floats) -> tuple[Floats, Floats]:
    """Return central differences down and right of pictures [N,h,w], border repeated."""
    padded = np.pad(picture, ((0, 0), (1, 1), (1, 1)), "edge")
    down: Floats = (padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]) * _HALF
    right: Floats = (padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]) * _HALF
    return down, right
