"""What is published where: topics and payloads for Frigate's and Home Assistant's users."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from fgmclip import __version__
from fgmclip.client.events.event import Event
from fgmclip.client.gateway.settings import MqttSettings

ON = "ON"
OFF = "OFF"
NONE = "none"
"""The current action of a camera where nothing is going on."""

ONLINE = "online"
OFFLINE = "offline"

ACTION = "action"
"""Last part of the topic of a camera's current action; no label's slug."""

_PLAIN = re.compile(r"[a-z0-9]+(_[a-z0-9]+)*")
_LONGEST = 48


def slug(text: str) -> str:
    """Return a name of a to z, 0 to 9, `_` and `-` that no other text has.

    Example:
        >>> slug("walking")
        'walking'
        >>> slug("Hand shaking")
        'hand_shaking-1949c9b7'
    """
    if _PLAIN.fullmatch(text) and len(text) <= _LONGEST and text != ACTION:
        return text
    plain = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")[:_LONGEST].strip("_")
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{plain or 'class'}-{digest}"


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics of one gateway.

    Attributes:
        prefix: First part of its own.
        discovery_prefix: First part of Home Assistant's; None for none.
        node: Names the gateway in those.
    """

    prefix: str
    discovery_prefix: str | None
    node: str

    @classmethod
    def from_settings(cls, settings: MqttSettings) -> Topics:
        """Take the prefixes from `watch.yaml`."""
        return cls(
            settings.prefix, settings.discovery_prefix, f"fgmclip_{slug(settings.client_id)}"
        )

    @property
    def available(self) -> str:
        """Whether the gateway runs: `online` or `offline`."""
        return f"{self.prefix}/available"

    @property
    def claim(self) -> str:
        """Which gateway has the client id; see `Claim`."""
        return f"{self.prefix}/client"

    @property
    def events(self) -> str:
        """Every message of every event."""
        return f"{self.prefix}/events"

    def action(self, camera: str) -> str:
        """The current action of a camera."""
        return f"{self.prefix}/{camera}/{ACTION}"

    def label(self, camera: str, label: str) -> str:
        """Whether an action is going on."""
        return f"{self.prefix}/{camera}/{slug(label)}"

    @property
    def all_configs(self) -> str | None:
        """The filter that matches the configs that this gateway publishes, and no others."""
        if self.discovery_prefix is None:
            return None
        return f"{self.discovery_prefix}/+/{self.node}/+/config"

    def configs(self, camera: str, labels: Iterable[str]) -> dict[str, str]:
        """Return the payloads of Home Assistant's discovery for a camera, by topic."""
        if self.discovery_prefix is None:
            return {}
        configs = {}
        entities: list[tuple[str, str, dict[str, Any]]] = [
            ("sensor", ACTION, {"name": "Action", "state_topic": self.action(camera)})
        ]
        for label in labels:
            entity = {
                "name": label,
                "state_topic": self.label(camera, label),
                "payload_on": ON,
                "payload_off": OFF,
            }
            entities.append(("binary_sensor", slug(label), entity))
        for component, name, entity in entities:
            # Slugs hold no double underscore, so this names one camera and one label.
            place = f"{slug(camera)}__{name}"
            topic = f"{self.discovery_prefix}/{component}/{self.node}/{place}/config"
            configs[topic] = json.dumps(
                {
                    **entity,
                    "unique_id": f"{self.node}__{place}",
                    "availability_topic": self.available,
                    "device": {
                        "identifiers": [f"{self.node}__{slug(camera)}"],
                        "name": camera,
                        "manufacturer": "fgmclip",
                        "model": "FGM-CLIP camera",
                    },
                    "origin": {"name": "fgmclip", "sw_version": __version__},
                }
            )
        return configs


def event_payload(event: Event) -> str:
    """Return the message of an event: Frigate's names where they mean the same, then ours."""
    after = _fields(event)
    before = after if event.state == "open" else after | {"end_time": None, "state": "open"}
    kind = "new" if event.state == "open" else "end"
    return json.dumps({"type": kind, "before": before, "after": after})


def _fields(event: Event) -> dict[str, Any]:
    return {
        "id": event.id,
        "camera": event.camera,
        "label": event.label,
        "sub_label": None,
        "start_time": event.start,
        "end_time": event.end,
        "top_score": event.peak,
        "false_positive": False,
        "current_zones": [],
        "entered_zones": [],
        "has_clip": False,
        "has_snapshot": event.thumbnail is not None,
        "message_id": event.message_id,
        "state": event.state,
        "track": event.track,
        "peak_time": event.peak_time,
        "clock": event.clock,
        "model_tag": event.model_tag,
        "thumbnail": event.thumbnail,
    }
