"""How many blocks of a kernel a multiprocessor holds, calculated without a GPU.

Limits are those of the CUDA C++ Programming Guide, "Compute Capabilities", table "Technical
Specifications per Compute Capability". Units of allocation are those of `cuda_occupancy.h`, which
NVIDIA ships with the toolkit and with which the tests compare this.
"""

from __future__ import annotations

from dataclasses import dataclass

WARP = 32
PARTITIONS = 4
"""Parts of a multiprocessor, each with a quarter of its registers and warps."""

REGISTERS = 64 * 1024
"""Of a multiprocessor, and at most of a block."""

REGISTER_UNIT = 256
"""Registers are given to a warp in multiples of this."""


@dataclass(frozen=True, slots=True)
class Multiprocessor:
    """Limits of one multiprocessor of a compute capability.

    Attributes:
        threads: Resident threads.
        blocks: Resident blocks.
        shared: Shared memory, bytes.
        reserved: Shared memory that the system takes of each block's, bytes.
        shared_unit: Shared memory is given to a block in multiples of this, bytes.
    """

    threads: int
    blocks: int
    shared: int
    reserved: int = 1024
    shared_unit: int = 128


MULTIPROCESSORS: dict[str, Multiprocessor] = {
    "sm_75": Multiprocessor(1024, 16, 64 << 10, reserved=0, shared_unit=256),
    "sm_80": Multiprocessor(2048, 32, 164 << 10),
    "sm_86": Multiprocessor(1536, 16, 100 << 10),
    "sm_89": Multiprocessor(1536, 24, 100 << 10),
    "sm_90": Multiprocessor(2048, 32, 228 << 10),
    "sm_100": Multiprocessor(2048, 32, 228 << 10),
    "sm_120": Multiprocessor(1536, 24, 100 << 10),
}


@dataclass(frozen=True, slots=True)
class Occupancy:
    """What a multiprocessor holds of a kernel.

    Attributes:
        blocks: Resident blocks; 0 if not even one fits.
        fraction: Resident warps, as a share of the most that there can be.
        limits: What there is too little of for one more block: `warps`, `blocks`, `registers`,
            `shared memory`.
    """

    blocks: int
    fraction: float
    limits: tuple[str, ...]


def occupancy(architecture: str, *, threads: int, registers: int, shared: int) -> Occupancy:
    """Return how many blocks of a kernel one multiprocessor holds.

    Args:
        architecture: A key of `MULTIPROCESSORS`.
        threads: Of a block.
        registers: Of a thread.
        shared: Static and dynamic shared memory of a block, bytes.
    """
    limits = MULTIPROCESSORS[architecture]
    warps = _rounded_up(threads, WARP) // WARP
    block_shared = _rounded_up(shared + limits.reserved, limits.shared_unit)
    blocks = {
        "warps": limits.threads // WARP // warps,
        "blocks": limits.blocks,
        "registers": _blocks_by_registers(warps, registers),
        "shared memory": limits.shared // block_shared if block_shared else limits.blocks,
    }
    least = min(blocks.values())
    return Occupancy(
        blocks=least,
        fraction=least * warps / (limits.threads // WARP),
        limits=tuple(name for name, count in blocks.items() if count == least),
    )


def _blocks_by_registers(warps: int, registers: int) -> int:
    warp_registers = _rounded_up(registers * WARP, REGISTER_UNIT)
    if warp_registers == 0:
        return REGISTERS
    # A launch is checked as if its warps were dealt to all partitions alike.
    if warp_registers * _rounded_up(warps, PARTITIONS) > REGISTERS:
        return 0
    return REGISTERS // PARTITIONS // warp_registers * PARTITIONS // warps


def _rounded_up(value: int, unit: int) -> int:
    return -(-value // unit) * unit
