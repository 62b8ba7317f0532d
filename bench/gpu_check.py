"""Everything that only a GPU can answer, in one run with one report.

Run as `make gpu-check`, or `python bench/gpu_check.py` with any Python from 3.10 on: nothing needs
to be installed. Makes a virtual environment of its own with the gpu extra, runs the tests marked
gpu, measures the kernels, exports gym99 with random weights for TensorRT, builds and judges its
engines, and measures latency. A stage that fails ends nothing but those that need it. Writes
`out/gpu-check-TIME.md` and `.json` and a log of each stage. Exit code 0 if all is well, 1 if a
stage failed, 2 without a GPU.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

GPU_QUERY = ("nvidia-smi", "--query-gpu=name,compute_cap,driver_version", "--format=csv,noheader")

EXTRAS = "serve,export,bench,gpu,rtx,cuda"

TEST_TOOLS = ("pytest>=8", "hypothesis>=6.100", "openvino>=2025.0")
"""What tests and export import beside; `dev` would bring the onnxruntime that has no GPU."""

EXIT_CODES = {3: "a bar was missed", 4: "refused by the gate", 5: "no test was found"}
"""What an exit code means, of pytest and of fgmclip."""

TAIL = 20
"""Lines of a stage's log that the report shows."""


@dataclass(frozen=True)
class Stage:
    """One stage.

    Attributes:
        name: In the report, and of its log.
        commands: Run one after the other until one fails.
        needs: Stages without which it has no sense.
        minutes: How long a command may take.
    """

    name: str
    commands: tuple[tuple[str, ...], ...]
    needs: tuple[str, ...] = ()
    minutes: float = 30


@dataclass(frozen=True)
class Result:
    """How a stage ended.

    Attributes:
        name: Of the stage.
        status: `ok`, `failed` or `skipped`.
        reason: Why, where it is not ok.
        seconds: How long it took.
        log: Its log, below `out/`; empty where it did not run.
        tail: The last lines of it.
    """

    name: str
    status: str
    reason: str
    seconds: float
    log: str
    tail: str


def stages(out: Path) -> tuple[Stage, ...]:
    """Return the stages.

    Args:
        out: Folder for what they write.
    """
    environment = ROOT / "out" / "gpu-venv"
    binaries = environment / "bin"
    python, fgmclip = str(binaries / "python"), str(binaries / "fgmclip")
    models = str(out / "models")
    return (
        Stage(
            "install",
            (
                (sys.executable, "-m", "venv", str(environment)),
                (python, "-m", "pip", "install", "--upgrade", "pip"),
                (python, "-m", "pip", "install", "--editable", f".[{EXTRAS}]"),
                (python, "-m", "pip", "install", *TEST_TOOLS),
                (python, "-m", "pip", "list"),
            ),
            minutes=60,
        ),
        Stage("CUDA kernels", ((fgmclip, "kernels", "build"),), needs=("install",)),
        Stage(
            "tests", ((python, "-m", "pytest", "-m", "gpu"),), needs=("install", "CUDA kernels")
        ),
        Stage(
            "kernels bench",
            ((python, "bench/kernels.py", "--json", str(out / "kernels.json")),),
            needs=("install",),
        ),
        Stage(
            "export",
            (
                (fgmclip, "export", "gym99", "--random-weights", "0", "--target", "tensorrt",
                 "--repository", models),
            ),
            needs=("install", "CUDA kernels"),
        ),
        Stage("engines", ((fgmclip, "engine", "build", models),), needs=("export",), minutes=60),
        Stage(
            "latency",
            ((python, "bench/latency.py", "--quick", "--out", str(out)),),
            needs=("install", "CUDA kernels"),
        ),
    )  # fmt: skip


def main(query: Sequence[str] = GPU_QUERY) -> int:
    """Run everything and return the exit status.

    Args:
        query: Command that lists GPUs, a line each.
    """
    gpus = find_gpus(query)
    if not gpus:
        print(
            "gpu-check: expected a GPU and NVIDIA's driver, got none; run it on a machine where "
            "nvidia-smi lists one",
            file=sys.stderr,
        )
        return 2
    started = datetime.now(timezone.utc)
    out = ROOT / "out" / f"gpu-check-{started:%Y%m%d-%H%M%S}"
    try:
        results = run_stages(stages(out), out, lambda line: print(line, flush=True))
        report = write_report(out, started, gpus, results)
        print(f"gpu-check: {report}", flush=True)
    except OSError as error:
        # Not `fgmclip.command`: nothing is installed where this starts.
        print(f"gpu-check: {error}; {out} needs room and must be writable", file=sys.stderr)
        return 1
    return 0 if all(result.status == "ok" for result in results) else 1


