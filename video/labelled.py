"""Videos with labels: a CSV file or a folder of folders."""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from pathlib import Path

from fgmclip.spec.labels import clean_label
from fgmclip.storage.text import name_text, named_path
from fgmclip.video.errors import VideoListError


@dataclass(frozen=True, slots=True)
class LabelledVideo:
    """One video.

    Attributes:
        path: The file.
        label: Its action, in the one spelling of `fgmclip.spec.labels.clean_label`.
        group: What it shares with others (actors, source video): groups are never split.
    """

    path: Path
    label: str
    group: str


def read_labelled(path: Path) -> list[LabelledVideo]:
    """Read a CSV file or a folder.

    A CSV has the columns `path` (relative to the CSV's folder, or absolute), `label` and
    optionally `group`; others are ignored. A folder holds DIR/CLASS/FILE. Without a group each
    video is its own.

    Raises:
        VideoListError: Nothing is there, a column or a file is missing, or it is empty.
    """
    if path.is_dir():
        videos = _from_folder(path)
        remedy = "expected DIR/CLASS/FILE"
    elif path.is_file():
        videos = _from_csv(path)
        remedy = "expected a header and a line for each video"
    else:
        raise VideoListError(f"{path}: no such file or folder; give a CSV or a folder of classes")
    if not videos:
        raise VideoListError(f"{path}: no videos in it; {remedy}")
    return [replace(video, label=clean_label(video.label)) for video in videos]


def _from_folder(folder: Path) -> list[LabelledVideo]:
    return [
        LabelledVideo(file, name_text(child), file.relative_to(folder).as_posix())
        for child in sorted(folder.iterdir())
        if child.is_dir() and not child.name.startswith(".")
        for file in sorted(child.iterdir())
        if file.is_file() and not file.name.startswith(".")
    ]


def _from_csv(path: Path) -> list[LabelledVideo]:
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            reader = csv.DictReader(stream)
            rows = list(reader)
            columns = reader.fieldnames or ()
    except (UnicodeDecodeError, csv.Error) as error:
        raise VideoListError(
            f"{path}: not a CSV file in UTF-8 ({error}); save it as one"
        ) from error
    missing = {"path", "label"} - set(columns)
    if missing:
        raise VideoListError(
            f"{path}: column {' and '.join(sorted(missing))} missing among "
            f"{', '.join(columns) or 'none'}; expected path,label[,group]"
        )
    videos = []
    for number, row in enumerate(rows, start=2):
        name, label = row["path"], row["label"]
        if not name or not label:
            raise VideoListError(f"{path}: line {number} has no path or no label; give both")
        file = path.parent / named_path(name)
        if not file.is_file():
            raise VideoListError(f"{path}: line {number} names {file}, which is not a file")
        videos.append(LabelledVideo(file, label, row.get("group") or name))
    return videos
