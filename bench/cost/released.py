"""The release that is served: exported once for each version of what makes it, then kept.

The export runs in a process of its own: PyTorch's threads would stay in the one that measures.
"""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fgmclip.bench.cost import export_process
from fgmclip.bench.cost.plan import Device
from fgmclip.bench.cost.state import code_version
from fgmclip.bench.machine import describe_machine
from fgmclip.client.manifest import CLIP_MODEL
from fgmclip.export.errors import ExportError, GateError
from fgmclip.export.gate import Verdict
from fgmclip.export.manifest import ReleaseManifest, short_hash
from fgmclip.export.repository import Repository
from fgmclip.export.sources import DEMO_CHECKPOINT
from fgmclip.kernels import native
from fgmclip.serve.runtimes.proof import file_sha256
from fgmclip.storage.atomic import ABANDONED_SECONDS, making_folder, remove_temporaries

ROOMS = ("export", "kernels", "model", "serve", "spec", "triton_repo", "video")
"""What a release is made by and of."""

TOOLS = ("numpy", "onnx", "onnxruntime", "open_clip_torch", "openvino", "torch")

AUTO, PLAIN = "auto", "fp32"
"""The fastest rung that the gate lets pass, which takes minutes to prove, and the one that is only
held to PyTorch, in half a minute."""

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Released:
    """A release.

    Attributes:
        repository: Its directory of models.
        manifest: Its manifest.
    """

    repository: Path
    manifest: ReleaseManifest

    @property
    def verdict(self) -> str:
        """What the gate said of the chain, in words."""
        gate = self.manifest.gate
        if gate is None:
            worst = max(check.max_abs / check.tolerance for check in self.manifest.checks)
            return f"graphs within {worst:.0%} of the tolerance to PyTorch"
        chains = [verdict for verdict in gate.verdicts if verdict.part == "chain"]
        return _chain_text(chains[-1], gate.clips) if chains else "no chain was judged"


def open_release(repository: Path) -> Released:
    """Return the release that serves in a repository.

    Raises:
        RepositoryError: There is none, or it cannot be read.
    """
    live = Repository(repository)
    active = live.active()
    if CLIP_MODEL not in active:
        raise ExportError(
            f"--repository {repository}: expected a repository with a release, got none; export "
            f"one with: fgmclip export CHECKPOINT --repository {repository} --precision auto"
        )
    return Released(repository, live.manifest(active[CLIP_MODEL]))


def cached_release(
    model: str, *, device: Device, quick: bool, cache: Path, report: Report
) -> Released:
    """Return a release of a model from the cache, exported if it is not there.

    Args:
        model: Checkpoint, or preset: `demo` is trained, others get random weights with outlier
            channels.
        device: Where it runs. On a GPU that is TensorRT for RTX in fp16, which the server of this
            program can load.
        quick: Whether fp32 will do, if no proven rung is there.
        cache: Folder that outlives the run.
        report: Called with what is done next.

    Raises:
        GateError: The gate refused every rung.
        ExportError: The export failed.
    """
    if device == "cuda":
        return _cached(model, "rtx", "fp16", cache, report)
    proven = not quick or _folder(model, "cpu", AUTO, cache).is_dir()
    return _cached(model, "cpu", AUTO if proven else PLAIN, cache, report)


def _cached(model: str, target: str, precision: str, cache: Path, report: Report) -> Released:
    folder = _folder(model, target, precision, cache)
    if not folder.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        remove_temporaries(cache, abandoned_seconds=ABANDONED_SECONDS)
        with making_folder(folder) as made:
            _export(model, target, precision, made, report)
    return open_release(folder)


def _folder(model: str, target: str, precision: str, cache: Path) -> Path:
    path = DEMO_CHECKPOINT if model == "demo" else Path(model)
    weights = file_sha256(path) if path.is_file() else "random"
    facts = describe_machine()
    versions = {name: _version(name) for name in TOOLS}
    compiled = native.module_file()
    key = short_hash(
        [
            ("model", model if weights == "random" else ""),
            ("weights", weights),
            ("target", target),
            ("precision", precision),
            ("code", code_version(ROOMS)),
            # Goes into the release as it was built, perhaps from other sources.
            ("kernels", "none" if compiled is None else file_sha256(compiled)),
            # Precision and threads were chosen by what was fast here.
            ("machine", f"{facts['processor']} {facts['cores']}"),
            ("tools", str(versions)),
        ]
    )
    return cache / f"release-{key}"


def _export(model: str, target: str, precision: str, made: Path, report: Report) -> None:
    # A file, not a second pipe: what nobody reads while the first is read would fill up.
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
        with subprocess.Popen(
            [sys.executable, "-m", export_process.__name__, model, target, precision, str(made)],
            stdout=subprocess.PIPE,
            stderr=errors,
            encoding="utf-8",
            errors="replace",
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                report(f"export {model}, {precision}: {line.strip()}")
        status = process.returncode
        errors.seek(0)
        message = errors.read().strip()
    if status == GateError.exit_code:
        raise GateError(message.splitlines()[-1] if message else f"{precision} was refused")
    if status:
        last = message.splitlines()[-1] if message else f"exit status {status}"
        raise ExportError(f"export of {model} as {precision}: {last}")


def _chain_text(verdict: Verdict, clips: int) -> str:
    facts = [f"centred cosine {verdict.cosine:.4f}", f"identity {verdict.identity:.1%}"]
    if verdict.agreement is not None:
        facts.append(f"top-1 agreement {verdict.agreement:.1%}")
    return f"{verdict.answer} ({', '.join(facts)}, {clips} clips)"


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "none"
