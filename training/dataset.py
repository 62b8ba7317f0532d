"""Labelled videos: a CSV file or a folder of folders, and splits that keep groups together."""

from __future__ import annotations

import csv
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fgmclip.spec import ClassSpec, ModelSpec
from fgmclip.training.errors import DatasetError


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


@dataclass(frozen=True, slots=True)
class Dataset:
    """Labelled videos in a fixed order."""

    videos: tuple[LabelledVideo, ...]

    def __len__(self) -> int:
        """Return the number of videos."""
        return len(self.videos)

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels that occur, sorted."""
        return tuple(sorted({video.label for video in self.videos}))


@dataclass(frozen=True, slots=True)
class Split:
    """Two disjoint parts of a data set; no group is in both."""

    train: Dataset
    held_out: Dataset


def read_dataset(path: Path) -> Dataset:
    """Read a CSV file or a folder.

    A CSV has the columns `path` (relative to the CSV's folder, or absolute), `label` and
    optionally `group`; others are ignored. A folder holds DIR/CLASS/FILE. Without a group each
    video is its own.

    Raises:
        DatasetError: Nothing is there, a column or a file is missing, or it is empty.
    """
    if path.is_dir():
        videos = _from_folder(path)
        remedy = "expected DIR/CLASS/FILE"
    elif path.is_file():
        videos = _from_csv(path)
        remedy = "expected a header and a line for each video"
    else:
        raise DatasetError(f"{path}: no such file or folder; give a CSV or a folder of classes")
    if not videos:
        raise DatasetError(f"{path}: no videos in it; {remedy}")
    return Dataset(tuple(videos))


def _from_folder(folder: Path) -> list[LabelledVideo]:
    return [
        LabelledVideo(file, child.name, file.relative_to(folder).as_posix())
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
        raise DatasetError(f"{path}: not a CSV file in UTF-8 ({error}); save it as one") from error
    missing = {"path", "label"} - set(columns)
    if missing:
        raise DatasetError(
            f"{path}: column {' and '.join(sorted(missing))} missing among "
            f"{', '.join(columns) or 'none'}; expected path,label[,group]"
        )
    videos = []
    for number, row in enumerate(rows, start=2):
        name, label = row["path"], row["label"]
        if not name or not label:
            raise DatasetError(f"{path}: line {number} has no path or no label; give both")
        file = path.parent / name
        if not file.is_file():
            raise DatasetError(f"{path}: line {number} names {file}, which is not a file")
        videos.append(LabelledVideo(file, label, row.get("group") or name))
    return videos


def check_labels(dataset: Dataset, spec: ModelSpec) -> None:
    """Refuse a data set with labels that the spec's classes do not name.

    Raises:
        DatasetError: Some label is unknown to the spec.
    """
    unknown = sorted(set(dataset.labels) - set(spec.labels))
    if unknown:
        raise DatasetError(
            f"labels {', '.join(unknown[:5])} are not among the spec's {len(spec.labels)} classes "
            f"({', '.join(spec.labels[:5])}, ...); rename them or give a spec with these classes"
        )


def with_classes(spec: ModelSpec, labels: Sequence[str]) -> ModelSpec:
    """Return the spec with these labels as its classes, known descriptions kept.

    Raises:
        SpecError: The labels do not make classes, or a text head would lack descriptions.
    """
    known = {item.name: item for item in spec.classes}
    return spec.replace(classes=tuple(known.get(name, ClassSpec.of(name=name)) for name in labels))


def group_folds(dataset: Dataset, count: int, *, seed: int = 0) -> list[Split]:
    """Cut a data set into folds by group, as equal in size as groups allow.

    The same data set, count and seed give the same folds on every machine.

    Args:
        dataset: What to cut.
        count: Number of folds; each video is held out in exactly one.
        seed: Decides which groups come together.

    Raises:
        DatasetError: There are fewer groups than folds, or fewer than two folds.
    """
    sizes = Counter(video.group for video in dataset.videos)
    if not 2 <= count <= len(sizes):
        raise DatasetError(
            f"{count} folds of {len(sizes)} groups: expected 2 to {len(sizes)} folds"
        )
    groups = sorted(sizes)
    random.Random(seed).shuffle(groups)
    # Large groups first: the small ones then fill what is left.
    groups.sort(key=lambda group: -sizes[group])
    folds: list[set[str]] = [set() for _ in range(count)]
    filled = [0] * count
    for group in groups:
        smallest = filled.index(min(filled))
        folds[smallest].add(group)
        filled[smallest] += sizes[group]
    return [_split(dataset, fold) for fold in folds]


def _split(dataset: Dataset, held_out: Iterable[str]) -> Split:
    groups = frozenset(held_out)
    return Split(
        train=Dataset(tuple(item for item in dataset.videos if item.group not in groups)),
        held_out=Dataset(tuple(item for item in dataset.videos if item.group in groups)),
    )
