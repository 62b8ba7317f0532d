"""A step's folder: its config, what its backend needs, where it runs, what it is told."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fgmclip.export.lint.engine import check_engine, check_gate_folder
from fgmclip.export.lint.finding import EXPORT_AGAIN, Finding
from fgmclip.export.lint.graph import check_graph
from fgmclip.export.manifest import ReleaseManifest
from fgmclip.export.names import PARTS
from fgmclip.export.targets import ENGINE_FILE, GPU_PYTHON_STEPS, PLAN_FILE, instance_kind
from fgmclip.kernels.cuda.abi import KERNELS
from fgmclip.kernels.cuda.binary import NAME, read_binary
from fgmclip.kernels.errors import BuildError
from fgmclip.serve.runtimes.runtime import OPTIONS
from fgmclip.spec.labels import clean_label

BACKENDS = {"python": "model.py", "onnxruntime": ENGINE_FILE, "tensorrt": PLAN_FILE}
"""The file that a backend looks for in a version folder."""

CONFIG = "config.pbtxt"


def check_step(folder: Path, config: Any, manifest: ReleaseManifest | None) -> Iterator[Finding]:
    """Check everything about a step but its hashes and its wires.

    Args:
        folder: Of the step.
        config: Triton's `ModelConfig` of it.
        manifest: Of its release, if that can be read.
    """
    path = f"{folder.name}/{CONFIG}"
    step = folder.name.partition("__")[0]
    yield from _check_tensors(path, config)
    yield from _check_batching(path, config, step, manifest)
    yield from check_labels(folder, config, manifest.public.spec.labels if manifest else None)
    yield from _check_warm_up(folder, config)
    versions = version_folders(folder)
    if not versions:
        yield Finding("version-folder", folder.name, "a version folder, 1", "none", EXPORT_AGAIN)
    if config.backend not in BACKENDS:
        yield Finding(
            "backend",
            path,
            f"backend {' or '.join(BACKENDS)}",
            config.backend or config.platform or "none",
            EXPORT_AGAIN,
        )
        return
    for version in versions:
        yield from _check_files(version, config)
        yield from _check_instances(path, version, config, step, manifest)
        if manifest is not None and step in PARTS:
            yield from check_engine(version, config, step, manifest)
    if manifest is not None:
        yield from _check_parameters(path, config, step, manifest)
        if step == "classify":
            yield from check_gate_folder(folder, manifest)


def check_name(folder: Path, config: Any) -> Iterator[Finding]:
    """Check that a model is called as its folder, as Triton demands."""
    if config.name != folder.name:
        yield Finding(
            "name",
            f"{folder.name}/{CONFIG}",
            f"name {folder.name}, the folder's",
            config.name or "none",
            f'write name: "{folder.name}", or {EXPORT_AGAIN}',
        )


def check_labels(folder: Path, config: Any, labels: Sequence[str] | None) -> Iterator[Finding]:
    """Check the label files of a model's outputs.

    Args:
        folder: Of the model; a label file lies in it.
        config: Its config.
        labels: What the public manifest says; None if it cannot be read.
    """
    for name in sorted({item.label_filename for item in config.output if item.label_filename}):
        file = folder / name
        if not file.is_file():
            yield Finding(
                "labels",
                f"{folder.name}/{name}",
                "the label file that an output names",
                "none",
                EXPORT_AGAIN,
            )
            continue
        lines = _read_lines(file)
        if labels is not None and lines != list(labels):
            expected, got = f"{len(labels)} labels", f"{len(lines)}"
            if len(lines) == len(labels):
                row = next(row for row in range(len(lines)) if lines[row] != labels[row])
                expected, got = f"{labels[row]!r} in line {row + 1}", repr(lines[row])
            yield Finding(
                "labels",
                f"{folder.name}/{name}",
                f"{expected}, as the public manifest says",
                got,
                EXPORT_AGAIN,
            )


def _read_lines(file: Path) -> list[str]:
    """Return the labels of a file, as Triton reads it: one up to each line feed.

    Not `splitlines`, which breaks a label at U+2028 and others.
    """
    text = file.read_bytes().decode("utf-8", "replace")
    return [clean_label(line) for line in text.removesuffix("\n").split("\n") if text]


def version_folders(folder: Path) -> list[Path]:
    """Return the version folders of a model: Triton looks at whole numbers only."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and path.name.isdigit())


