"""`SampleQueue`: what waits between a camera's decoder and the gateway, never more than a bound."""

from __future__ import annotations

import threading
import time
from collections import deque

from fgmclip.client.gateway.messages import Damaged, Ended, Lost, Opened
from fgmclip.client.gateway.settings import Policy
from fgmclip.client.streams.samples import StreamSample

Notice = Opened | Lost | Damaged | Ended

PATIENT_WINDOWS = 4
"""`drop-oldest` keeps so many windows waiting."""

MAX_BYTES = 256 * 2**20
"""Beyond this `drop-oldest` drops although samples would fit: raw frames are large."""

_MOST_NOTICES = 16


class SampleQueue:
    """Samples and notices in the order in which they came; for one maker and one taker.

    | policy | keeps | hands over | drops |
    |---|---|---|---|
    | `latest` | T+1 samples | all that wait | the oldest: decisions are skipped to be up to date |
    | `drop-oldest` | 4 (T+1) samples | one, so no decision is skipped | the oldest when full |
    | `block` | T+1 samples | one | nothing: the maker waits |

    The newest T samples of a run fill a window by themselves, so where older ones were dropped the
    window starts anew without waiting for more.
    """

    def __init__(self, policy: Policy, window: int) -> None:
        """Make an empty queue.

        Args:
            policy: See the table.
            window: T, samples of a window.
        """
        self._policy = policy
        self._fewest = window + 1
        self._most = self._fewest * (PATIENT_WINDOWS if policy == "drop-oldest" else 1)
        self._changed = threading.Condition()
        self._items: deque[tuple[StreamSample, float] | Notice] = deque()
        self._samples = 0
        self._bytes = 0
        self._dropped = 0
        self._closed = False
        self._woken = False

    @property
    def dropped(self) -> int:
        """How many samples were thrown away so far."""
        return self._dropped

    def put(self, sample: StreamSample, captured: float) -> bool:
        """Append a sample; with `block` wait for room.

        Args:
            sample: The sample.
            captured: Unix seconds at which it came out of the source.

        Returns:
            False if the queue was closed: nobody will take it.
        """
        with self._changed:
            if self._policy == "block":
                self._changed.wait_for(lambda: self._closed or self._samples < self._most)
            if self._closed:
                return False
            self._items.append((sample, captured))
            self._samples += 1
            self._bytes += _size(sample)
            while self._samples > self._most or (
                self._policy == "drop-oldest"
                and self._bytes > MAX_BYTES
                and self._samples > self._fewest
            ):
                self._drop()
            self._changed.notify_all()
            return True

    def tell(self, notice: Notice) -> None:
        """Append a notice; of very many only the newest are kept."""
        with self._changed:
            self._items.append(notice)
            if len(self._items) - self._samples > _MOST_NOTICES:
                self._items.remove(next(i for i in self._items if not isinstance(i, tuple)))
            self._changed.notify_all()

    def take(self, wait_seconds: float) -> Notice | tuple[tuple[StreamSample, ...], float] | None:
        """Return what is next.

        Args:
            wait_seconds: How long to wait for it.

        Returns:
            A notice; or samples with the Unix seconds at which the last of them came out of the
            source; or None if nothing came.
        """
        deadline = time.monotonic() + wait_seconds
        with self._changed:
            while not self._items:
                remaining = deadline - time.monotonic()
                if remaining <= 0 or self._woken:
                    self._woken = False
                    return None
                self._changed.wait(remaining)
            first = self._items.popleft()
            if not isinstance(first, tuple):
                return first
            taken = [first]
            while self._policy == "latest" and self._items:
                following = self._items[0]
                if not isinstance(following, tuple):
                    break
                taken.append(following)
                self._items.popleft()
            self._samples -= len(taken)
            self._bytes -= sum(_size(sample) for sample, _ in taken)
            self._changed.notify_all()
            return tuple(sample for sample, _ in taken), taken[-1][1]

    def wake(self) -> None:
        """Let the taker go with nothing, now or when it next finds nothing."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def close(self) -> None:
        """Refuse samples from now on and let a waiting maker go; what waits can be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _drop(self) -> None:
        place = next(i for i, item in enumerate(self._items) if isinstance(item, tuple))
        oldest = self._items[place]
        del self._items[place]
        if isinstance(oldest, tuple):
            self._bytes -= _size(oldest[0])
        self._samples -= 1
        self._dropped += 1


def _size(sample: StreamSample) -> int:
    return sum(tensor.nbytes for tensor in sample.tensors.values())
