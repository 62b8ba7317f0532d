"""Labelled videos: a CSV file or a folder of folders, and splits that keep groups together."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fgmclip.spec import ClassSpec, ModelSpec
from fgmclip.training.errors import DatasetError
from fgmclip.video.errors import VideoListError
from fgmclip.video.labelled import LabelledVideo, read_labelled


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

    What they hold, `fgmclip.video.labelled.read_labelled` says.

    Raises:
        DatasetError: Nothing is there, a column or a file is missing, or it is empty.
    """
    try:
        return Dataset(tuple(read_labelled(path)))
    except VideoListError as error:
        raise DatasetError(str(error)) from error


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
        DatasetError: There is but one label.
        SpecError: The labels do not make classes, or a text head would lack descriptions.
    """
    if len(labels) < 2:
        raise DatasetError(
            f"expected videos of at least two labels, got one: {', '.join(labels)}; add videos of "
            "whatever else can be seen"
        )
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