def _check_tensors(path: str, config: Any) -> Iterator[Finding]:
    for tensor in (*config.input, *config.output):
        wrong = [size for size in tensor.dims if size != -1 and size < 1]
        if not tensor.data_type or wrong or not (tensor.dims or config.max_batch_size):
            kind = tensor.DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_number
            yield Finding(
                "tensor",
                path,
                f"{tensor.name}: a type, and dims that are -1 or at least 1",
                f"{kind[tensor.data_type].name} {list(tensor.dims)}",
                EXPORT_AGAIN,
            )


def _check_batching(
    path: str, config: Any, step: str, manifest: ReleaseManifest | None
) -> Iterator[Finding]:
    largest = config.max_batch_size
    preferred = [size for size in config.dynamic_batching.preferred_batch_size if size > largest]
    batching = config.dynamic_batching
    # Without a batch axis a queue may still be bounded.
    bounds = batching.HasField("default_queue_policy")
    if preferred or (config.HasField("dynamic_batching") and not bounds and not largest):
        yield Finding(
            "batching",
            path,
            f"preferred batches up to max_batch_size {largest}, which is above 0",
            f"{preferred or 'dynamic batching without a batch axis'}",
            "lower preferred_batch_size or raise max_batch_size",
        )
    if manifest is None or step not in PARTS:
        return
    limits = manifest.public.limits
    needed = limits.max_tracks if step == "fusion_head" else limits.max_rows
    if largest < needed:
        yield Finding(
            "max-batch",
            path,
            f"max_batch_size of at least {needed}, the rows that the public manifest allows",
            str(largest),
            f"raise max_batch_size to {needed}, or {EXPORT_AGAIN}",
        )


def _check_warm_up(folder: Path, config: Any) -> Iterator[Finding]:
    tensors = {item.name: item for item in config.input}
    for sample in config.model_warmup:
        path = f"{folder.name}/{CONFIG}"
        wrong = []
        missing = {item.name for item in config.input if not item.optional} - set(sample.inputs)
        wrong += [f"{name} left out" for name in sorted(missing)]
        if sample.batch_size > max(1, config.max_batch_size):
            wrong.append(f"batch_size {sample.batch_size} above {config.max_batch_size}")
        for name, data in sample.inputs.items():
            tensor = tensors.get(name)
            if tensor is None:
                wrong.append(f"{name}, which is no input")
            elif data.data_type != tensor.data_type or not _fits(data.dims, tensor.dims):
                wrong.append(f"{name} of another type or shape, dims {list(data.dims)}")
            if data.input_data_file and not (folder / "warmup" / data.input_data_file).is_file():
                wrong.append(f"{name} from warmup/{data.input_data_file}, which is not there")
        if wrong:
            yield Finding(
                "warm-up",
                path,
                f"{sample.name or 'warm-up'}: the step's inputs, by name, type and shape",
                "; ".join(wrong),
                EXPORT_AGAIN,
            )


def _fits(sizes: Sequence[int], dims: Sequence[int]) -> bool:
    return len(sizes) == len(dims) and all(
        size > 0 and dim in (-1, size) for size, dim in zip(sizes, dims, strict=True)
    )


def _check_files(version: Path, config: Any) -> Iterator[Finding]:
    where = f"{version.parent.name}/{version.name}"
    needed = [BACKENDS[config.backend]]
    needed += [
        config.parameters[key].string_value
        for key in ("engine", "recipe", "classes")
        if key in config.parameters
    ]
    for name in dict.fromkeys(needed):
        if not (version / name).is_file():
            yield Finding(
                "backend-file",
                f"{where}/{name}",
                f"the file that the step's backend, {config.backend}, reads",
                "none",
                EXPORT_AGAIN,
            )
        elif name.endswith(".onnx"):
            yield from check_graph(version / name, f"{where}/{name}", config)
        elif name.endswith(".npz"):
            yield from _check_classes(version / name, f"{where}/{name}", config)


