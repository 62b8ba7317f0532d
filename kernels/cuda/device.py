"""What a launch needs of a device, so that a GPU and the tests' host layer are interchangeable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Memory(Protocol):
    """Bytes on a device, alive as long as this object is.

    Attributes:
        address: First byte, as kernels see it.
        size: Bytes.
    """

    @property
    def address(self) -> int: ...  # noqa: D102
    @property
    def size(self) -> int: ...  # noqa: D102


Argument = Memory | np.generic
"""What a kernel takes: an address, or a scalar (`np.int32`, `np.float32`, a structured record)."""


class Device(Protocol):
    """A place that runs kernels, in the order of their launches."""

    def empty(self, size: int) -> Memory:
        """Return memory of `size` bytes with no defined content."""

    def upload(self, values: NDArray[Any]) -> Memory:
        """Return memory that holds `values`, C-contiguous; launches that follow see them."""

    def launch(
        self,
        kernel: str,
        grid: tuple[int, int, int],
        block: int,
        shared: int,
        arguments: Sequence[Argument],
    ) -> None:
        """Run a kernel.

        Args:
            kernel: Name in the CUDA source.
            grid: Blocks in x, y, z.
            block: Threads of a block.
            shared: Dynamic shared memory of a block, bytes.
            arguments: In the order of the kernel's parameters.
        """
