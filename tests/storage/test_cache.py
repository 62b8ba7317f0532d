"""Cache folders: which variable counts, and users without a home."""

from __future__ import annotations

import pwd
from pathlib import Path

import pytest

from fgmclip.storage.cache import cache_folder
from fgmclip.storage.errors import StorageError


@pytest.mark.parametrize(
    ("cache", "home", "expected"),
    [
        ("/c", "/h", "/c/fgmclip/x"),
        ("", "/h", "/h/.cache/fgmclip/x"),
        (None, "/h", "/h/.cache/fgmclip/x"),
        # The XDG Base Directory Specification: "All paths must be absolute", others are ignored.
        ("relative", "/h", "/h/.cache/fgmclip/x"),
    ],
)
def test_a_cache_lies_where_the_specification_says(
    monkeypatch: pytest.MonkeyPatch, cache: str | None, home: str, expected: str
) -> None:
    monkeypatch.setenv("HOME", home)
    if cache is None:
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    else:
        monkeypatch.setenv("XDG_CACHE_HOME", cache)
    assert cache_folder("x") == Path(expected)


def test_a_variable_of_its_own_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/c")
    monkeypatch.setenv("OWN", "/own")
    assert cache_folder("x", override="OWN") == Path("/own")
    monkeypatch.setenv("OWN", "")
    assert cache_folder("x", override="OWN") == Path("/c/fgmclip/x")


def nobody(number: int) -> pwd.struct_passwd:
    raise KeyError(number)


@pytest.mark.parametrize("home", [None, "", "relative"])
def test_a_user_without_home_needs_none_where_the_cache_is_named(
    monkeypatch: pytest.MonkeyPatch, home: str | None
) -> None:
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    if home is None:
        monkeypatch.delenv("HOME", raising=False)
    else:
        monkeypatch.setenv("HOME", home)
    monkeypatch.setenv("XDG_CACHE_HOME", "/c")
    assert cache_folder("x") == Path("/c/fgmclip/x")
    monkeypatch.delenv("XDG_CACHE_HOME")
    with pytest.raises(StorageError, match="set XDG_CACHE_HOME to a folder"):
        cache_folder("x")
