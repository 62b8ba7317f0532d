from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fgmclip.spec import preset
from fgmclip.training.dataset import (
    Dataset,
    check_labels,
    group_folds,
    read_dataset,
    with_classes,
)
from fgmclip.training.errors import DatasetError
from fgmclip.video.labelled import LabelledVideo


def _dataset(groups: list[int]) -> Dataset:
    return Dataset(
        tuple(
            LabelledVideo(Path(f"{index}.mp4"), "walk", f"g{group}")
            for index, group in enumerate(groups)
        )
    )


@given(
    groups=st.lists(st.integers(0, 9), min_size=12, max_size=60),
    count=st.integers(2, 5),
    seed=st.integers(0, 3),
)
def test_folds_never_split_a_group_and_hold_every_video_out_once(
    groups: list[int], count: int, seed: int
) -> None:
    dataset = _dataset(groups)
    if len(set(groups)) < count:
        with pytest.raises(DatasetError, match="groups: expected 2 to"):
            group_folds(dataset, count, seed=seed)
        return
    folds = group_folds(dataset, count, seed=seed)
    for fold in folds:
        assert not {v.group for v in fold.train.videos} & {v.group for v in fold.held_out.videos}
        assert len(fold.train) + len(fold.held_out) == len(dataset)
        assert len(fold.held_out) > 0
    held_out = [video for fold in folds for video in fold.held_out.videos]
    assert sorted(held_out, key=lambda v: int(v.path.stem)) == list(dataset.videos)
    assert folds == group_folds(dataset, count, seed=seed)


def test_the_seed_decides_which_groups_come_together() -> None:
    dataset = _dataset([group for group in range(10) for _ in range(3)])
    assert group_folds(dataset, 5, seed=0) != group_folds(dataset, 5, seed=1)


def test_a_folder_of_classes_is_a_data_set(tmp_path: Path) -> None:
    for name in ("walk/b.mp4", "walk/a.mp4", "jump/c.mp4", "walk/.hidden"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    dataset = read_dataset(tmp_path)
    assert [(v.label, v.path.name, v.group) for v in dataset.videos] == [
        ("jump", "c.mp4", "jump/c.mp4"),
        ("walk", "a.mp4", "walk/a.mp4"),
        ("walk", "b.mp4", "walk/b.mp4"),
    ]


def test_a_csv_gives_groups_or_each_video_its_own(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).touch()
    (tmp_path / "x.csv").write_text(
        "label,group,path,note\nwalk,s1,a.mp4,x\njump,,b.mp4,y\n", encoding="utf-8"
    )
    dataset = read_dataset(tmp_path / "x.csv")
    assert [(v.label, v.group) for v in dataset.videos] == [("walk", "s1"), ("jump", "b.mp4")]
    assert dataset.labels == ("jump", "walk")
    assert all(v.path.is_file() for v in dataset.videos)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,label\na.mp4,walk\n", "column path missing among file, label"),
        ("path,label\nnowhere.mp4,walk\n", "line 2 names .*nowhere.mp4, which is not a file"),
        ("path,label\na.mp4,\n", "line 2 has no path or no label"),
        ("path,label\n", "no videos in it"),
        ("", "expected a header with path,label, got an empty file"),
    ],
)
def test_a_wrong_csv_is_refused_with_the_cause(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.mp4").touch()
    (tmp_path / "x.csv").write_text(text, encoding="utf-8")
    with pytest.raises(DatasetError, match=message):
        read_dataset(tmp_path / "x.csv")


def test_what_is_no_data_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no such file or folder"):
        read_dataset(tmp_path / "absent.csv")
    (tmp_path / "latin.csv").write_bytes(b"path,label\n\xe4.mp4,walk\n")
    with pytest.raises(DatasetError, match="expected UTF-8 text, got byte 0xe4 in line 2"):
        read_dataset(tmp_path / "latin.csv")


def test_unknown_labels_are_named() -> None:
    spec = preset("demo")
    with pytest.raises(DatasetError, match="labels swim are not among the spec's 12 classes"):
        check_labels(Dataset((LabelledVideo(Path("a"), "swim", "g"),)), spec)


def test_classes_from_a_data_set_keep_known_descriptions() -> None:
    spec = with_classes(preset("demo"), ("jump", "swim"))
    assert spec.labels == ("jump", "swim")
    assert spec.classes[0].descriptions == ("a person jumping in place",)
    assert spec.classes[1].descriptions == ()
