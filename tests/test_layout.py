"""The layout: links, import rules, and what imports without torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = (
    *("storage", "spec", "kernels", "video"),
    *("model", "training", "serve", "client", "export", "bench"),
)
DATA = ("triton_repo", "assets")
TORCHLESS = ("storage", "spec", "kernels", "video", "serve", "client")
HEAVY = ("torch", "torchvision", "open_clip", "timm")


@pytest.mark.parametrize("name", ROOMS + DATA)
def test_a_package_folder_is_the_top_level_folder_of_that_name(name: str) -> None:
    assert (ROOT / "src" / "fgmclip" / name).samefile(ROOT / name)


@pytest.mark.parametrize("name", [*ROOMS, "triton_repo"])
def test_a_room_says_what_belongs_in_it(name: str) -> None:
    assert (ROOT / name / "README.md").read_text(encoding="utf-8").startswith(f"# {name}\n")


def modules_of(room: str) -> list[str]:
    return [
        ".".join(("fgmclip", room, *path.relative_to(ROOT / room).with_suffix("").parts))
        for path in sorted((ROOT / room).rglob("*.py"))
        if path.name != "__init__.py"
    ]


@pytest.mark.parametrize("room", TORCHLESS)
def test_a_room_without_torch_imports_without_it(room: str) -> None:
    script = (
        "import importlib, sys\n"
        # A None in sys.modules makes an import fail as if the package were absent.
        f"sys.modules.update(dict.fromkeys({HEAVY!r}))\n"
        f"for name in {modules_of(room)!r}: importlib.import_module(name)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_rooms_import_only_what_the_table_allows() -> None:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        check=False,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stdout
