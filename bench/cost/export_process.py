"""`python -m fgmclip.bench.cost.export_process MODEL TARGET PRECISION DIR`: one export.

Writes each stage as a line. Exit code 4 if the gate refused, the reason on the error output.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import cast

from fgmclip.export.ladder.candidate import Precision
from fgmclip.export.precision import PrecisionRequest
from fgmclip.export.release import export_release
from fgmclip.export.sources import open_model
from fgmclip.export.targets import Target
from fgmclip.spec import PRESETS, FgmclipError


def main(model: str, target: str, precision: str, repository: str) -> int:
    """Export and return the exit status."""
    random = model in PRESETS and model != "demo"
    try:
        export_release(
            open_model(model, random_weights=0 if random else None, outliers=True),
            Path(repository),
            target=cast(Target, target),
            precision=PrecisionRequest(cast(Precision, precision), trained=not random),
            report=say,
            detail=say,
        )
    except FgmclipError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def say(stage: str) -> None:
    """Write a line at once."""
    print(stage, flush=True)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
