"""What the head of a serialized TensorRT engine tells, and whether it can run here.

Read before the library sees the file: its own refusal comes late, after the weights were read, and
names no remedy. Needs nothing but Python, so a server can ask before it chooses an engine.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fgmclip.serve.runtimes.libraries import TITLES, LibraryName

HEAD_BYTES = 40

# NVIDIA's trtexec reads the tag, a serialization version of 0 and the version's four bytes at 24
# (samples/common/sampleEngines.cpp, printPlanVersion). TensorRT for RTX writes another tag with
# the version at the same place; that, and its mask of GPUs at 32, was seen in engines of 1.7.1 and
# is held to the real builder by the tests.
_LIBRARY_OF_TAG: dict[bytes, LibraryName] = {b"ftrt": "tensorrt", b"vtrt": "rtx"}
_VERSION = slice(24, 28)
_RTX_MASK = 32
_RTX_SMS = (75, 80, 86, 89, 120, 121)
_RTX_LATER = 1 << len(_RTX_SMS)
_MASK_SEEN_IN = (1, 7)


@dataclass(frozen=True)
class PlanHead:
    """The head of an engine file.

    Attributes:
        library: `tensorrt` or `rtx`.
        version: Version of the library that built it, for example (10, 13, 0, 35).
        sms: Compute capabilities that it was built for; None where the head does not tell.
        later: Whether it also runs on GPUs newer than those.
    """

    library: LibraryName
    version: tuple[int, ...]
    sms: tuple[int, ...] | None = None
    later: bool = False


def read_plan_head(source: Path | bytes) -> PlanHead | None:
    """Return the head of an engine file, or None if it is no engine of a known layout.

    Args:
        source: The file, or its first `HEAD_BYTES` bytes at least.
    """
    if isinstance(source, Path):
        with source.open("rb") as file:
            source = file.read(HEAD_BYTES)
    library = _LIBRARY_OF_TAG.get(source[:4])
    if library is None or len(source) < HEAD_BYTES or source[4:8] != bytes(4):
        return None
    version = tuple(source[_VERSION])
    if library != "rtx" or version[:2] != _MASK_SEEN_IN:
        return PlanHead(library, version)
    mask = source[_RTX_MASK]
    sms = tuple(sm for bit, sm in enumerate(_RTX_SMS) if mask >> bit & 1)
    return PlanHead(library, version, sms, bool(mask & _RTX_LATER))


def plan_fault(
    head: PlanHead | None, *, library: LibraryName, version: tuple[int, ...], sm: int | None
) -> str | None:
    """Return why an engine cannot run here, with the remedy, or None if nothing speaks against it.

    Args:
        head: The file's head.
        library: The library that is here, `tensorrt` or `rtx`.
        version: Its version.
        sm: Compute capability of the GPU that is here, 89 for 8.9; None without a GPU.
    """
    here = f"{TITLES[library]} {_dotted(version)}"
    remedy = "build it again on this machine with 'fgmclip engine build'"
    if head is None:
        return (
            f"expected an engine of {here}, got a file that is no engine or a damaged one; {remedy}"
        )
    came = f"{TITLES[head.library]} {_dotted(head.version)}"
    if head.library != library:
        return f"expected an engine of {here}, got one of {came}; {remedy} --library {library}"
    # A head has one byte for each number.
    if any(built != number & 0xFF for built, number in zip(head.version, version, strict=False)):
        return f"expected an engine of {here}, got one of {came}; {remedy}, or install {came}"
    newer = head.later and sm is not None and sm > max(_RTX_SMS)
    if sm is None or head.sms is None or sm in head.sms or newer:
        return None
    built = ", ".join(map(_capability, head.sms))
    return (
        f"expected an engine for this GPU's compute capability {_capability(sm)}, got one for "
        f"{built}; {remedy} --sm {sm}"
    )


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def _capability(sm: int) -> str:
    return f"{sm // 10}.{sm % 10}"
