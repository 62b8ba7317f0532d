"""Dense inverse search: a grid of patches finds its displacements, and pixels average them.

Kroeger, Timofte, Dai, Van Gool, "Fast Optical Flow using Dense Inverse Search" (ECCV 2016), with a
regular grid that reaches over the border, so that every pixel lies in equally many patches and
gathers from them: no pixel is written twice, in any order of threads.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from fgmclip.kernels.parameters import FlowParameters

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class PatchGrid:
    """Where the patches of a level lie.

    Attributes:
        size: Side of a patch, pixels.
        stride: Distance between patches, pixels.
        rows: Rows of patches.
        columns: Columns of patches.
        margin: Pixels that the first patch reaches over the border.
    """

    size: int
    stride: int
    rows: int
    columns: int
    margin: int

    @classmethod
    def over(cls, height: int, width: int, parameters: FlowParameters) -> PatchGrid:
        """Return the grid that covers a picture, each pixel (size / stride)**2 times."""
        size, stride = parameters.patch_size, parameters.patch_stride
        overlap = size // stride
        return cls(
            size,
            stride,
            -(-height // stride) + overlap - 1,
            -(-width // stride) + overlap - 1,
            size - stride,
        )

    def cut(self, picture: Floats) -> Floats:
        """Return the patches [N,rows,columns,size,size] of pictures [N,h,w], border repeated."""
        _, height, width = picture.shape
        below = self.rows * self.stride + self.margin - height
        right = self.columns * self.stride + self.margin - width
        padded = np.pad(picture, ((0, 0), (self.margin, below), (self.margin, right)), "edge")
        window = (len(padded), self.size, self.size)
        view = sliding_window_view(padded, window)[0].transpose(2, 0, 1, 3, 4)
        patches: Floats = view[:, :: self.stride, :: self.stride][:, : self.rows, : self.columns]
        return patches

    def centers(self) -> tuple[Floats, Floats]:
        """Return y [rows] and x [columns] of the patches' middles, pixels."""
        middle = (self.size - 1) / 2 - self.margin
        y = np.arange(self.rows, dtype=np.float32) * self.stride + np.float32(middle)
        x = np.arange(self.columns, dtype=np.float32) * self.stride + np.float32(middle)
        return y, x


def sample(picture: Floats, y: Floats, x: Floats) -> Floats:
    """Return bilinear samples of pictures [N,h,w] at y, x [N,...], border repeated."""
    count, height, width = picture.shape
    y = np.clip(y, 0, height - 1)
    x = np.clip(x, 0, width - 1)
    y0 = np.minimum(y.astype(np.int32), height - 2)
    x0 = np.minimum(x.astype(np.int32), width - 2)
    fy, fx = y - y0, x - x0
    pictures = np.arange(count, dtype=np.int32).reshape(-1, *([1] * (y.ndim - 1)))
    first = (pictures * height + y0) * width + x0
    flat = picture.reshape(-1)
    top = flat[first]
    top = top + (flat[first + 1] - top) * fx
    bottom = flat[first + width]
    bottom = bottom + (flat[first + width + 1] - bottom) * fx
    values: Floats = top + (bottom - top) * fy
    return values


def search_patches(
    earlier: Floats, later: Floats, flow: Floats, parameters: FlowParameters
) -> Floats:
    """Return a dense flow that patches found, starting from a coarser one.

    Args:
        earlier: Luma [N,h,w], 0..255.
        later: Luma [N,h,w].
        flow: What the coarser level found, [N,2,h,w] pixels.
        parameters: Patch size, stride and iterations.

    Returns:
        Flow [N,2,h,w] in pixels.
    """
    grid = PatchGrid.over(earlier.shape[1], earlier.shape[2], parameters)
    moved = _descend(grid, earlier, later, flow, parameters)
    return _densify(grid, earlier, later, moved)


