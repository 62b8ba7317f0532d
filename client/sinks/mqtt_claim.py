"""`Claim`: which gateway has a client id, told on the broker so that a second one is noticed.

A broker ends a client's connection when another comes with its id. Two gateways with one id would
take it from each other for ever, and each would remove what the other told Home Assistant.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import time
from dataclasses import dataclass
from datetime import datetime, timezone

SETTLE_SECONDS = 10.0
"""A connection that holds for so long was taken by nobody: whoever is there reconnects sooner."""

FIRST_YIELD_SECONDS, LONGEST_YIELD_SECONDS = 60, 960
"""How long a gateway leaves the id to another; the time doubles while that one is still there."""

SHORT_SESSIONS = 3
"""So many connections in a row that did not settle are a sign of another client with the id."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A gateway that has, or had, a client id.

    Attributes:
        instance: Names this run of it.
        host: Where it runs.
        pid: Its process there.
        since: Unix seconds of its start.
    """

    instance: str
    host: str
    pid: int
    since: float

    @classmethod
    def own(cls) -> Claim:
        """Return a new one of this process."""
        return cls(secrets.token_hex(8), socket.gethostname(), os.getpid(), time.time())

    @classmethod
    def read(cls, payload: bytes) -> Claim | None:
        """Return what a broker has kept; None if it is no claim."""
        try:
            fields = json.loads(payload)
            claim = cls(
                str(fields["instance"]),
                str(fields["host"])[:64],
                int(fields["pid"]),
                float(fields["since"]),
            )
        except (ValueError, KeyError, TypeError, RecursionError):
            return None
        return claim if 0 <= claim.since < 1e11 else None

    def to_json(self) -> str:
        """Return the payload that `read` reads."""
        fields = {"instance": self.instance, "host": self.host, "pid": self.pid}
        return json.dumps(fields | {"since": self.since})

    def gives_way_to(self, other: Claim) -> bool:
        """Return whether this one, the younger, leaves the id to the other."""
        return (self.since, self.instance) > (other.since, other.instance)

    def __str__(self) -> str:
        """Return it for people."""
        since = datetime.fromtimestamp(self.since, timezone.utc).isoformat(timespec="seconds")
        return f"the gateway on {self.host!r} (process {self.pid}, since {since})"


def shared_id(client_id: str, other: Claim) -> str:
    """Return the message that another gateway has the client id."""
    return (
        f"client id {client_id!r} is used by {other} as well; give each gateway its own "
        "sinks.mqtt.client_id and prefix"
    )