def _check_classes(file: Path, where: str, config: Any) -> Iterator[Finding]:
    labels = next((item.label_filename for item in config.output if item.label_filename), "")
    lines = file.parent.parent / labels
    if not labels or not lines.is_file():
        return
    count = len(_read_lines(lines))
    try:
        # NumPy leaves a damaged file open that it opened itself.
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as arrays:
            rows = {
                name: len(arrays[name])
                for name in ("linear_weight", "linear_bias", "text_embeddings")
                if name in arrays
            }
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        yield Finding("classes", where, "a class file", str(error), EXPORT_AGAIN)
        return
    if set(rows.values()) != {count}:
        yield Finding(
            "classes",
            where,
            f"{count} classes, the lines of {labels}",
            ", ".join(f"{name} {size}" for name, size in rows.items()) or "no classes",
            f"replace the class file and {labels} together, or {EXPORT_AGAIN}",
        )


def _check_instances(
    path: str, version: Path, config: Any, step: str, manifest: ReleaseManifest | None
) -> Iterator[Finding]:
    groups = config.instance_group
    allowed = {"KIND_AUTO", "KIND_CPU", "KIND_GPU"}
    if manifest is not None:
        allowed = {instance_kind(step, manifest.target)}
    target = f" for the target {manifest.target}" if manifest else ""
    kinds = [group.Kind.Name(group.kind) for group in groups]
    # Without a group Triton decides by what it finds on the machine.
    if not kinds or not allowed.issuperset(kinds):
        yield Finding(
            "instance-kind",
            path,
            f"instance groups of {' or '.join(sorted(allowed))}{target}",
            ", ".join(kinds) or "none",
            f"set the kind, or {EXPORT_AGAIN}",
        )
    counts = [group.count for group in groups]
    if any(count < 1 for count in counts):
        yield Finding(
            "instance-count",
            path,
            "at least one instance a group",
            ", ".join(map(str, counts)),
            "set count: 1 or more",
        )
    if step not in GPU_PYTHON_STEPS or {"KIND_AUTO", "KIND_GPU"}.isdisjoint(kinds):
        return
    key = "FORCE_CPU_ONLY_INPUT_TENSORS"
    value = config.parameters[key].string_value if key in config.parameters else "none"
    if value != "no":
        yield Finding(
            "gpu-tensors",
            path,
            f'parameter {key} "no": frames on a GPU stay there',
            value,
            f"set the parameter, or {EXPORT_AGAIN}",
        )
    kernels = Path("fgmclip", "kernels", "cuda", NAME)
    try:
        read_binary(version / kernels, kernels=KERNELS)
    except BuildError as error:
        yield Finding(
            "fat-binary",
            f"{version.parent.name}/{version.name}/{kernels}",
            "the CUDA kernels, whole and with their record",
            str(error),
            f"run 'fgmclip kernels build', then {EXPORT_AGAIN}",
        )


def _check_parameters(
    path: str, config: Any, step: str, manifest: ReleaseManifest
) -> Iterator[Finding]:
    yield from _check_runtime(path, config, step)
    public = manifest.public
    expected: dict[str, object] = {}
    if step == "window":
        expected = {
            "window": public.spec.clip.frames,
            "max_tracks": public.limits.max_tracks,
            "embedding_tag": public.embedding_tag,
        }
    if step in ("preprocess", "preprocess_edge"):
        limits = public.limits.model_dump()
        expected = {"limits": limits | {"window": public.spec.clip.frames}}
    if step == "classify":
        expected = {"model_tag": public.model_tag}
    for name, value in expected.items():
        text = config.parameters[name].string_value if name in config.parameters else "none"
        try:
            got: object = text if isinstance(value, str) else json.loads(text)
        except ValueError:
            got = text
        if got != value:
            yield Finding(
                "parameter",
                path,
                f"{name} {value}, as the public manifest says",
                text,
                EXPORT_AGAIN,
            )


def _check_runtime(path: str, config: Any, step: str) -> Iterator[Finding]:
    if step not in PARTS or config.backend != "python":
        return
    # Not `parameters[...]`, which would add the key.
    told = {key: item.string_value for key, item in config.parameters.items()}
    runtime = told.pop("runtime", "none")
    told.pop("engine", None)
    unknown = sorted(set(told) - set(OPTIONS.get(runtime, ())))
    if runtime not in OPTIONS or unknown:
        yield Finding(
            "runtime",
            path,
            f"runtime {' or '.join(OPTIONS)}, with options that it knows",
            " with ".join([runtime, *unknown]),
            EXPORT_AGAIN,
        )
