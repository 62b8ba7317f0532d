"""A repository of the shipped demo model, kept in the user's cache."""

from __future__ import annotations

import os
from pathlib import Path

from fgmclip import __version__
from fgmclip.export.manifest import file_sha256
from fgmclip.export.release import export_release
from fgmclip.export.repository import Repository
from fgmclip.export.sources import DEMO_CHECKPOINT, open_model


def demo_repository() -> Path:
    """Return the demo's repository, exported once for each version and checkpoint."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "fgmclip"
    path = cache / f"demo-{__version__}-{file_sha256(DEMO_CHECKPOINT)[:12]}"
    if not path.is_dir() or not Repository(path).active():
        export_release(open_model("demo"), path)
    return path
