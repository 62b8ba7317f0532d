"""Topics and payloads: safe, free of collisions, and of the form that others expect."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import SecretStr

from fgmclip.client.errors import SettingsError
from fgmclip.client.events.event import Event
from fgmclip.client.gateway.settings import MqttSettings
from fgmclip.client.sinks.mqtt import MqttSink
from fgmclip.client.sinks.mqtt_topics import Topics, event_payload, slug

MakeEvent = Callable[..., Event]
TOPICS = Topics.from_settings(MqttSettings(url=SecretStr("mqtt://broker")))


@given(st.text(), st.text())
@example("Hug", "hug")
@example("hand shaking", "hand_shaking")
@example("hug/#", "hug+")
@example("a__b", "a_b")
@example("action", "Action")
@example("", " ")
@example("x" * 100, "x" * 101)
def test_slugs_are_safe_and_differ(one: str, two: str) -> None:
    assert re.fullmatch(r"[a-z0-9_]+(-[0-9a-f]{8})?", slug(one))
    assert "__" not in slug(one)
    assert slug(one) != "action"
    assert len(slug(one)) < 60
    assert (slug(one) == slug(two)) == (one == two)


def test_a_plain_name_stays_as_it_is() -> None:
    assert slug("walking") == "walking"
    assert slug("hand_shaking") == "hand_shaking"
    assert slug("Hand shaking").startswith("hand_shaking-")
    assert slug("走る").startswith("class-")


def test_an_event_has_frigates_form(make_event: MakeEvent) -> None:
    event = make_event(3, track="7", thumbnail="x.jpg")
    new = json.loads(event_payload(event))
    assert new["type"] == "new"
    assert new["before"] == new["after"]
    assert new["after"] == {
        "id": event.id,
        "camera": "door",
        "label": "hug",
        "sub_label": None,
        "start_time": 3.0,
        "end_time": None,
        "top_score": 0.9,
        "false_positive": False,
        "current_zones": [],
        "entered_zones": [],
        "has_clip": False,
        "has_snapshot": True,
        "message_id": f"{event.id}:open",
        "state": "open",
        "track": "7",
        "peak_time": 3.5,
        "clock": "wall",
        "model_tag": "m",
        "thumbnail": "x.jpg",
    }


@pytest.mark.parametrize("state", ["ended", "interrupted"])
def test_what_closes_is_an_end(make_event: MakeEvent, state: str) -> None:
    end = json.loads(event_payload(make_event(state=state, end=4.0)))
    assert end["type"] == "end"
    assert (end["before"]["end_time"], end["before"]["state"]) == (None, "open")
    assert (end["after"]["end_time"], end["after"]["state"]) == (4.0, state)


def test_discovery_names_a_sensor_a_camera_and_a_binary_sensor_a_class() -> None:
    configs = {
        topic: json.loads(payload)
        for topic, payload in TOPICS.configs("Front.Door", ["hug", "Hand shaking"]).items()
    }
    assert len(configs) == 3
    for topic, config in configs.items():
        # Home Assistant's rule for node and object ids.
        assert re.fullmatch(
            r"homeassistant/(binary_)?sensor/[a-zA-Z0-9_-]+/[a-zA-Z0-9_-]+/config", topic
        )
        assert config["availability_topic"] == "fgmclip/available"
        assert config["device"]["name"] == "Front.Door"
        assert config["origin"]["name"] == "fgmclip"
    assert len({config["unique_id"] for config in configs.values()}) == 3
    assert len({str(config["device"]["identifiers"]) for config in configs.values()}) == 1
    assert {config["name"]: config["state_topic"] for config in configs.values()} == {
        "Action": "fgmclip/Front.Door/action",
        "hug": "fgmclip/Front.Door/hug",
        "Hand shaking": f"fgmclip/Front.Door/{slug('Hand shaking')}",
    }
    none = MqttSettings(url=SecretStr("mqtt://broker"), discovery_prefix=None)
    assert Topics.from_settings(none).configs("door", ["hug"]) == {}


def test_no_two_entities_share_a_config() -> None:
    places = [(camera, label) for camera in ("a", "a_b", "A", "a-b") for label in ("b", "b_c", "c")]
    configs = [topic for camera, label in places for topic in TOPICS.configs(camera, [label])]
    binary = [topic for topic in configs if "/binary_sensor/" in topic]
    assert len(set(binary)) == len(places)


@pytest.mark.parametrize(
    "url",
    [
        "http://u:s3cret@broker",
        "mqtt://",
        "mqtt://u:s3cret@",
        "mqtt://u:s3cret@broker:port",
        "mqtt://u:s3cret@broker:99999",
        "mqtt://u:s3cret@[::1",
        "mqtt://broker/s3cret",
        f"mqtt://u:s3cret@{'x' * 70}",
    ],
)
def test_an_address_without_meaning_is_refused_without_being_said(url: str) -> None:
    with pytest.raises(SettingsError, match=r"sinks\.mqtt\.url: expected") as refused:
        MqttSink(MqttSettings(url=SecretStr(url)))
    assert "s3cret" not in str(refused.value)
