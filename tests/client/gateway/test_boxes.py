"""Boxes of a detector, read along with a recording."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fgmclip.client.gateway import boxes as boxes_module
from fgmclip.client.gateway.boxes import BoxesFile
from fgmclip.client.gateway.errors import BoxesError

BOX = [0, 0, 10, 20.5]


def write(path: Path, *entries: object) -> Path:
    path.write_text("\n".join(json.dumps(entry) for entry in entries) + "\n", encoding="utf-8")
    return path


def test_the_nearest_entry_within_half_a_step_counts(tmp_path: Path) -> None:
    path = write(
        tmp_path / "b.jsonl",
        *({"time": time, "boxes": {f"at {time}": BOX}} for time in (0.0, 0.1, 0.2, 1.0, 1.06)),
    )
    with BoxesFile(path, 0.125) as boxes:
        found = [list(boxes.at(i * 0.125)) for i in range(12)]
    assert found == [
        ["at 0.0"],
        ["at 0.1"],
        ["at 0.2"],
        *([[]] * 5),
        ["at 1.0"],
        [],
        [],
        [],
    ]


def test_an_empty_file_has_no_tracks(tmp_path: Path) -> None:
    path = tmp_path / "b.jsonl"
    path.write_text("\n\n", encoding="utf-8")
    with BoxesFile(path, 0.125) as boxes:
        assert boxes.at(0.0) == {}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 2"),
        ("[]", "expected {"),
        ('{"time": "1", "boxes": {}}', "time: expected seconds"),
        ('{"time": NaN, "boxes": {}}', "time: expected seconds"),
        ('{"time": 1, "boxes": {"a": [1, 2, 3]}}', "box of a: expected 4 numbers"),
        ('{"time": 1, "boxes": {"": [1, 2, 3, 4]}}', "track names"),
        ('{"time": -1, "boxes": {}}', "times in order"),
        ('{"time": 1, "boxes": {}}' + " " * 300, "characters a line"),
        ("[" * 200, "line 2"),
    ],
)
def test_a_wrong_line_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, said: str
) -> None:
    monkeypatch.setattr(boxes_module, "LONGEST_LINE", 250)
    path = tmp_path / "b.jsonl"
    path.write_text('{"time": 0, "boxes": {}}\n' + line + "\n", encoding="utf-8")
    with pytest.raises(BoxesError) as raised, BoxesFile(path, 0.125) as boxes:
        boxes.at(5.0)
    assert said in str(raised.value)
    assert f"{path}, line 2" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BoxesError, match="No such file"):
        BoxesFile(tmp_path / "none", 0.125)
