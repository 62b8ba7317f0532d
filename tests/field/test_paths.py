"""Programs that put paths into shell lines see plain ones alone."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fgmclip.kernels.cuda.build import Nvcc, build_binary
from fgmclip.kernels.cuda.host import SOURCES, HostDevice
from fgmclip.kernels.errors import BuildError
from fgmclip.storage.plain import is_plain, make_plain_directory, plain_path

ODD = 'a "b$(touch pwned)" ü'

# Refuses what nvcc would hand to a shell, as far as it is no option.
NVCC = """#!/bin/sh
for word in "$0" "$PWD" "$@"; do
  case "$word" in
    -*) ;;
    *[!A-Za-z0-9_./-]*) echo "error: a shell would see $word"; exit 1 ;;
  esac
done
[ -f "$2" ] && [ -f "$(dirname "$2")/abi.cuh" ] && echo "error: every path was plain"
exit 1
"""


def test_nvcc_sees_plain_paths_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / ODD
    place.mkdir()
    monkeypatch.setenv("TMPDIR", str(place))
    shutil.copytree(SOURCES / "cuda", place / "cuda")
    compiler = place / "nvcc"
    compiler.write_text(NVCC, encoding="utf-8")
    compiler.chmod(0o755)
    with pytest.raises(BuildError, match="every path was plain"):
        build_binary(
            nvcc=Nvcc(compiler, "13.0", frozenset({"sm_90"})),
            source=place / "cuda" / "kernels.cu",
            out=place / "out" / "fgmclip.fatbin",
        )
    assert list(tmp_path.rglob("pwned")) == []


def test_the_cuda_source_compiles_for_the_host_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / ODD))
    source = tmp_path / ODD / "empty.cu"
    source.parent.mkdir()
    source.write_text("// no kernel\n", encoding="utf-8")
    HostDevice(source=source, kernels=())
    assert list(tmp_path.rglob("pwned")) == []


@pytest.mark.parametrize(
    ("path", "plain"),
    [("/a/b_c-1.x", True), ("/a b", False), ("/ü", False), ("/$x", False), ("/a\n", False)],
)
def test_which_paths_are_plain(path: str, plain: bool) -> None:
    assert is_plain(path) == plain


def test_a_place_that_is_not_plain_or_runs_no_programs_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (ODD, "/proc/self", str(tmp_path / "file" / "below")):
        (tmp_path / "file").touch()
        monkeypatch.setenv("TMPDIR", str(tmp_path / name))
        made = make_plain_directory("fgmclip-test-")
        assert is_plain(str(made))
        assert not made.is_relative_to(tmp_path)
        made.rmdir()


def test_a_file_is_reached_through_a_link_where_its_own_path_is_odd(tmp_path: Path) -> None:
    odd = tmp_path / ODD / "file"
    odd.parent.mkdir()
    odd.write_text("x", encoding="utf-8")
    assert plain_path(tmp_path / "file", tmp_path / "none") == tmp_path / "file"
    found = plain_path(odd, tmp_path / "link")
    assert found == tmp_path / "link" / "file"
    assert found.samefile(odd)
