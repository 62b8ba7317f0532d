"""What an address must not tell."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fgmclip.client.gateway.errors import SourceError
from fgmclip.client.gateway.secrets import Secrets, check_command_line, redact, secrets_of


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("rtsp://admin:hunter2@10.0.0.7/live", "rtsp://***@10.0.0.7/live"),
        ("rtsp://10.0.0.7:554/live", "rtsp://10.0.0.7:554/live"),
        ("rtsp://admin@cam/live", "rtsp://***@cam/live"),
        ("rtsp://u:p@ss@w/rd@cam/live", "rtsp://***@cam/live"),
        ("http://h/a?token=abc&x=1", "http://h/a?token=***&x=***"),
        ("http://h/a?abc", "http://h/a?***"),
        ("http://h/a?mail=a@b.c", "http://***@b.c"),
        ("rtsp://h/user=admin&password=abc_ch=1.sdp", "rtsp://h/user=***&password=***"),
        ("'mqtts://u:p@h:8883' and rtsp://a:b@c.", "'mqtts://***@h:8883' and rtsp://***@c."),
        ("cannot open rtsp://a:b@c/d: refused", "cannot open rtsp://***@c/d: refused"),
        ("no address: a@b, x=1", "no address: a@b, x=1"),
    ],
)
def test_addresses_are_redacted(text: str, shown: str) -> None:
    assert redact(text) == shown
    assert redact(shown) == shown


@given(st.text(st.characters(exclude_categories=("Z", "C")), min_size=1))
def test_no_password_is_left_standing(password: str) -> None:
    shown = "rtsp://***@camera/live"
    assert redact(f"failed: rtsp://admin:{password}@camera/live: refused") == (
        f"failed: {shown}: refused"
    )


def test_the_secrets_of_an_address_are_found_as_written_and_unescaped() -> None:
    found = secrets_of("rtsp://admin:p%40ss%20word@h/live?token=a%2Bb%2Bc&channel=101")
    assert found == {"p%40ss%20word", "p@ss word", "a%2Bb%2Bc", "a+b+c"}


def test_a_password_of_digits_is_one_and_a_channel_is_none() -> None:
    assert secrets_of("rtsp://admin:123456@h/live?channel=101") == {"123456"}


def test_registered_secrets_go_wherever_they_stand() -> None:
    secrets = Secrets()
    secrets.add_address("rtsp://admin:hunter2@h/live")
    secrets.add("hunter2-longer")
    secrets.add("a")
    assert secrets.redact("login hunter2 or hunter2-longer failed at a place") == (
        "login *** or *** failed at a place"
    )


@pytest.mark.parametrize(
    "source",
    [
        "rtsp://admin:hunter2@h/live",
        "rtsp://:hunter2@h/live",
        "rtsp://h/live?password=hunter2",
        "http://h/live?a=1&access_token=hunter2",
        "rtsp://h/user=admin_password=hunter2_ch=1.sdp",
    ],
)
def test_a_password_on_the_command_line_is_refused(source: str) -> None:
    with pytest.raises(SourceError) as raised:
        check_command_line(source)
    assert raised.value.exit_code == 2
    assert "hunter2" not in str(raised.value)
    assert "watch.yaml" in str(raised.value)
    assert "single quotes" in str(raised.value)


@pytest.mark.parametrize(
    "source",
    [
        "rtsp://admin:${CAMERA}@h/live",
        "rtsp://admin@h/live",
        "rtsp://h:554/live@2x?channel=1&subtype=0",
        "http://h/live?token=${TOKEN}",
        "clips/a:b@c.mp4",
        "webcam:0",
    ],
)
def test_a_source_without_a_password_is_taken(source: str) -> None:
    check_command_line(source)
