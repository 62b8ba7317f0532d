"""The server keeps the memory of a request for the next one, unless the operator says otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from fgmclip.serve.binaries import Tritonserver
from fgmclip.serve.process import MEMORY, Installation


def environment(tmp_path: Path) -> Mapping[str, str]:
    binary = Tritonserver(Path("/none"), None)
    return Installation.lay_out(tmp_path, tmp_path, binary, (1, 2), "key").environment


def test_memory_stays_with_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in MEMORY:
        monkeypatch.delenv(name, raising=False)
    given = environment(tmp_path)
    assert {name: given[name] for name in MEMORY} == MEMORY
    # glibc ignores a threshold above this one.
    assert int(MEMORY["MALLOC_MMAP_THRESHOLD_"]) <= 32 * 2**20


def test_the_operators_own_setting_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1000")
    assert environment(tmp_path)["MALLOC_TRIM_THRESHOLD_"] == "1000"
