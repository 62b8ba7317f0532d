"""What `preprocess` costs: against frames, frame size and threads, and by stage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter
from numpy.typing import NDArray
from rich.table import Table

from fgmclip.bench.preprocess_race import moving_stream
from fgmclip.bench.racing import Timing, race
from fgmclip.kernels import native
from fgmclip.kernels.color import Color
from fgmclip.kernels.parameters import PreprocessParameters
from fgmclip.kernels.preprocess import preprocess_into
from fgmclip.kernels.regions import frame_region

matplotlib.use("Agg")

import matplotlib.pyplot as plt

Bytes = NDArray[np.uint8]

SIZES = ((112, 112), (240, 320), (480, 640), (720, 1280), (1080, 1920))
COUNTS = (1, 2, 4, 8, 16, 32, 64)
THREADS = (1, 2)
WHOLE = "preprocess"
STAGES = ("resize and luma", "normalize", "frame difference and flow")
"""Each as a call of its own; in `preprocess` the resize writes what is normalized already."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Time of one call.

    Attributes:
        size: Height and width of the frames, pixels.
        frames: New frames n of the call; one more lies before them.
        threads: Threads of the call.
        what: `WHOLE`, or one of `STAGES`.
        timing: Of the call.
    """

    size: tuple[int, int]
    frames: int
    threads: int
    what: str
    timing: Timing

    @property
    def per_frame(self) -> float:
        """Median for each new frame, milliseconds."""
        return self.timing.median / self.frames

    def to_json(self) -> dict[str, object]:
        """Return all fields and the figure for each frame."""
        return {
            "height": self.size[0],
            "width": self.size[1],
            "frames": self.frames,
            "threads": self.threads,
            "what": self.what,
            **self.timing.to_json(),
            "per_frame_ms": self.per_frame,
        }


def measure_costs(
    parameters: PreprocessParameters,
    *,
    rounds: int,
    tick: Callable[[], None],
    sizes: Sequence[tuple[int, int]] = SIZES,
    counts: Sequence[int] = COUNTS,
) -> list[Cost]:
    """Time whole calls over RGB frames; every call takes its turn in every round.

    Args:
        parameters: Of a model with motion.
        rounds: Turns of each call.
        tick: Called after each round.
        sizes: Height and width of the frames, pixels.
        counts: New frames of a call.
    """
    streams = {size: moving_stream(max(counts) + 1, *size) for size in sizes}
    cases = list(product(sizes, counts, THREADS))
    calls = {
        f"{_name(size)}, {count} frames, {threads} threads": _whole(
            streams[size][: count + 1], parameters, threads
        )
        for size, count, threads in cases
    }
    times = race(calls, rounds=rounds, calls=1, tick=tick)
    return [Cost(*case, WHOLE, timing) for case, timing in zip(cases, times.values(), strict=True)]


def measure_stages(
    parameters: PreprocessParameters,
    *,
    rounds: int,
    tick: Callable[[], None],
    sizes: Sequence[tuple[int, int]] = SIZES,
) -> list[Cost]:
    """Time the stages of one pair of RGB frames, and all of it in one call.

    Arguments are those of `measure_costs`.
    """
    cases = list(product(sizes, THREADS))
    calls: dict[str, Callable[[int], object]] = {}
    for size, threads in cases:
        frames = moving_stream(2, *size)
        stages = (*_stages(frames, parameters, threads), _whole(frames, parameters, threads))
        for name, call in zip((*STAGES, WHOLE), stages, strict=True):
            calls[f"{_name(size)}, {threads} threads, {name}"] = call
    times = race(calls, rounds=rounds, tick=tick)
    return [
        Cost(size, 1, threads, name, timing)
        for ((size, threads), name), timing in zip(
            product(cases, (*STAGES, WHOLE)), times.values(), strict=True
        )
    ]


def cost_table(costs: Sequence[Cost]) -> Table:
    """Return milliseconds for each new frame."""
    table = Table(title="preprocess: milliseconds a new frame, RGB", title_justify="left")
    table.add_column("frame size", no_wrap=True)
    table.add_column("threads", justify="right")
    counts = sorted({cost.frames for cost in costs})
    for count in counts:
        table.add_column(f"{count} new" if count == counts[0] else str(count), justify="right")
    for size, threads in dict.fromkeys((cost.size, cost.threads) for cost in costs):
        mine = [cost for cost in costs if (cost.size, cost.threads) == (size, threads)]
        figures = (f"{cost.per_frame:.3f}" for cost in mine)
        table.add_row(_name(size), str(threads), *figures, end_section=threads == THREADS[-1])
    return table


def stage_table(costs: Sequence[Cost]) -> Table:
    """Return milliseconds of each stage."""
    table = Table(title="Stages of one pair, milliseconds, RGB", title_justify="left")
    table.add_column("frame size", no_wrap=True)
    for column in ("threads", *STAGES, f"{WHOLE}, one call"):
        table.add_column(column, justify="right")
    for size, threads in dict.fromkeys((cost.size, cost.threads) for cost in costs):
        mine = [cost for cost in costs if (cost.size, cost.threads) == (size, threads)]
        figures = (f"{cost.timing.median:.3f}" for cost in mine)
        table.add_row(_name(size), str(threads), *figures, end_section=threads == THREADS[-1])
    return table


def draw_costs(costs: Sequence[Cost], stages: Sequence[Cost], picture: Path) -> None:
    """Draw both measurements and write them as a PNG."""
    figure, (whole, single, parts) = plt.subplots(1, 3, figsize=(16.5, 5), layout="constrained")
    sizes = list(dict.fromkeys(cost.size for cost in costs))
    colors = plt.get_cmap("viridis")(np.linspace(0, 0.85, len(sizes)))
    for axis, per_frame in ((whole, False), (single, True)):
        for size, color in zip(sizes, colors, strict=True):
            for threads, style in zip(THREADS, ("--", "-"), strict=True):
                _line(axis, costs, size, threads, per_frame=per_frame, color=color, style=style)
        axis.set_xscale("log", base=2)
        axis.set_yscale("log")
        axis.set_xlabel("new frames in a call")
        ticks = sorted({cost.frames for cost in costs})
        axis.set_xticks(ticks, [str(tick) for tick in ticks])
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_formatter(NullFormatter())
        axis.grid(alpha=0.3, which="both")
    whole.set_title("preprocess, a call")
    whole.set_ylabel("milliseconds")
    single.set_title("preprocess, a new frame")
    single.set_ylabel("milliseconds a new frame")
    whole.legend(fontsize=8, title="solid: 2 threads, dashed: 1", title_fontsize=8)
    _bars(parts, stages)
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=110)
    plt.close(figure)


def _line(
    axis: Axes,
    costs: Sequence[Cost],
    size: tuple[int, int],
    threads: int,
    *,
    per_frame: bool,
    color: NDArray[np.float64],
    style: str,
) -> None:
    mine = [cost for cost in costs if (cost.size, cost.threads) == (size, threads)]
    values = [cost.per_frame if per_frame else cost.timing.median for cost in mine]
    label = _name(size) if threads == THREADS[-1] else None
    axis.plot([cost.frames for cost in mine], values, style, color=color, marker="o", label=label)


def _bars(axis: Axes, stages: Sequence[Cost]) -> None:
    """Draw a bar for each frame size and number of threads, its stages on each other."""
    groups = list(dict.fromkeys((cost.size, cost.threads) for cost in stages))
    bottom = np.zeros(len(groups))
    for name in STAGES:
        heights = [cost.timing.median for cost in stages if cost.what == name]
        axis.bar(range(len(groups)), heights, bottom=bottom, label=name, width=0.8)
        bottom += heights
    together = [cost.timing.median for cost in stages if cost.what == WHOLE]
    axis.plot(range(len(groups)), together, "k_", markersize=22, label=f"{WHOLE}, one call")
    labels = [f"{_name(size)}\n{threads} thr." for size, threads in groups]
    axis.set_xticks(range(len(groups)), labels, fontsize=7, rotation=60)
    axis.set_ylabel("milliseconds")
    axis.set_title("Stages of one pair")
    axis.legend(fontsize=8)
    axis.grid(alpha=0.3, axis="y")


def _whole(
    frames: Bytes, parameters: PreprocessParameters, threads: int
) -> Callable[[int], object]:
    count, image, motion = len(frames) - 1, parameters.image_size, parameters.motion_size or 0
    pixels = np.empty((count, 3, image, image), np.float32)
    out = np.empty((count, 3, motion, motion), np.float32)
    return lambda _: preprocess_into(frames, parameters, pixels, out, threads=threads)


def _stages(
    frames: Bytes, parameters: PreprocessParameters, threads: int
) -> tuple[Callable[[int], object], ...]:
    """Return calls of the stages in the order of `STAGES`, one pair."""
    image, motion, flow = parameters.image_size, parameters.motion_size, parameters.flow
    if motion is None or flow is None:
        raise ValueError("parameters: expected a model with motion, got one without")
    levels = np.empty((1, image, image, 3), np.uint8)
    luma = np.empty((1, 2, motion, motion), np.uint8)
    color = Color(parameters.color_matrix, parameters.color_range)
    height, width = frames.shape[1:3]
    region = frame_region(height, width, image, parameters.crop)

    def shrink(_: int) -> None:
        native.preprocess_into(
            frames,
            [[region]],
            parameters,
            color,
            pixels_u8=levels,
            luma_u8=luma,
            threads=threads,
        )

    # The stages after it have something to work on.
    shrink(0)
    pixels = np.empty((1, 3, image, image), np.float32)
    out = np.empty((1, 3, motion, motion), np.float32)
    normalize = partial(
        native.normalize_into, levels, parameters.mean, parameters.std, pixels, threads=threads
    )
    move = partial(native.motion_into, luma, flow, out, threads=threads)
    return shrink, lambda _: normalize(), lambda _: move()


def _name(size: tuple[int, int]) -> str:
    return f"{size[1]}x{size[0]}"
