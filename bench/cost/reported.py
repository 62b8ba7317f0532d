"""What the paper reports of costs, written out by hand: its tables 1, 4 and 6.

Source: FGM-CLIP, Frontiers in Neurorobotics 18:1502071 (2025). It states an NVIDIA A100 and PyTorch
(section 4.2), and neither batch, clip length, resolution, precision nor what a time includes. Each
figure is printed there with an error of 0.03. A figure that the source's text does not have is
None: tables 1 and 6 are images in it. Those of table 4 are the table's own, those of table 6 stand
in section 4.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fgmclip.bench.cost.datasets import DATASETS

PAPER = "FGM-CLIP, Frontiers in Neurorobotics 18:1502071 (2025)"
PROTOCOL = "protocol not stated"
"""What stands beside every time that the paper reports."""

NO_FIGURE = "no figure survives"
"""What stands where a table is an image and the text has no figure of it."""

HARDWARE = "A100, PyTorch"

FULL_MODEL = "FGM-CLIP"
WITHOUT_CLIP = "w/o CLIP model"
WITHOUT_MOTION = "w/o motion encoder"
WITHOUT_FUSION = "w/o multimodal fusion layer"

ABLATIONS = {
    WITHOUT_CLIP: "CLIP's image tower replaced by ResNet-50",
    WITHOUT_MOTION: "motion encoder replaced by a temporal convolution",
    WITHOUT_FUSION: "multimodal fusion replaced by concatenation",
}
"""What section 4.2 says that each method without something has in its place."""

UNLABELLED = {"unlabelled_1": "unlabelled, left", "unlabelled_2": "unlabelled, right"}
"""Halves of the second block of table 4, which names no data sets; theirs are not guessed."""


@dataclass(frozen=True, slots=True)
class Reported:
    """One row of one data set of a table of the paper.

    Attributes:
        table: Number of the table.
        method: The model, as the table names it; `FULL_MODEL` is what it calls ours or full model.
        dataset: Key of a data set in `fgmclip.bench.cost.datasets`, or in `UNLABELLED`.
        parameters: Parameters, millions.
        operations: What the paper calls Flops, billions (G).
        inference: Inference time, milliseconds.
        training: Training time, seconds; of what (an epoch, all 100) is not stated.
    """

    table: Literal[1, 4, 6]
    method: str
    dataset: str
    parameters: float | None
    operations: float | None
    inference: float | None
    training: float | None

    @property
    def dataset_name(self) -> str:
        """The data set as the paper names it, or that it does not."""
        known = DATASETS.get(self.dataset)
        return UNLABELLED[self.dataset] if known is None else known.name

    @property
    def has_figures(self) -> bool:
        """Whether anything of it survives."""
        figures = (self.parameters, self.operations, self.inference, self.training)
        return any(figure is not None for figure in figures)


def _image(dataset: str) -> Reported:
    return Reported(1, FULL_MODEL, dataset, None, None, None, None)


def _ablation(
    method: str, dataset: str, parameters: float, operations: float, *times: float
) -> Reported:
    inference, training = times
    return Reported(4, method, dataset, parameters, operations, inference, training)


def _text(
    method: str,
    dataset: str,
    parameters: float | None = None,
    operations: float | None = None,
    inference: float | None = None,
    training: float | None = None,
) -> Reported:
    return Reported(6, method, dataset, parameters, operations, inference, training)


REPORTED: tuple[Reported, ...] = (
    _image("ucf_sports"),
    _image("i3dpost"),
    _image("casia_action"),
    _image("multiview"),
    _ablation(WITHOUT_CLIP, "casia_action", 225.51, 235.72, 383.12, 223.89),
    _ablation(WITHOUT_CLIP, "multiview", 275.40, 384.25, 259.92, 234.04),
    _ablation(WITHOUT_CLIP, "unlabelled_1", 279.52, 269.10, 242.24, 320.55),
    _ablation(WITHOUT_CLIP, "unlabelled_2", 327.48, 341.26, 292.91, 273.34),
    _ablation(WITHOUT_MOTION, "casia_action", 379.22, 278.85, 301.98, 221.42),
    _ablation(WITHOUT_MOTION, "multiview", 343.37, 201.33, 300.70, 289.39),
    _ablation(WITHOUT_MOTION, "unlabelled_1", 377.32, 273.86, 216.31, 236.63),
    _ablation(WITHOUT_MOTION, "unlabelled_2", 315.00, 339.36, 247.66, 247.14),
    _ablation(WITHOUT_FUSION, "casia_action", 248.66, 295.68, 289.81, 304.15),
    _ablation(WITHOUT_FUSION, "multiview", 238.66, 203.17, 213.49, 317.00),
    _ablation(WITHOUT_FUSION, "unlabelled_1", 361.53, 392.44, 331.93, 348.78),
    _ablation(WITHOUT_FUSION, "unlabelled_2", 317.33, 362.77, 278.23, 398.47),
    _ablation(FULL_MODEL, "casia_action", 127.29, 117.06, 190.26, 106.93),
    _ablation(FULL_MODEL, "multiview", 215.25, 131.22, 142.51, 226.68),
    _ablation(FULL_MODEL, "unlabelled_1", 123.44, 126.36, 209.34, 128.20),
    _ablation(FULL_MODEL, "unlabelled_2", 177.98, 102.22, 151.01, 180.96),
    _text(FULL_MODEL, "gym99", 166.63, 192.10, 103.77, 132.84),
    _text(FULL_MODEL, "gym251", inference=104.57, training=115.28),
    _text("Wang et al. (2021)", "gym99", 353.76, 352.07),
    _text("Jegham et al. (2020)", "gym99", operations=376.62),
    _text("Li et al. (2020)", "gym99", inference=211.90),
)


def reported(table: int) -> tuple[Reported, ...]:
    """Return the rows of a table, in the paper's order."""
    return tuple(row for row in REPORTED if row.table == table)


def full_model() -> tuple[Reported, ...]:
    """Return the five rows that give parameters and operations of the one full model."""
    return tuple(row for row in REPORTED if row.method == FULL_MODEL and row.parameters is not None)
