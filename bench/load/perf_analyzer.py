"""Clips a second by NVIDIA's `perf_analyzer`, where it is installed: a second opinion."""

from __future__ import annotations

import base64
import csv
import json
import shutil
import subprocess
import tempfile
from pathlib import Path

from fgmclip.bench.load.plan import Traffic
from fgmclip.spec import FgmclipError

PROGRAM = "perf_analyzer"

_THROUGHPUT = "Inferences/Second"


class PerfAnalyzerError(FgmclipError):
    """perf_analyzer is here and failed."""


def find_perf_analyzer() -> str | None:
    """Return the program's path; None if it is not on PATH."""
    return shutil.which(PROGRAM)


def requests_per_second(
    program: str, url: str, traffic: Traffic, concurrency: int, *, seconds: float
) -> float:
    """Return what it measures in a closed loop.

    Args:
        program: Its path.
        url: gRPC address HOST:PORT.
        traffic: Requests without history, such as clips.
        concurrency: Requests in flight.
        seconds: Length of each of its windows; it takes three that agree, or ten.

    Raises:
        PerfAnalyzerError: It failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "perf.csv"
        # Inputs that are not in the file are left out; without one it would make up optional ones.
        data = Path(folder) / "requests.json"
        data.write_text(json.dumps({"data": [_request(traffic)]}), encoding="utf-8")
        done = subprocess.run(
            [
                *(program, "-m", traffic.model, "-u", url, "-i", "grpc"),
                *("--input-data", str(data)),
                *("--concurrency-range", str(concurrency)),
                *("--measurement-interval", f"{1e3 * seconds:.0f}"),
                *("-f", str(table)),
            ],
            capture_output=True,
            check=False,
            encoding="utf-8",
            errors="replace",
        )
        if done.returncode or not table.is_file():
            raise PerfAnalyzerError(
                f"{program}: expected a table of {traffic.model}, got exit status "
                f"{done.returncode}: {(done.stderr or done.stdout).strip()[-300:]}; take it off "
                "PATH to measure without it"
            )
        with table.open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    if len(rows) != 1 or _THROUGHPUT not in rows[0]:
        raise PerfAnalyzerError(
            f"{program}: expected one row with {_THROUGHPUT}, got {rows}; take it off PATH to "
            "measure without it"
        )
    return float(rows[0][_THROUGHPUT])


def _request(traffic: Traffic) -> dict[str, dict[str, object]]:
    return {
        name: {
            "content": {"b64": base64.b64encode(array.tobytes()).decode()},
            "shape": list(array.shape),
        }
        for name, array in traffic.arrays.items()
    }
