"""The shared memory through which the Python backend hands tensors to its steps."""

from __future__ import annotations

import os
import secrets
import shutil

from fgmclip.serve.errors import SharedMemoryError
from fgmclip.serve.supervisor import SHARED_MEMORY

MINIMUM_BYTES = 256 * 2**20
"""One clip of 1080p frames in flight takes 129 MB; containers give 64 MB unless told."""


def region_prefix() -> str:
    """Return a start for region names that no other server on this machine uses."""
    return f"fgmclip_{os.getpid()}_{secrets.token_hex(4)}_"


def require_shared_memory() -> None:
    """Refuse a machine on which steps would die over their first large clip.

    Raises:
        SharedMemoryError: It gives less than `MINIMUM_BYTES`.
    """
    total = shutil.disk_usage(SHARED_MEMORY).total
    if total < MINIMUM_BYTES:
        raise SharedMemoryError(
            f"expected at least {MINIMUM_BYTES // 2**20} MB of shared memory in {SHARED_MEMORY}, "
            f"got {total // 2**20} MB: start the container with --shm-size=1g"
        )
