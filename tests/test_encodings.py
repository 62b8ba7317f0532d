"""No text goes through the locale: every file and pipe that holds text says which encoding.

Ruff's PLW1514 knows the types of few receivers (`(folder / NAME).write_text` escapes it), so this
reads the calls by their names.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = (
    *("assets", "bench", "client", "export", "kernels", "model", "serve", "spec", "src"),
    *("storage", "tests", "training", "triton_repo", "video"),
)
FOREIGN = frozenset({"Image", "av", "os", "webbrowser"})
"""Modules whose `open` opens no text."""


def calls_without_encoding(tree: ast.AST) -> Iterator[int]:
    """Yield the lines of calls that would take the locale's encoding."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _wants_encoding(node):
            keywords = {keyword.arg for keyword in node.keywords}
            if not keywords & {"encoding", None}:
                yield node.lineno


def _wants_encoding(call: ast.Call) -> bool:
    function = call.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    method = isinstance(function, ast.Attribute)
    if any(keyword.arg in ("text", "universal_newlines") for keyword in call.keywords):
        return True
    if name == "read_text":
        return method and not call.args
    if name == "write_text":
        return method and len(call.args) == 1
    if name in ("open", "fdopen", "TemporaryFile", "NamedTemporaryFile"):
        return _opens_text(call, method)
    return name == "FileHandler"


def _opens_text(call: ast.Call, method: bool) -> bool:
    function = call.func
    assert isinstance(function, (ast.Attribute, ast.Name))
    if isinstance(function, ast.Attribute):
        owner = function.value.id if isinstance(function.value, ast.Name) else ""
        if function.attr == "open" and owner in FOREIGN:
            return False
    temporary = "Temporary" in ast.unparse(function)
    place = 0 if (method and not ast.unparse(function).endswith("fdopen")) or temporary else 1
    modes = [keyword.value for keyword in call.keywords if keyword.arg == "mode"]
    modes += call.args[place : place + 1]
    if not modes:
        # A project's own `open()` takes no mode either; `Path.open()` without one is PLW1514's.
        return not method and not temporary and not isinstance(function, ast.Attribute)
    mode = modes[0]
    return isinstance(mode, ast.Constant) and isinstance(mode.value, str) and "b" not in mode.value


@pytest.mark.parametrize("folder", FOLDERS)
def test_text_says_its_encoding(folder: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        if not path.is_symlink()
        for line in calls_without_encoding(ast.parse(path.read_bytes()))
    ]
    assert not found, 'name the encoding: encoding="utf-8"'


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("path.read_text()", True),
        ("(folder / NAME).write_text(text)", True),
        ("path.write_text(text, encoding='utf-8')", False),
        ("read_text(path)", False),
        ("open(path)", True),
        ("open(path, 'rb')", False),
        ("(folder / NAME).open('w')", True),
        ("av.open(path, 'w')", False),
        ("os.fdopen(1, 'w')", True),
        ("TemporaryFile()", False),
        ("TemporaryFile('w+')", True),
        ("subprocess.run(command, text=True)", True),
        ("subprocess.run(command, **options)", False),
    ],
)
def test_the_check_knows_text(code: str, expected: bool) -> None:
    assert bool(list(calls_without_encoding(ast.parse(code)))) is expected
