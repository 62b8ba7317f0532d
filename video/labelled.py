"""Videos with labels: a CSV file or a folder of folders."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fgmclip.spec.labels import clean_label
from fgmclip.storage.errors import TextError
from fgmclip.storage.table import read_table
from fgmclip.storage.text import name_text, named_path, one_line
from fgmclip.video.errors import VideoListError
from fgmclip.video.suffixes import VIDEO_SUFFIXES

MOST_NAMED = 10
"""Faults that one error names."""

# Left in folders by Windows, macOS, NAS boxes and file systems; nobody put them there.
_SYSTEM_NAMES = frozenset(
    {
        "$recycle.bin",
        "@eadir",
        "__macosx",
        "desktop.ini",
        "ehthumbs.db",
        "ehthumbs_vista.db",
        "lost+found",
        "system volume information",
        "thumbs.db",
    }
)


@dataclass(frozen=True, slots=True)
class LabelledVideo:
    """One video.

    Attributes:
        path: The file.
        label: Its action.
        group: What it shares with others (actors, source video): groups are never split.
    """

    path: Path
    label: str
    group: str


def read_labelled(path: Path) -> list[LabelledVideo]:
    """Read a CSV file or a folder.

    A CSV, as `fgmclip.storage.table.read_table` takes it, has the columns `path` (relative to the
    CSV's folder, or absolute), `label` and optionally `group`; others are ignored. A folder holds
    DIR/CLASS/FILE; hidden files, and those that operating systems leave, are passed over. Without
    a group each video is its own. A line may stand twice, so that its video counts twice.

    Raises:
        VideoListError: Nothing is there, a column or a file is missing, a file has two labels or
            two groups, a folder holds what is no video, or it is empty; one error names up to
            `MOST_NAMED` faults.
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


def listed(faults: Sequence[str]) -> str:
    """Return up to `MOST_NAMED` faults on one line, and how many more there are."""
    more = len(faults) - MOST_NAMED
    return "; ".join(faults[:MOST_NAMED]) + (f"; and {more} more" if more > 0 else "")


def _from_folder(folder: Path) -> list[LabelledVideo]:
    videos, foreign, misplaced = _found(folder)
    if foreign:
        raise VideoListError(
            f"{folder}: expected videos alone in the folders of its classes, got {len(foreign)} "
            f"other files: {listed(foreign)}; take them away, or list the videos in a CSV file"
        )
    if misplaced:
        raise VideoListError(
            f"{folder}: expected DIR/CLASS/FILE, got {len(misplaced)} videos elsewhere: "
            f"{listed(misplaced)}; move them, or list them in a CSV file"
        )
    return videos


def _found(folder: Path) -> tuple[list[LabelledVideo], list[str], list[str]]:
    """Return a folder's videos, files of classes that are none, and videos at another depth."""
    videos: list[LabelledVideo] = []
    foreign: list[str] = []
    misplaced: list[str] = []
    for child in _visible(folder):
        if not child.is_dir():
            if _is_video(child):
                misplaced.append(one_line(child.name))
            continue
        for file in _visible(child):
            name = file.relative_to(folder).as_posix()
            if file.is_dir():
                misplaced += [
                    one_line(inner.relative_to(folder).as_posix())
                    for inner in _visible(file)
                    if _is_video(inner)
                ]
            elif _is_video(file):
                videos.append(LabelledVideo(file, name_text(child), name))
            else:
                foreign.append(one_line(name))
    return videos, foreign, misplaced


def _visible(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if not path.name.startswith(".") and path.name.casefold() not in _SYSTEM_NAMES:
            yield path


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES


def _from_csv(path: Path) -> list[LabelledVideo]:
    try:
        rows = read_table(path, ("path", "label"))
    except TextError as error:
        raise VideoListError(str(error)) from error
    videos = []
    faults = []
    known: dict[str, tuple[int, LabelledVideo]] = {}
    for row in rows:
        name, label = row.cells["path"], row.cells["label"]
        file = path.parent / named_path(name)
        if "\\" in name and not file.is_file():
            # As Windows writes it.
            file = path.parent / named_path(name.replace("\\", "/"))
        if not name or not label:
            faults.append(f"line {row.line} has no path or no label; give both")
        elif not file.is_file():
            faults.append(f"line {row.line} names {one_line(str(file))}, which is not a file")
        else:
            video = LabelledVideo(file, label, row.cells.get("group") or name)
            line, before = known.setdefault(os.path.realpath(file), (row.line, video))
            if (video.label, video.group) != (before.label, before.group):
                # In two groups a file would be trained on and held out as well.
                what = "label" if video.label != before.label else "group"
                faults.append(
                    f"line {row.line} gives {one_line(name)} another {what} than line {line}; name "
                    "each video once"
                )
            videos.append(video)
    if faults:
        raise VideoListError(f"{path}: {listed(faults)}")
    return videos
