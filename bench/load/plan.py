"""What a load generator is told, and what it tells: plain JSON over a pipe."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Traffic:
    """One kind of request, sent over and over.

    Attributes:
        name: For people, and the name of its file; without spaces.
        model: The public ensemble.
        arrays: Its inputs, those of numbers.
        strings: Its inputs of one string.
        outputs: What is asked for.
    """

    name: str
    model: str
    arrays: Arrays
    strings: Mapping[str, str]
    outputs: tuple[str, ...]

    @property
    def request_bytes(self) -> int:
        """Bytes of the arrays of one request."""
        return sum(array.nbytes for array in self.arrays.values())


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """One run of a load generator.

    Attributes:
        traffic: Name of what is sent.
        urls: Servers, which take turns request by request.
        warm_up: Seconds under the same load that do not count.
        seconds: Seconds that count.
        concurrency: A closed loop: so many requests are always in flight. None for an open one.
        arrivals: An open loop: when requests are sent, seconds from the start, in order. None for
            a closed one. What lies behind the seconds that count keeps the load up until their
            last answer has come.
    """

    traffic: str
    urls: tuple[str, ...]
    warm_up: float
    seconds: float
    concurrency: int | None = None
    arrivals: tuple[float, ...] | None = None

    def to_json(self) -> str:
        """Return it as one line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str) -> LoadPlan:
        """Read what `to_json` returned."""
        fields: dict[str, Any] = json.loads(line)
        fields["urls"] = tuple(fields["urls"])
        if fields["arrivals"] is not None:
            fields["arrivals"] = tuple(fields["arrivals"])
        return cls(**fields)


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What came of a run.

    Attributes:
        latencies: Seconds of each counted request: in an open loop from the moment at which it was
            meant to be sent, in a closed one from when it was. None for one that was refused or
            failed.
        late: How long after it was meant to be sent a request was, seconds, 95th percentile; 0 in
            a closed loop. More than a few milliseconds: the generator had not enough of a core.
        cores: Cores that the generator took.
        failure: Message of the first request that failed; empty if none did.
    """

    latencies: tuple[float | None, ...]
    late: float
    cores: float
    failure: str = ""

    @property
    def refused(self) -> int:
        """How many requests were refused or failed."""
        return sum(latency is None for latency in self.latencies)

    def percentile(self, percent: float) -> float:
        """Return a percentile of latency in seconds; what was refused never comes: infinity."""
        waits = np.array([np.inf if one is None else one for one in self.latencies])
        # Between two samples, as numpy has it, infinity would spread.
        return float(np.percentile(waits, percent, method="higher")) if waits.size else np.inf

    @property
    def mean(self) -> float:
        """Mean latency of answered requests, seconds."""
        answered = [one for one in self.latencies if one is not None]
        return float(np.mean(answered)) if answered else np.inf

    def to_json(self) -> str:
        """Return it as one line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str) -> LoadResult:
        """Read what `to_json` returned."""
        fields: dict[str, Any] = json.loads(line)
        fields["latencies"] = tuple(fields["latencies"])
        return cls(**fields)
