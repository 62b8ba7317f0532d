"""Buffers that are given out again instead of being allocated for each request."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

SMALLEST = 256
"""Least size that is allocated, bytes: CUDA aligns allocations to as much."""


class Pooled(Generic[T]):
    """A buffer on loan: it goes back to its pool when this object is dropped, in any thread.

    Attributes:
        value: The buffer.
        address: Its first byte.
        size: Bytes that were asked for.
    """

    __slots__ = ("_returned", "_room", "address", "size", "value")

    def __init__(
        self, value: T, room: int, address: int, size: int, returned: deque[tuple[int, T]]
    ) -> None:
        """Lend a buffer with room for `room` bytes."""
        self.value = value
        self.address = address
        self.size = size
        self._room = room
        self._returned = returned

    def __del__(self) -> None:
        """Give it back; nothing but an append, as this may run anywhere, even inside the pool."""
        self._returned.append((self._room, self.value))


class Pool(Generic[T]):
    """Best fit among the buffers that lie idle; for one thread, whereas loans end in any."""

    def __init__(self, allocate: Callable[[int], T], address: Callable[[T], int]) -> None:
        """Take what makes a buffer of a size, and what tells a buffer's first byte."""
        self._allocate = allocate
        self._address = address
        self._returned: deque[tuple[int, T]] = deque()
        self._idle: list[tuple[int, int, T]] = []  # room, a number that is unlike others, buffer
        self._count = 0

    def take(self, size: int) -> Pooled[T]:
        """Return a buffer of at least `size` bytes."""
        self._collect()
        room = size_class(size)
        index = bisect_left(self._idle, (room,))
        # One that is far too large would be missed by the request that it was made for.
        if index < len(self._idle) and self._idle[index][0] <= 2 * room:
            room, _, value = self._idle.pop(index)
        else:
            value = self._allocate(room)
        return Pooled(value, room, self._address(value), size, self._returned)

    def clear(self) -> None:
        """Drop every idle buffer."""
        self._collect()
        self._idle.clear()

    def _collect(self) -> None:
        while self._returned:
            room, value = self._returned.popleft()
            self._count += 1
            insort(self._idle, (room, self._count, value))


def size_class(size: int) -> int:
    """Return `size` rounded up to one of eight steps an octave: near sizes share buffers."""
    step = max(SMALLEST, 1 << max(0, max(size, 1).bit_length() - 4))
    return max(SMALLEST, -(-size // step) * step)
