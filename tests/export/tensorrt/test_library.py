"""The libraries by name, and what is said where they are not."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest

from fgmclip.export.tensorrt.errors import LibraryError
from fgmclip.export.tensorrt.library import Library, load_library
from fgmclip.serve.runtimes.libraries import version_tuple


def test_a_missing_library_is_told_with_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(LibraryError, match=r"expected the module tensorrt.*pip install"):
        load_library("tensorrt")


def test_the_folder_that_type_stubs_leave_is_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", ModuleType("tensorrt"))
    with pytest.raises(LibraryError, match="an empty one, as type stubs leave it"):
        load_library("tensorrt")


def test_a_version_from_before_strong_typing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    old = SimpleNamespace(__version__="8.6.1", Builder=object)
    monkeypatch.setitem(sys.modules, "tensorrt", old)
    with pytest.raises(LibraryError, match=r"expected version 10\.3 or newer, got 8\.6\.1"):
        load_library("tensorrt")


def test_the_real_library_says_its_name_and_version(rtx: Library) -> None:
    assert rtx.title == f"TensorRT for RTX {rtx.version}"
    assert len(version_tuple(rtx.version)) == 4


def test_a_logger_keeps_warnings_and_errors_alone(rtx: Library) -> None:
    lines: list[str] = []
    logger = rtx.logger(lines)
    severity = rtx.module.ILogger
    logger.log(severity.INFO, "chatter")
    logger.log(severity.WARNING, "beware")
    logger.log(severity.ERROR, "broken")
    assert lines == ["beware", "broken"]
