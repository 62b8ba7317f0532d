"""`FairGate`: a server's slots, shared among cameras by the work that each was given.

Start-time fair queueing (Goyal, Vin, Cheng 1996): a camera's next request starts, in virtual time,
where its last one ended, and the earliest start goes first. Work is counted in frames to encode, so
a camera with many tracks, or with a whole window to fill, waits in proportion; one that was idle
gets no credit for it.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from itertools import count

from fgmclip.client.endpoints.errors import NoSlotError


@dataclass(eq=False, slots=True)
class Ticket:
    """One request that waits.

    Attributes:
        key: Its camera.
        work: Frames that the server has to encode for it; at least 1.
        arrived: Virtual time at which it came.
        number: Counts requests; breaks ties.
        admitted: Whether its turn came.
    """

    key: str
    work: float
    arrived: float
    number: int
    admitted: bool = False


class FairQueue:
    """The order of requests; knows nothing of threads and time.

    Memory is what waits, and a number for each camera that is ahead of the others since the last
    rest.
    """

    def __init__(self) -> None:
        """Start empty."""
        self._virtual = 0.0
        self._ends: dict[str, float] = {}
        self._waiting: list[Ticket] = []
        self._numbers = count()

    def __len__(self) -> int:
        """Return how many requests wait."""
        return len(self._waiting)

    def join(self, key: str, work: float) -> Ticket:
        """Let a request wait.

        Args:
            key: Its camera.
            work: Frames to encode.
        """
        ticket = Ticket(key, max(1.0, work), self._virtual, next(self._numbers))
        self._waiting.append(ticket)
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """Forget a request that waits no longer; its camera is charged nothing."""
        self._waiting.remove(ticket)

    def next(self) -> Ticket | None:
        """Take the request whose turn it is and charge its camera, or return None."""
        if not self._waiting:
            return None
        ticket = min(self._waiting, key=lambda waiting: (self._start(waiting), waiting.number))
        self._waiting.remove(ticket)
        ticket.admitted = True
        self._virtual = self._start(ticket)
        self._ends[ticket.key] = self._virtual + ticket.work
        self._forget()
        return ticket

    def rest(self) -> None:
        """Begin anew where nothing is in flight and nothing waits: nobody is ahead of anybody."""
        self._ends.clear()

    def _start(self, ticket: Ticket) -> float:
        return max(ticket.arrived, self._ends.get(ticket.key, 0.0))

    def _forget(self) -> None:
        """Drop cameras that are not ahead: they start at the virtual time in any case."""
        waiting = {ticket.key for ticket in self._waiting}
        self._ends = {
            key: end for key, end in self._ends.items() if end > self._virtual or key in waiting
        }


class FairGate:
    """At most so many requests in flight; the others wait for their turn, each with a deadline."""

    def __init__(self, slots: int) -> None:
        """Open the gate.

        Args:
            slots: Requests in flight at once; at least 1.
        """
        self._free = slots
        self._slots = slots
        self._lock = threading.Lock()
        self._queue = FairQueue()
        self._turns: dict[Ticket, threading.Condition] = {}

    @property
    def in_flight(self) -> int:
        """Slots that are taken."""
        return self._slots - self._free

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        return len(self._queue)

    def enter(self, key: str, work: float, timeout_seconds: float) -> bool:
        """Wait for a slot and take it.

        Args:
            key: The camera.
            work: Frames that the server has to encode.
            timeout_seconds: How long to wait.

        Returns:
            Whether a slot was taken; False if those who waited were turned away. One that was
            taken is given back with `leave`.

        Raises:
            NoSlotError: There was none in that time.
        """
        deadline = time.monotonic() + timeout_seconds
        with self._lock:
            ticket = self._queue.join(key, work)
            turn = self._turns[ticket] = threading.Condition(self._lock)
            self._admit()
            # A turn that came, or was refused, is no longer in the table.
            while ticket in self._turns:
                if not turn.wait(deadline - time.monotonic()) and ticket in self._turns:
                    del self._turns[ticket]
                    self._queue.leave(ticket)
                    raise NoSlotError(
                        f"all {self._slots} slots were taken for {timeout_seconds:.3g} s; send "
                        "less, or give more servers or more in_flight"
                    )
            return ticket.admitted

    def leave(self) -> None:
        """Give a slot back."""
        with self._lock:
            self._free += 1
            self._admit()
            if self._free == self._slots:
                self._queue.rest()

    def turn_away(self) -> None:
        """Send away all who wait: the server behind the gate takes no requests."""
        with self._lock:
            for ticket, turn in self._turns.items():
                self._queue.leave(ticket)
                turn.notify()
            self._turns.clear()

    def _admit(self) -> None:
        while self._free and (ticket := self._queue.next()) is not None:
            self._free -= 1
            self._turns.pop(ticket).notify()
