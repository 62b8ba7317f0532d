"""Fixtures that every room's tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Return the folder of real clips, flow ground truth and hostile files, or skip."""
    folder = Path(os.environ.get("FGMCLIP_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no test data in {folder}: set FGMCLIP_TEST_DATA to its folder")
    return folder
