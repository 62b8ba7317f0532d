"""The head of an engine file: fabricated ones of other libraries, versions and GPUs."""

from __future__ import annotations

from pathlib import Path

import pytest

from fgmclip.serve.runtimes.libraries import LibraryName
from fgmclip.serve.runtimes.plan_file import HEAD_BYTES, PlanHead, plan_fault, read_plan_head

TENSORRT = (10, 13, 0, 35)
RTX = (1, 7, 1, 116)


def head(tag: bytes, version: tuple[int, ...], mask: int = 0) -> bytes:
    return (tag + bytes(20) + bytes(version) + tag + bytes([mask])).ljust(HEAD_BYTES + 60, b"\0")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (head(b"ftrt", TENSORRT), PlanHead("tensorrt", TENSORRT)),
        (head(b"vtrt", RTX, 0b1100), PlanHead("rtx", RTX, (86, 89))),
        (head(b"vtrt", RTX, 0b1111110), PlanHead("rtx", RTX, (80, 86, 89, 120, 121), later=True)),
        # The mask was seen in 1.7 alone: nothing is claimed of another version's.
        (head(b"vtrt", (1, 8, 0, 1), 0b1100), PlanHead("rtx", (1, 8, 0, 1))),
        (head(b"onnx", TENSORRT), None),
        (b"ftrt" + b"\1" + bytes(60), None),
        (b"ftrt", None),
        (b"", None),
    ],
)
def test_a_head_is_read_as_far_as_its_layout_is_known(
    data: bytes, expected: PlanHead | None, tmp_path: Path
) -> None:
    assert read_plan_head(data) == expected
    path = tmp_path / "model.plan"
    path.write_bytes(data)
    assert read_plan_head(path) == expected


def test_an_engine_of_this_version_and_gpu_has_no_fault() -> None:
    for sm in (86, 89, None):
        found = read_plan_head(head(b"vtrt", RTX, 0b1100))
        assert plan_fault(found, library="rtx", version=RTX, sm=sm) is None
    found = read_plan_head(head(b"ftrt", TENSORRT))
    assert plan_fault(found, library="tensorrt", version=TENSORRT, sm=90) is None


def test_a_portable_engine_runs_on_later_gpus() -> None:
    found = read_plan_head(head(b"vtrt", RTX, 0b1111110))
    assert plan_fault(found, library="rtx", version=RTX, sm=130) is None
    assert plan_fault(found, library="rtx", version=RTX, sm=75) is not None


@pytest.mark.parametrize(
    ("data", "library", "version", "sm", "message"),
    [
        (
            head(b"ftrt", (10, 9, 0, 34)),
            "tensorrt",
            TENSORRT,
            89,
            "expected an engine of TensorRT 10.13.0.35, got one of TensorRT 10.9.0.34; build it "
            "again on this machine with 'fgmclip engine build', or install TensorRT 10.9.0.34",
        ),
        (
            head(b"vtrt", RTX, 0b100),
            "rtx",
            RTX,
            89,
            "expected an engine for this GPU's compute capability 8.9, got one for 8.6; build it "
            "again on this machine with 'fgmclip engine build' --sm 89",
        ),
        (
            head(b"vtrt", RTX, 0b100),
            "tensorrt",
            TENSORRT,
            89,
            "expected an engine of TensorRT 10.13.0.35, got one of TensorRT for RTX 1.7.1.116; "
            "build it again on this machine with 'fgmclip engine build' --library tensorrt",
        ),
        (
            b"\0" * 100,
            "rtx",
            RTX,
            None,
            "expected an engine of TensorRT for RTX 1.7.1.116, got a file that is no engine or a "
            "damaged one; build it again on this machine with 'fgmclip engine build'",
        ),
    ],
)
def test_a_fault_names_what_is_here_what_came_and_the_remedy(
    data: bytes, library: LibraryName, version: tuple[int, ...], sm: int | None, message: str
) -> None:
    assert plan_fault(read_plan_head(data), library=library, version=version, sm=sm) == message
