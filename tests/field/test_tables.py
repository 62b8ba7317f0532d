"""Text from Windows and Excel, and folders as people keep them, through every reader of ours."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from fgmclip.client.gateway.boxes import BoxesFile
from fgmclip.client.gateway.config import ConfigError, read_config
from fgmclip.client.gateway.errors import BoxesError
from fgmclip.export.calibration import read_clips
from fgmclip.export.errors import ExportError
from fgmclip.model.checkpoint import load_checkpoint
from fgmclip.spec import ModelSpec, SpecError
from fgmclip.storage.errors import TextError
from fgmclip.training.cache import CacheRecipe, cache_videos
from fgmclip.training.commands import spec_for
from fgmclip.training.dataset import Dataset, read_dataset
from fgmclip.training.errors import DatasetError
from fgmclip.training.ut_interaction import read_ut_interaction
from fgmclip.video.samples import generate_samples

MARK = "\ufeff"


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Empty files in folders of classes: nothing decodes them here."""
    for name in ("jump/a.mp4", "jump/b 1.mp4", "kick/c.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize(
    "text",
    [
        MARK + "path,label\njump/a.mp4,jump\nkick/c.mp4,kick\n",
        MARK + "Path;Label;\r\njump/a.mp4;jump;\r\nkick/c.mp4;kick;\r\n;;\r\n",
        'path\tlabel\n"jump/a.mp4"\tjump\nkick/c.mp4\tkick\n',
        "sep=;\r\npath;label\r\njump/a.mp4;jump\r\nkick/c.mp4;kick\r\n",
        "path;label\r\njump\\a.mp4;jump\r\nkick\\c.mp4;kick\r\n",
    ],
    ids=ascii,
)
def test_a_table_of_excel_is_a_data_set(clips: Path, text: str) -> None:
    (clips / "x.csv").write_bytes(text.encode())
    videos = read_dataset(clips / "x.csv").videos
    assert [(video.label, video.path.name) for video in videos] == [
        ("jump", "a.mp4"),
        ("kick", "c.mp4"),
    ]


def test_all_faults_of_a_table_come_at_once_and_ten_are_named(clips: Path) -> None:
    lines = "".join(f"gone{number}.mp4;jump\n" for number in range(12))
    (clips / "x.csv").write_text(f"path;label\njump/a.mp4;\n{lines}", encoding="utf-8")
    with pytest.raises(DatasetError) as refused:
        read_dataset(clips / "x.csv")
    said = str(refused.value)
    assert "line 2 has no path or no label" in said
    assert "line 11 names" in said
    assert "line 12" not in said
    assert said.endswith("; and 3 more")
    assert refused.value.exit_code == 2


def test_excels_unicode_text_is_named_by_every_reader(clips: Path, small_spec: ModelSpec) -> None:
    path = clips / "x.csv"
    path.write_bytes("path\tlabel\r\njump/a.mp4\tjump\r\n".encode("utf-16"))
    (clips / "index.csv").write_bytes(path.read_bytes())
    said = "expected UTF-8 text, got UTF-16; save it as UTF-8"
    with pytest.raises(DatasetError, match=said):
        read_dataset(path)
    with pytest.raises(ExportError, match=said):
        read_clips(small_spec, path, count=2, report=print)
    with pytest.raises(DatasetError, match=said):
        read_ut_interaction(clips)
    with pytest.raises(BoxesError, match=said):
        BoxesFile(path, 0.1)
    with pytest.raises(ConfigError, match=said):
        read_config(path)
    with pytest.raises(TextError, match=said):
        spec_for(Dataset(()), spec_file=path)


def test_an_index_of_excel_lists_the_real_clips(clips: Path) -> None:
    (clips / "index.csv").write_text(
        MARK + "file;dataset;label;group\njump/a.mp4;ut_interaction;hug;1\nx;other;;\n",
        encoding="utf-8",
    )
    (video,) = read_ut_interaction(clips).videos
    assert (video.path, video.label, video.group) == (clips / "jump/a.mp4", "hug", "1")


