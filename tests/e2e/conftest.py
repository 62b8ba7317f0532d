"""One real server on the demo model, shared by the end-to-end tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fgmclip.client import ActionClient
from fgmclip.export.release import export_release
from fgmclip.export.sources import open_model
from fgmclip.kernels.cuda import binary
from fgmclip.kernels.cuda.abi import KERNELS
from fgmclip.kernels.errors import BuildError
from fgmclip.model.network import FgmClip
from fgmclip.serve import EmbeddedServer, ServeError, find_tritonserver

MovingClip = Callable[..., NDArray[np.uint8]]


@pytest.fixture(scope="session")
def tritonserver() -> None:
    """Skip loudly where there is no Triton server."""
    try:
        find_tritonserver()
    except ServeError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def model() -> FgmClip:
    """The shipped demo model in PyTorch."""
    return open_model("demo")


@pytest.fixture(scope="session")
def repository(model: FgmClip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with one release of the demo."""
    path = tmp_path_factory.mktemp("demo") / "repository"
    export_release(model, path)
    return path


@pytest.fixture(scope="session")
def server(tritonserver: None, repository: Path) -> Iterator[EmbeddedServer]:
    """A real server on that repository."""
    with EmbeddedServer(repository) as running:
        yield running


@pytest.fixture(scope="session")
def client(server: EmbeddedServer) -> Iterator[ActionClient]:
    """A client of that server."""
    with ActionClient(server.url) as connected:
        yield connected


@pytest.fixture(scope="session")
def moving_clip() -> MovingClip:
    """Draw RGB frames u8 [frames,H,W,3] from a seed: smooth noise under a patch that moves."""

    def draw(seed: int, frames: int = 9) -> NDArray[np.uint8]:
        height, width = 96, 128
        random = np.random.default_rng(seed)
        coarse = random.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
        clip = np.repeat(np.kron(coarse, np.ones((8, 8, 1), np.uint8))[None], frames, axis=0)
        patch = random.integers(0, 256, (24, 24, 3), dtype=np.uint8)
        position = np.array([random.integers(0, height - 24), random.integers(0, width - 24)])
        velocity = random.integers(-5, 6, 2)
        for frame in clip:
            top, left = np.clip(position, 0, (height - 24, width - 24))
            frame[top : top + 24, left : left + 24] = patch
            position = position + velocity
        return clip

    return draw


@pytest.fixture
def fat_binary(kernel_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an export find compiled kernels: those of this machine, or what stands in for them."""
    try:
        binary.find_binary(KERNELS)
    except BuildError:
        monkeypatch.setenv(binary.CACHE_VARIABLE, str(kernel_cache))
