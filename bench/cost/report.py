"""`CostReport`: everything that `python bench/latency.py` found out, whoever shows it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from fgmclip.spec import FgmclipError

REPORT_FORMAT = 1

Group = Literal["served", "pytorch", "runtime", "naive", "peer", "ablation"]
"""What an entry is: our server with a gated rung; the same model in PyTorch, in a runtime as it
comes, or in Triton as it is set up without us; another model that a user would pick; a changed
FGM-CLIP."""


class ReportError(FgmclipError, ValueError):
    """A report cannot be read, or two of them cannot be compared."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Latency:
    """Times of one clip, from its frames to its answer unless the entry says otherwise.

    Attributes:
        p50: Median, milliseconds.
        p90: 90th percentile, milliseconds.
        p99: 99th percentile, milliseconds; the slowest if there are fewer than 100.
        low: Lower end of its 95 % interval, as `fgmclip.bench.cost.intervals` defines it: another
            such run's figure lies in it 95 times of 100. Milliseconds.
        high: Its upper end.
        repeats: Clips that were timed.
        rounds: Turns, among the competitors, that they were timed in.
        disturbed: Part of these that other work on the machine disturbed.
    """

    p50: float
    p90: float
    p99: float
    low: float
    high: float
    repeats: int
    rounds: int
    disturbed: float


@dataclass(frozen=True, slots=True)
class Entry:
    """One competitor on one kind of clip.

    Attributes:
        key: Names it in ratios and in a baseline; never changes its meaning.
        name: For people.
        group: What it is.
        dataset: Key of the data set whose clips it takes, or None for the common clip.
        clip: T, height and width of its clip.
        parameters: Parameters of the model, those included that are not served (a text tower).
        served_parameters: Those that run.
        multiply_adds: Of one clip, attention products included.
        precision: Arithmetic of its submodules, for example `int8/bf16/int8`.
        verdict: What the gate said of that; empty where nothing gates it.
        includes: What the time includes, for example `resize, flow, network`.
        latency: The times; None where it was not timed, then `why` says why.
        why: Why something is missing; empty if nothing is.
        training_seconds: One epoch of training, where a data set was given.
    """

    key: str
    name: str
    group: Group
    dataset: str | None
    clip: tuple[int, int, int]
    parameters: int | None
    served_parameters: int | None
    multiply_adds: int | None
    precision: str
    verdict: str
    includes: str
    latency: Latency | None
    why: str = ""
    training_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times longer one entry takes than another, from the rounds they shared.

    Attributes:
        longer: Key of the one.
        shorter: Key of the other.
        value: Interquartile mean over the rounds; below 1 if `longer` is the faster one.
        low: Lower end of its 95 % interval, as `fgmclip.bench.cost.intervals` defines it.
        high: Its upper end.
        rounds: How many rounds.
    """

    longer: str
    shorter: str
    value: float
    low: float
    high: float
    rounds: int


@dataclass(frozen=True, slots=True)
class CostReport:
    """Everything that a run found out.

    Attributes:
        started: ISO 8601, UTC.
        quick: Whether it was a quick run.
        protocol: How it was measured, by name: device, threads, precision, batch, T, resolution,
            warm-up, repeats, versions.
        entries: The competitors.
        ratios: Comparisons.
        format: Version of this layout.
    """

    started: str
    quick: bool
    protocol: dict[str, str]
    entries: tuple[Entry, ...]
    ratios: tuple[Ratio, ...] = field(default=())
    format: int = REPORT_FORMAT

    def entry(self, key: str, dataset: str | None = None) -> Entry | None:
        """Return an entry by key and data set; None if there is none."""
        found = (one for one in self.entries if (one.key, one.dataset) == (key, dataset))
        return next(found, None)

    def to_json(self) -> str:
        """Return the report as indented JSON."""
        return json.dumps(asdict(self), indent=2)

    def save(self, path: Path) -> None:
        """Write the report."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.to_json() + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> CostReport:
        """Read what `save` wrote.

        Raises:
            ReportError: It is not there, no report, or of another format.
        """
        try:
            fields: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if fields["format"] != REPORT_FORMAT:
                raise ReportError(
                    f"{path}: expected a report of format {REPORT_FORMAT}, got {fields['format']}; "
                    "measure again"
                )
            entries = tuple(_entry(item) for item in fields.pop("entries"))
            ratios = tuple(Ratio(**item) for item in fields.pop("ratios"))
            return cls(**fields, entries=entries, ratios=ratios)
        except (OSError, KeyError, TypeError, json.JSONDecodeError) as error:
            raise ReportError(
                f"{path}: expected a report of bench/latency.py, got: {error}"
            ) from error


def _entry(fields: dict[str, Any]) -> Entry:
    latency = fields.pop("latency")
    clip = tuple(fields.pop("clip"))
    return Entry(**fields, clip=clip, latency=None if latency is None else Latency(**latency))
