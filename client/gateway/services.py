"""`Services`: what the cameras of a gateway share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fgmclip.client.endpoints.pool import EndpointPool
from fgmclip.client.events.event import Event
from fgmclip.client.events.outbox import Outbox
from fgmclip.client.gateway.settings import EventSettings, ServerSettings
from fgmclip.client.sinks.thumbnails import Thumbnails
from fgmclip.spec import PublicManifest


@dataclass(frozen=True, slots=True)
class Services:
    """What the cameras of a gateway share; all of it is safe for many threads.

    Attributes:
        pool: The servers.
        servers: Their deadlines.
        events: Which decisions become events.
        outbox: Where events are accepted.
        thumbnails: Makes pictures of events; None where they are off.
        met: Called with the manifest whenever a camera begins with it.
        report: Called with every accepted event.
    """

    pool: EndpointPool
    servers: ServerSettings
    events: EventSettings
    outbox: Outbox
    thumbnails: Thumbnails | None
    met: Callable[[PublicManifest], None]
    report: Callable[[Event], None]
