"""The six data sets of the paper: how many classes they have, and what that does to a model's cost.

The paper states neither its classes nor the shape of its clips. So the classes are those that the
data sets' own publications give, and the clip is the model's: data sets differ in the last layer
only, which is counted for each and timed once for all.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from fgmclip.bench.cost.report import Entry
from fgmclip.spec import ModelSpec


@dataclass(frozen=True, slots=True)
class Dataset:
    """A data set of the paper.

    Attributes:
        key: Of entries.
        name: As the paper has it.
        classes: How many actions it tells apart.
        source: Where that number is from.
        sure: Whether it is certain that the paper means this data set and these classes.
    """

    key: str
    name: str
    classes: int
    source: str
    sure: bool

    @property
    def text(self) -> str:
        """Name, classes and their source, in words."""
        doubt = "" if self.sure else "; not certain"
        return f"{self.name}: {self.classes} classes ({self.source}{doubt})"


DATASETS: dict[str, Dataset] = {
    item.key: item
    for item in (
        Dataset(
            "ucf_sports",
            "UCF Sports",
            10,
            "Soomro and Zamir 2014; the paper cites another data set, Sports Videos in the Wild",
            True,
        ),
        Dataset(
            "i3dpost",
            "i3DPost",
            12,
            "motions of Gkalelis et al. 2009, without its facial expressions",
            False,
        ),
        Dataset(
            "casia_action",
            "CASIA Action",
            15,
            "8 of one person and 7 of two, Wang, Huang and Tan 2007",
            True,
        ),
        Dataset(
            "multiview",
            "Multiview",
            10,
            "Northwestern-UCLA Multiview Action 3D, Wang et al. 2014; the paper says no more than "
            "'Multiview Dataset'",
            False,
        ),
        Dataset("gym99", "Gym99", 99, "FineGym, Shao et al. 2020", True),
        Dataset(
            "gym251",
            "Gym251",
            251,
            "the paper's name; FineGym has settings of 99 and 288 classes",
            False,
        ),
    )
}

SAME_CLIP = "timed once for all data sets, which differ in the last layer only"
"""What is said of a time that stands in several rows."""


def for_dataset(entry: Entry, spec: ModelSpec, dataset: Dataset) -> Entry:
    """Return the entry of the same model with the classifier for a data set.

    Args:
        entry: Of a model.
        spec: Its own: an ablation may have another classifier than the whole model.
        dataset: Whose classes it gets.
    """
    more = dataset.classes - len(spec.classes)
    weights = work = 0
    if spec.head.kind != "text":
        weights += spec.fusion.width + 1
        work += spec.fusion.width
    if spec.head.kind != "linear":
        # Embeddings of the class texts are data, not weights, and as wide as the towers.
        work += spec.visual.width

    def recount(count: int | None, each: int) -> int | None:
        return None if count is None else count + more * each

    return replace(
        entry,
        dataset=dataset.key,
        parameters=recount(entry.parameters, weights),
        served_parameters=recount(entry.served_parameters, weights),
        multiply_adds=recount(entry.multiply_adds, work),
        includes="; ".join(filter(None, (entry.includes, SAME_CLIP))),
    )