def _descend(
    grid: PatchGrid, earlier: Floats, later: Floats, flow: Floats, parameters: FlowParameters
) -> Floats:
    """Return each patch's displacement [N,2,rows,columns] by Gauss-Newton steps."""
    template = grid.cut(earlier)
    template = template - template.mean(axis=(3, 4), keepdims=True)
    gradient_y, gradient_x = gradients(earlier)
    slope_x = grid.cut(gradient_x)
    slope_y = grid.cut(gradient_y)
    # The mean of a patch is free (light changes): take it out of the slopes as well.
    slope_x = slope_x - slope_x.mean(axis=(3, 4), keepdims=True)
    slope_y = slope_y - slope_y.mean(axis=(3, 4), keepdims=True)
    # A spring to the start: where there is only noise, noise must not lead the patch away.
    spring = np.float32(parameters.stiffness * grid.size**2)
    xx = (slope_x * slope_x).sum(axis=(3, 4)) + spring
    xy = (slope_x * slope_y).sum(axis=(3, 4))
    yy = (slope_y * slope_y).sum(axis=(3, 4)) + spring
    inverse = np.float32(1) / (xx * yy - xy * xy)

    center_y, center_x = grid.centers()
    shape = (len(earlier), grid.rows, grid.columns)
    y = np.broadcast_to(center_y[:, None], shape)
    x = np.broadcast_to(center_x[None, :], shape)
    start = np.stack([sample(flow[:, 0], y, x), sample(flow[:, 1], y, x)], axis=1)
    span = np.arange(grid.size, dtype=np.float32) - np.float32((grid.size - 1) / 2)
    pixel_y = y[..., None, None] + span[:, None]
    pixel_x = x[..., None, None] + span[None, :]
    moved = start.copy()
    for _ in range(parameters.iterations):
        seen = sample(
            later, pixel_y + moved[:, 1, ..., None, None], pixel_x + moved[:, 0, ..., None, None]
        )
        error = seen - seen.mean(axis=(3, 4), keepdims=True) - template
        right = (slope_x * error).sum(axis=(3, 4)) + spring * (moved[:, 0] - start[:, 0])
        down = (slope_y * error).sum(axis=(3, 4)) + spring * (moved[:, 1] - start[:, 1])
        moved[:, 0] -= (yy * right - xy * down) * inverse
        moved[:, 1] -= (xx * down - xy * right) * inverse
    # A patch that ran away found something else.
    far = np.square(moved - start).sum(axis=1, keepdims=True) > np.float32(grid.size**2)
    result: Floats = np.where(far, start, moved)
    return result


def _densify(grid: PatchGrid, earlier: Floats, later: Floats, moved: Floats) -> Floats:
    """Return the mean of the displacements of a pixel's patches, weighted by how well they fit."""
    count, height, width = earlier.shape
    cells_y, cells_x = -(-height // grid.stride), -(-width // grid.stride)
    y = np.arange(height, dtype=np.float32)[None, :, None]
    x = np.arange(width, dtype=np.float32)[None, None, :]
    total = np.zeros((count, 2, height, width), np.float32)
    weights = np.zeros((count, 1, height, width), np.float32)
    overlap = grid.size // grid.stride
    for row in range(overlap):
        for column in range(overlap):
            cells = moved[:, :, row : row + cells_y, column : column + cells_x]
            candidate = cells.repeat(grid.stride, axis=2).repeat(grid.stride, axis=3)
            candidate = candidate[:, :, :height, :width]
            error = np.abs(sample(later, y + candidate[:, 1], x + candidate[:, 0]) - earlier)
            weight = (np.float32(1) / np.maximum(error, np.float32(1)))[:, None]
            total += candidate * weight
            weights += weight
    return total / weights


def gradients(picture: Floats) -> tuple[Floats, Floats]:
    """Return central differences down and right of pictures [N,h,w], border repeated."""
    padded = np.pad(picture, ((0, 0), (1, 1), (1, 1)), "edge")
    half = np.float32(0.5)
    down: Floats = (padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]) * half
    right: Floats = (padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]) * half
    return down, right