def find_gpus(query: Sequence[str]) -> list[str]:
    """Return a line for each GPU; none without a driver."""
    try:
        done = subprocess.run(
            query, capture_output=True, check=False, timeout=60, encoding="utf-8", errors="replace"
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.splitlines() if done.returncode == 0 else []


def run_stages(plan: Sequence[Stage], out: Path, say: Callable[[str], None]) -> list[Result]:
    """Run stages in order; one that fails ends only those that need it.

    Args:
        plan: The stages.
        out: Folder for their logs; made.
        say: Called with a line as a stage begins and ends.
    """
    out.mkdir(parents=True, exist_ok=True)
    results: dict[str, Result] = {}
    for stage in plan:
        missing = [need for need in stage.needs if results[need].status != "ok"]
        if missing:
            reason = f"{', '.join(missing)} did not succeed"
            results[stage.name] = Result(stage.name, "skipped", reason, 0.0, "", "")
        else:
            say(f"{stage.name} ...")
            results[stage.name] = _run(stage, out)
        result = results[stage.name]
        say(f"{stage.name}: {result.status}{f', {result.reason}' if result.reason else ''}")
    return list(results.values())


def write_report(
    out: Path, started: datetime, gpus: Sequence[str], results: Sequence[Result]
) -> Path:
    """Write the report beside the folder of logs, as Markdown and JSON.

    Returns:
        The Markdown file.
    """
    facts = {
        "started": started.isoformat(timespec="seconds"),
        "gpus": list(gpus),
        "system": platform.platform(),
        "commit": _commit(),
    }
    figures = {
        path.stem: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(out.glob("*.json"))
        if path.stat().st_size
    }
    data = {**facts, "stages": [asdict(result) for result in results], "figures": figures}
    out.with_suffix(".json").write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    lines = [f"# GPU check, {facts['started']}", ""]
    lines += [f"- {key}: {value}" for key, value in facts.items() if key != "started"]
    lines += ["", "| stage | status | seconds | reason |", "|---|---|---|---|"]
    lines += [
        f"| {item.name} | {item.status} | {item.seconds:.0f} | {item.reason} |" for item in results
    ]
    for item in results:
        if item.tail:
            lines += ["", f"## {item.name}", "", f"End of `{item.log}`:", ""]
            lines += ["```", item.tail, "```"]
    report = out.with_suffix(".md")
    report.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return report


def _run(stage: Stage, out: Path) -> Result:
    log = out / f"{stage.name.replace(' ', '-')}.log"
    # Engines and proofs of a check are no business of a server that runs here.
    environment = os.environ | {"FGMCLIP_ENGINES": str(out / "engines"), "COLUMNS": "150"}
    reason, begin = "", time.perf_counter()
    with log.open("w", encoding="utf-8") as file:
        for command in stage.commands:
            print("$", *command, file=file, flush=True)
            try:
                done = subprocess.run(
                    command,
                    cwd=ROOT,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    timeout=60 * stage.minutes,
                    check=False,
                )
            except OSError as error:
                reason = str(error)
            except subprocess.TimeoutExpired:
                reason = f"{Path(command[0]).name}: took more than {stage.minutes:g} minutes"
            else:
                if done.returncode:
                    meaning = EXIT_CODES.get(done.returncode, "see the log")
                    reason = f"{Path(command[0]).name}: exit code {done.returncode}, {meaning}"
            if reason:
                break
    tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL:])
    seconds = time.perf_counter() - begin
    status = "failed" if reason else "ok"
    return Result(stage.name, status, reason, seconds, f"{out.name}/{log.name}", tail)


def _commit() -> str:
    try:
        done = subprocess.run(
            ("git", "describe", "--always", "--dirty"),
            cwd=ROOT,
            capture_output=True,
            check=False,
            encoding="utf-8",
            errors="replace",
        )
    except OSError:
        return "unknown"
    return done.stdout.strip() or "unknown"


if __name__ == "__main__":
    sys.exit(main())
