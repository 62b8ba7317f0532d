"""`OutboxStatus`: how an outbox stands, for pages and metrics."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class OutboxStatus:
    """How an outbox stands.

    Attributes:
        accepted: Events that this run has accepted.
        refused: Events that it has refused.
        open: Accepted events that have not ended.
        waiting: Messages that wait, by sink.
        oldest_seconds: Age of the oldest message that waits for any sink; 0 if none does.
        dead: Messages that are kept because a sink refused them for good.
        bytes: What file and write-ahead log take on the disk.
        limit_bytes: The limit.
        damaged: The latest damaged file that was moved aside; None if none was.
    """

    accepted: int
    refused: int
    open: int
    waiting: dict[str, int]
    oldest_seconds: float
    dead: int
    bytes: int
    limit_bytes: int
    damaged: str | None