def test_a_marked_spec_is_read_and_a_wrong_one_names_its_file(
    tmp_path: Path, small_spec: ModelSpec
) -> None:
    path = tmp_path / "spec.json"
    path.write_text(MARK + small_spec.to_json().replace("\n", "\r\n"), newline="", encoding="utf-8")
    assert spec_for(Dataset(()), spec_file=path) == small_spec
    path.write_text(
        MARK + small_spec.to_json().replace('"name": "tiny"', '"nam": "tiny"'), encoding="utf-8"
    )
    with pytest.raises(SpecError, match=r"spec\.json: ModelSpec is not valid: name"):
        spec_for(Dataset(()), spec_file=path)


def test_a_marked_spec_beside_a_checkpoint_is_read(tmp_path: Path, small_spec: ModelSpec) -> None:
    import torch

    from fgmclip.model.build import build_model

    model = build_model(small_spec, seed=0)
    torch.save(model.state_dict(), tmp_path / "m.pt")
    (tmp_path / "m.json").write_text(MARK + small_spec.to_json(), encoding="utf-8")
    assert load_checkpoint(tmp_path / "m.pt").spec == small_spec


def test_marked_boxes_are_read(tmp_path: Path) -> None:
    path = tmp_path / "b.jsonl"
    entry = json.dumps({"time": 0.0, "boxes": {"7": [0, 0, 5, 5]}})
    path.write_bytes(f"{MARK}{entry}\r\n".encode())
    with BoxesFile(path, 0.1) as boxes:
        assert list(boxes.at(0.0)) == ["7"]


def test_a_marked_configuration_is_read(tmp_path: Path) -> None:
    path = tmp_path / "watch.yaml"
    path.write_bytes(f"{MARK}version: 1\r\nweb: {{port: 8080}}\r\n".encode())
    assert set(read_config(path)) == {"version", "web"}


def test_what_systems_leave_in_folders_is_no_video(clips: Path) -> None:
    for name in ("Thumbs.db", "desktop.ini", ".DS_Store", "._a.mp4", "ehthumbs.db"):
        (clips / "jump" / name).write_bytes(b"x")
    for name in ("@eaDir", "__MACOSX", "$RECYCLE.BIN", "System Volume Information", ".git"):
        (clips / name).mkdir()
        (clips / name / "a.mp4").touch()
    (clips / "index.csv").touch()
    assert [video.path.name for video in read_dataset(clips).videos] == [
        "a.mp4",
        "b 1.mp4",
        "c.mp4",
    ]


def test_what_is_no_video_is_refused_all_at_once(clips: Path) -> None:
    for number in range(11):
        (clips / "kick" / f"{number:02d}.txt").touch()
    with pytest.raises(DatasetError) as refused:
        read_dataset(clips)
    said = str(refused.value)
    assert "got 11 other files: kick/00.txt; kick/01.txt" in said
    assert "kick/09.txt; and 1 more; take them away, or list the videos in a CSV" in said


def test_videos_at_another_depth_are_not_left_out_silently(clips: Path) -> None:
    (clips / "loose.mp4").touch()
    (clips / "jump" / "deeper").mkdir()
    (clips / "jump" / "deeper" / "d.mp4").touch()
    with pytest.raises(DatasetError, match=r"got 2 videos elsewhere: jump/deeper/d\.mp4; loose\.m"):
        read_dataset(clips)


def test_every_damaged_video_is_named_and_the_good_ones_are_kept(
    tmp_path: Path, small_spec: ModelSpec
) -> None:
    clips = generate_samples(tmp_path / "ds", per_class=1, seed=0, actions=("jump", "kick", "wave"))
    first, second, good = (clip.path for clip in clips)
    first.write_bytes(b"no video" * 100)
    os.truncate(second, 300)
    recipe, cache = CacheRecipe.from_spec(small_spec), tmp_path / "cache"
    with pytest.raises(DatasetError) as refused:
        cache_videos([first, second, good], recipe, cache, workers=1, progress=False)
    said = str(refused.value)
    assert said.startswith("2 of 3 new videos cannot be used: ")
    assert first.name in said
    assert second.name in said
    assert "\n" not in said
    assert (cache / recipe.key(good)).is_dir()
