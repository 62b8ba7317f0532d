"""Labels: one spelling, nothing that breaks a line, no twins; what is stored can be read."""

from __future__ import annotations

import json

import pytest

from fgmclip.spec import ModelSpec, SpecError, preset
from fgmclip.spec.labels import clean_label, near_twins, refused_character


def spec_with(*labels: str) -> str:
    classes = [{"name": label, "descriptions": ["somebody moves"]} for label in labels]
    return json.dumps(json.loads(preset("demo").to_json()) | {"classes": classes})


def test_two_ways_to_write_a_letter_are_one_label() -> None:
    assert clean_label("hu\u0308pfen") == "h\u00fcpfen"
    assert ModelSpec.from_json(spec_with(" hu\u0308pfen\t", "gehen")).labels == (
        "h\u00fcpfen",
        "gehen",
    )


def test_white_space_inside_a_label_stays() -> None:
    assert clean_label(" sit  down ") == "sit  down"


@pytest.mark.parametrize(
    ("character", "name"),
    [
        ("\u2028", "U+2028 (LINE SEPARATOR)"),
        ("\u2029", "U+2029 (PARAGRAPH SEPARATOR)"),
        ("\x85", "U+0085 (a control character)"),
        ("\x0b", "U+000B (a control character)"),
        ("\x1b", "U+001B (a control character)"),
        ("\x00", "U+0000 (a control character)"),
        ("\n", "U+000A (a control character)"),
        ("\udcfc", "U+DCFC (half a surrogate pair)"),
    ],
    ids=ascii,
)
def test_a_character_that_breaks_lists_is_named(character: str, name: str) -> None:
    assert refused_character(f"a{character}b") == name
    if character != "\udcfc":  # which JSON cannot carry
        with pytest.raises(SpecError) as caught:
            ModelSpec.from_json(spec_with(f"a{character}b", "c"))
        assert name in str(caught.value)
        assert "at least 2 items" not in str(caught.value)


@pytest.mark.parametrize("label", ["跳", "a/b", "नमस्ते", "👩\u200d🚒", "raise: arms", '"'])
def test_other_scripts_and_signs_are_labels(label: str) -> None:
    assert refused_character(label) is None
    assert ModelSpec.from_json(spec_with(label, "other")).labels[0] == label


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Sit", "sit"),
        ("sit down", "sit  down"),
        ("sit down", "sit\u00a0down"),
        ("STRASSE", "straße"),
        ("sit", "si\u200bt"),
    ],
    ids=ascii,
)
def test_near_twins_are_refused_by_name(first: str, second: str) -> None:
    assert near_twins(["other", first, second]) == (first, second)
    with pytest.raises(SpecError) as caught:
        ModelSpec.from_json(spec_with(first, "other", second))
    assert repr(first) in str(caught.value)
    assert repr(second) in str(caught.value)


def test_labels_that_differ_are_no_twins() -> None:
    assert near_twins(["sit", "set", "sit down", "sitdown"]) is None


@pytest.mark.parametrize("label", ["Sit", "sit\u2028down", "sit\x0bdown"], ids=ascii)
def test_what_an_earlier_version_stored_is_read(label: str) -> None:
    assert ModelSpec.from_json(spec_with("sit", label), stored=True).labels == ("sit", label)


def test_a_label_of_nothing_is_refused() -> None:
    with pytest.raises(SpecError, match="can be seen"):
        ModelSpec.from_json(spec_with(" ", "a"))
