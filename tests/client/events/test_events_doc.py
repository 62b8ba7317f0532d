"""docs/events.md names what there is."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path

import pytest

from fgmclip.client.events import courier, outbox, outbox_file
from fgmclip.client.events.event import Event
from fgmclip.client.gateway.settings import ClassRule, EventSettings
from fgmclip.client.sinks import thumbnails
from fgmclip.client.sinks.mqtt_topics import event_payload, slug
from fgmclip.client.sinks.signature import DELIVERY_HEADER, SIGNATURE_HEADER
from fgmclip.client.sinks.webhook import RETRIED

TEXT = (Path(__file__).resolve().parents[3] / "docs" / "events.md").read_text(encoding="utf-8")
EVENT = Event("i", "c", None, "l", 0, None, 1, 0, "open", "wall", "m")


def rows_under(heading: str) -> list[list[str]]:
    section = TEXT.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def names(cells: Iterable[str]) -> list[str]:
    return [part.strip("` ") for cell in cells for part in cell.split(",")]


def test_every_field_of_a_message_is_explained() -> None:
    assert names(row[0] for row in rows_under("Fields")) == [
        "message_id",
        *(field.name for field in fields(Event)),
    ]


def test_every_key_of_a_rule_is_explained_with_its_default() -> None:
    told = {row[0].strip("`"): row[1] for row in rows_under("Rules")}
    rule, settings = ClassRule().model_dump(), EventSettings().model_dump()
    expected = rule | {key: settings[key] for key in ("unknown", "max_gap_seconds")}
    assert {key: json.loads(value) for key, value in told.items()} == expected


def test_every_field_on_mqtt_is_explained() -> None:
    told = names(row[0] for row in rows_under("MQTT") if "/" not in row[0])
    assert sorted(told) == sorted(json.loads(event_payload(EVENT))["after"])


@pytest.mark.parametrize(
    "words",
    [
        slug("Hand shaking"),
        SIGNATURE_HEADER,
        DELIVERY_HEADER,
        ", ".join(map(str, RETRIED)),
        f"up to {courier.BATCH} messages",
        f"after {courier.FIRST_RETRY_SECONDS:g} s and up to {courier.LONGEST_RETRY_SECONDS:g} s",
        f"at most {outbox.BEYOND_BYTES // 2**20} MiB more",
        f"the latest {outbox_file.DEAD_ROWS}, {outbox_file.DEAD_BYTES // 2**20} MiB at most",
        f"more than {thumbnails.MAX_FILES:,}",
    ],
)
def test_what_it_states_is_what_is_built(words: str) -> None:
    assert words in TEXT
