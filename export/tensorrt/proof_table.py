"""What `fgmclip engine build` prints of engines that were judged."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from fgmclip.export.tensorrt.proving import Chain, Judged
from fgmclip.export.tensorrt.report import asked_text, megabytes

COLUMNS = (
    "part",
    "precision",
    "built precision",
    "engine",
    "build",
    "ms",
    "ONNX Runtime ms",
    "cosine",
    "identity",
    "agreement",
    "verdict",
)


def proof_table(judged: Sequence[Judged], chain: Chain, reused: Sequence[str], gpu: str) -> Table:
    """Return the table of a release's engines, the chain last.

    Args:
        judged: The engines.
        chain: The release as it would be served.
        reused: Parts whose engine was there already.
        gpu: Name of the GPU.
    """
    first = judged[0].report
    table = Table(
        title=f"engines on {gpu} by {first.library} {first.library_version}",
        title_justify="left",
    )
    for column in COLUMNS:
        table.add_column(column, overflow="fold")
    for item in judged:
        built = item.report
        table.add_row(
            built.part,
            asked_text(built),
            built.built_precision,
            megabytes(built.engine_bytes),
            "reused" if built.part in reused else f"{built.seconds:.1f} s",
            f"{item.milliseconds:.2f}",
            f"{item.fallback_milliseconds:.2f}",
            f"{item.like.cosine:.4f}",
            f"{item.like.identity:.1%}",
            "",
            "refused" if item.reason else "proven",
            style="red" if item.reason else "bold",
        )
    agreement = "" if chain.answers is None else f"{chain.answers.agreement:.1%}"
    table.add_row(
        "chain",
        *[""] * 4,
        f"{chain.milliseconds:.2f}",
        "",
        f"{chain.like.cosine:.4f}",
        f"{chain.like.identity:.1%}",
        agreement,
        "refused" if chain.reason else "passes",
        style="red" if chain.reason else None,
    )
    return table
