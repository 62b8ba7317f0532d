"""A repository of the shipped demo model, kept in the user's cache."""

from __future__ import annotations

from pathlib import Path

from fgmclip.export.configs import SKELETON
from fgmclip.export.manifest import folder_hashes, short_hash
from fgmclip.export.release import export_release
from fgmclip.export.repository import Repository
from fgmclip.export.sources import DEMO_CHECKPOINT, open_model
from fgmclip.export.steps import PACKAGE
from fgmclip.kernels import native
from fgmclip.serve.runtimes.proof import file_sha256
from fgmclip.storage.cache import cache_folder


def demo_repository() -> Path:
    """Return the demo's repository, exported once for each checkpoint and state of the code."""
    code = [
        item
        for folder in (PACKAGE / "kernels", PACKAGE / "serve", PACKAGE / "storage", SKELETON)
        for item in folder_hashes(folder, folder.name).items()
        if item[0].endswith((".py", ".pbtxt"))
    ]
    compiled = native.module_file()
    if compiled is not None:
        code.append((compiled.name, file_sha256(compiled)))
    definition = [("checkpoint", file_sha256(DEMO_CHECKPOINT)), *code]
    path = cache_folder(f"demo-{short_hash(definition)}")
    if not path.is_dir() or not Repository(path).active():
        export_release(open_model("demo"), path)
    return path
