"""Where the fat binary is looked for, what makes it one to trust, and which GPU runs what of it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from fgmclip.kernels.cuda import binary as module
from fgmclip.kernels.cuda.binary import (
    CACHE_VARIABLE,
    NAME,
    BinaryRecord,
    FatBinary,
    cache_path,
    copy_binary,
    find_binary,
    read_binary,
    record_path,
    source_hash,
)
from fgmclip.kernels.errors import BuildError


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Return where the binary may lie, beside the module and in the cache, for a source of ours."""
    source = tmp_path / "csrc" / "cuda" / "kernels.cu"
    source.parent.mkdir(parents=True)
    source.write_text("// nothing", encoding="utf-8")
    monkeypatch.setattr(module, "SOURCE", source)
    monkeypatch.setattr(module, "__file__", str(tmp_path / "cuda" / "binary.py"))
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cuda" / NAME, cache_path(source_hash(source))


def put(path: Path, binary: FatBinary, *, source: str | None = None) -> BinaryRecord:
    """Write a binary with its record, made from the source that is here or from another."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"a fat binary")
    record = replace(
        binary.record,
        source_sha256=source or source_hash(module.SOURCE),
        binary_sha256=hashlib.sha256(b"a fat binary").hexdigest(),
    )
    record_path(path).write_text(record.to_json(), encoding="utf-8")
    return record


def test_the_one_beside_the_module_comes_first(
    places: tuple[Path, Path], binary: FatBinary
) -> None:
    beside, cached = places
    put(cached, binary)
    assert find_binary(["motion_f32"]).path == cached
    record = put(beside, binary)
    found = find_binary(["motion_f32"])
    assert (found.path, found.record) == (beside, record)
    assert found.read() == b"a fat binary"


def test_one_of_an_older_source_is_passed_over(
    places: tuple[Path, Path], binary: FatBinary
) -> None:
    beside, cached = places
    put(beside, binary, source="1" * 64)
    put(cached, binary)
    assert find_binary([]).path == cached


def test_the_cache_keeps_the_binary_of_each_source(places: tuple[Path, Path]) -> None:
    before = places[1]
    header = module.SOURCE.with_name("resize.cuh")
    header.write_text("// a header", encoding="utf-8")
    with_header = cache_path(source_hash(module.SOURCE))
    header.write_text("// another", encoding="utf-8")
    assert len({before, with_header, cache_path(source_hash(module.SOURCE))}) == 3
    assert before.parent.parent == with_header.parent.parent


def test_a_release_needs_no_source(
    places: tuple[Path, Path], binary: FatBinary, tmp_path: Path
) -> None:
    beside, _ = places
    put(beside, binary, source="1" * 64)
    (tmp_path / "csrc" / "cuda" / "kernels.cu").unlink()
    assert find_binary([]).path == beside
    beside.unlink()
    with pytest.raises(BuildError, match=r"got none at .*; export the release again where"):
        find_binary([])


def test_a_release_carries_a_copy(
    places: tuple[Path, Path], binary: FatBinary, tmp_path: Path
) -> None:
    beside, cached = places
    put(cached, binary)
    beside.parent.mkdir()
    copy_binary(find_binary([]), beside.parent)
    cached.unlink()
    (tmp_path / "csrc" / "cuda" / "kernels.cu").unlink()
    assert find_binary(["motion_f32"]).path == beside


def test_without_any_the_places_and_the_remedy_are_named(places: tuple[Path, Path]) -> None:
    beside, cached = places
    with pytest.raises(BuildError) as caught:
        find_binary([])
    assert str(caught.value) == (
        f"CUDA kernels: expected a fat binary, got none at {beside}; none at {cached}; "
        "run 'fgmclip kernels build' on a machine with nvcc"
    )


def test_a_binary_that_is_not_whole_is_refused(
    places: tuple[Path, Path], binary: FatBinary
) -> None:
    _, cached = places
    record = put(cached, binary)
    cached.write_bytes(b"a fat bin")
    with pytest.raises(BuildError, match="that is not the one of its record"):
        read_binary(cached)
    put(cached, binary)
    for text in ("", "{}", "[]", "{", json.dumps({"format": 99})):
        record_path(cached).write_text(text, encoding="utf-8")
        with pytest.raises(BuildError, match="without a readable record"):
            read_binary(cached)
    unknown = json.loads(record.to_json()) | {"colour": "red"}
    record_path(cached).write_text(json.dumps(unknown), encoding="utf-8")
    with pytest.raises(BuildError, match="without a readable record"):
        read_binary(cached)
    record_path(cached).unlink()
    with pytest.raises(BuildError, match="without a readable record"):
        read_binary(cached)


def test_a_binary_without_a_kernel_is_refused(places: tuple[Path, Path], binary: FatBinary) -> None:
    put(places[1], binary)
    with pytest.raises(BuildError, match="without sharpen_f32; run"):
        find_binary(["motion_f32", "sharpen_f32"])


def test_a_record_is_read_back_as_it_was(binary: FatBinary) -> None:
    assert BinaryRecord.from_json(binary.record.to_json()) == binary.record


@pytest.mark.parametrize(
    ("capability", "code"),
    [
        ((7, 0), None),
        ((7, 5), "sm_75"),
        ((8, 0), "sm_80"),
        ((8, 7), "sm_86"),
        ((8, 9), "sm_86"),
        ((9, 0), "sm_90"),
        ((10, 3), "compute_90"),
        ((12, 1), "compute_90"),
    ],
)
def test_a_gpu_runs_the_newest_code_that_it_can(
    binary: FatBinary, capability: tuple[int, int], code: str | None
) -> None:
    assert binary.record.code_for(capability) == code
