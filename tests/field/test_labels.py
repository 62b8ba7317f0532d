"""Labels as people write them: two spellings, twins, and characters that end lines."""

from __future__ import annotations

from pathlib import Path

import pytest
from tritonclient.grpc import model_config_pb2

from fgmclip.client.gateway.settings import EventSettings
from fgmclip.export.lint.step import check_labels
from fgmclip.model.checkpoint import load_checkpoint
from fgmclip.spec import SpecError, preset
from fgmclip.training.commands import spec_for
from fgmclip.training.dataset import check_labels as check_known
from fgmclip.training.dataset import read_dataset

ROOT = Path(__file__).resolve().parents[2]


def table(folder: Path, *labels: str) -> Path:
    """Write a data set with one video of each label."""
    lines = ["path,label"]
    for number, label in enumerate(labels):
        (folder / f"{number}.mp4").write_bytes(b"")
        lines.append(f'{number}.mp4,"{label}"')
    path = folder / "set.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_two_spellings_in_a_data_set_are_one_class(tmp_path: Path) -> None:
    dataset = read_dataset(table(tmp_path, "h\u00fcpfen", "hu\u0308pfen ", "gehen"))
    assert dataset.labels == ("gehen", "h\u00fcpfen")
    assert spec_for(dataset, preset_name="demo", motion=None).labels == dataset.labels


def test_folders_of_another_system_are_the_same_classes(tmp_path: Path) -> None:
    for name in ("h\u00fcpfen", "hu\u0308pfen", "gehen"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.mp4").write_bytes(b"")
    assert read_dataset(tmp_path).labels == ("gehen", "h\u00fcpfen")


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("sit\u2028down", "U+2028 (LINE SEPARATOR)"),
        ("sit\x0bdown", "U+000B (a control character)"),
        ("sit\x85down", "U+0085 (a control character)"),
    ],
    ids=ascii,
)
def test_a_label_that_ends_a_line_is_refused_by_its_code_point(
    tmp_path: Path, label: str, words: str
) -> None:
    dataset = read_dataset(table(tmp_path, label, "gehen"))
    with pytest.raises(SpecError) as caught:
        spec_for(dataset, preset_name="demo", motion=None)
    assert words in str(caught.value)


def test_near_twins_of_a_data_set_are_named(tmp_path: Path) -> None:
    dataset = read_dataset(table(tmp_path, "Sit down", "sit  down", "gehen"))
    with pytest.raises(SpecError, match="'Sit down' and 'sit  down'"):
        spec_for(dataset, preset_name="demo", motion=None)


def test_a_spec_file_may_have_a_mark_and_may_not_have_twins(tmp_path: Path) -> None:
    dataset = read_dataset(table(tmp_path, *preset("demo").labels))
    file = tmp_path / "spec.json"
    text = preset("demo").to_json()
    file.write_text("\ufeff" + text, encoding="utf-8")
    assert spec_for(dataset, spec_file=file) == preset("demo")
    file.write_text(text.replace('"kick"', '"Walk_left"'), encoding="utf-8")
    with pytest.raises(SpecError, match="'Walk_left'"):
        spec_for(dataset, spec_file=file)


def test_what_was_published_with_such_labels_is_still_sound(tmp_path: Path) -> None:
    labels = ("sit\u2028down", "Sit\x0bdown", "hu\u0308pfen")
    config = model_config_pb2.ModelConfig()
    config.output.add().label_filename = "labels.txt"
    text = "".join(f"{label}\n" for label in labels)
    (tmp_path / "labels.txt").write_bytes(text.encode())
    # What the manifest reads as: the spelling is the only thing that changes.
    known = ("sit\u2028down", "Sit\x0bdown", "h\u00fcpfen")
    assert list(check_labels(tmp_path, config, known)) == []
    (tmp_path / "labels.txt").write_bytes(text.encode("utf-8").replace(b"\xcc\x88", b"\xfc"))
    (finding,) = check_labels(tmp_path, config, known)
    assert "line 3" in finding.expected


def test_the_shipped_demo_is_read() -> None:
    model = load_checkpoint(ROOT / "assets" / "demo.safetensors")
    assert model.spec.labels == preset("demo").labels


def test_a_data_set_of_the_other_spelling_fits_a_checkpoint(tmp_path: Path) -> None:
    spec = preset("demo").replace(
        classes=tuple(
            {"name": label, "descriptions": ("somebody",)} for label in ("hu\u0308pfen", "gehen")
        )
    )
    check_known(read_dataset(table(tmp_path, "h\u00fcpfen", "gehen")), spec)


def test_a_rule_for_a_class_is_found_in_the_other_spelling() -> None:
    assert list(EventSettings.of(classes={" hu\u0308pfen": None}).classes) == ["h\u00fcpfen"]
