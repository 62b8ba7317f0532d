"""Fixtures that every room's tests share."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fgmclip.kernels.cuda import binary
from fgmclip.kernels.cuda.abi import KERNELS
from fgmclip.spec import ModelSpec, preset

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Return the folder of real clips, flow ground truth and hostile files, or skip."""
    folder = Path(os.environ.get("FGMCLIP_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no test data in {folder}: set FGMCLIP_TEST_DATA to its folder")
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium, or skip; not for longer than a module, as it holds an event loop."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.skip("chromium is not installed (Debian: apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        # A browser of the root user has no sandbox; it sees our tests' pages alone.
        launched = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture(scope="session")
def contrast() -> str:
    """JavaScript that collects texts of less than WCAG AA's contrast in `found`."""
    return (ROOT / "tests" / "contrast.js").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def small_spec() -> ModelSpec:
    """A spec of the demo's kind, a tenth of its size."""
    return preset("demo").replace(
        name="tiny",
        visual={
            "architecture": "custom",
            "config": {
                "embed_dim": 32,
                "vision_cfg": {
                    "image_size": 32,
                    "layers": 1,
                    "width": 32,
                    "head_width": 16,
                    "patch_size": 16,
                },
                "text_cfg": {
                    "context_length": 8,
                    "vocab_size": 64,
                    "width": 16,
                    "heads": 2,
                    "layers": 1,
                },
            },
            "image_size": 32,
            "width": 32,
        },
        motion={"encoder": "resnet10_narrow", "size": 32, "width": 32},
        clip={"frames": 2, "window_seconds": 0.5},
        align={"method": "attention", "heads": 2, "projection_width": 8},
        fusion={"method": "mvsm", "width": 16},
    )


@pytest.fixture(scope="session")
def kernel_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with a fat binary in it: nothing runs what is inside."""
    cache = tmp_path_factory.mktemp("kernels")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(binary.CACHE_VARIABLE, str(cache))
        path = binary.cache_path(binary.source_hash())
    path.parent.mkdir(parents=True)
    path.write_bytes(b"code")
    figures = tuple(
        binary.KernelFigures(kernel, "sm_90", 32, 0, 0, 0, 0, 1, 256) for kernel in KERNELS
    )
    record = binary.BinaryRecord(
        source_sha256=binary.source_hash(),
        binary_sha256=hashlib.sha256(b"code").hexdigest(),
        compiler="13.0",
        flags=(),
        architectures=("sm_90",),
        virtual=(),
        left_out=(),
        figures=figures,
    )
    binary.record_path(path).write_text(record.to_json(), encoding="utf-8")
    return cache
