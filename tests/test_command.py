"""How commands end: exit codes, and one line for whatever a machine or a user can cause."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fgmclip.command import run_command
from fgmclip.spec import FgmclipError, SpecError
from fgmclip.storage.errors import StorageError


def raises(error: BaseException) -> Callable[[], int]:
    def command() -> int:
        raise error

    return command


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (lambda: 0, 0),
        (lambda: None, 0),
        (lambda: 3, 3),
        (raises(SystemExit()), 0),
        (raises(SystemExit(4)), 4),
        (raises(SystemExit("no")), 1),
        (raises(KeyboardInterrupt()), 130),
        (raises(FgmclipError("no")), 1),
        (raises(SpecError("no")), 2),
        (raises(StorageError("no")), 1),
        (raises(OSError(errno.EIO, "I/O error", "/x")), 1),
        (raises(ModuleNotFoundError("no", name="torch")), 2),
    ],
)
def test_every_end_has_its_exit_code(command: Callable[[], int | None], code: int) -> None:
    assert run_command(command) == code


def test_an_error_of_the_system_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(raises(OSError(errno.ENOSPC, "No space left on device", "/full/a"))) == 1
    said = capsys.readouterr().err
    assert said == (
        "error: /full/a: No space left on device; make room there, or choose another place\n"
    )


def test_a_traceback_is_shown_where_it_was_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FGMCLIP_TRACEBACK", "1")
    assert run_command(raises(OSError(errno.EIO, "I/O error", "/x"))) == 1
    said = capsys.readouterr().err
    assert said.startswith("Traceback")
    assert said.splitlines()[-1].startswith("error: /x: I/O error; ")


def test_a_mistake_of_ours_stays_a_traceback() -> None:
    with pytest.raises(TypeError, match="ours"):
        run_command(raises(TypeError("ours")))


def test_the_standard_streams_are_given_back() -> None:
    before = sys.stdout, sys.stderr
    run_command(lambda: 0)
    assert (sys.stdout, sys.stderr) == before


SPEAKS = """
import sys
from fgmclip.command import run_command

def command():
    print(sys.argv[1])
    print(sys.argv[1], file=sys.stderr)
    return 7

sys.exit(run_command(command))
"""


def speak(text: str, redirection: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    command = ["bash", "-c", f'"$@" {redirection}', "bash", sys.executable, "-c", SPEAKS, text]
    return subprocess.run(command, capture_output=True, check=False, env=os.environ | environment)


@pytest.mark.parametrize(("unbuffered", "code"), [("", 7), ("1", 1)])
def test_a_full_output_is_one_line_now_or_at_the_end(unbuffered: str, code: int) -> None:
    done = speak("hello", ">/dev/full", PYTHONUNBUFFERED=unbuffered)
    assert done.returncode == code
    *_, said = done.stderr.splitlines()
    assert said.startswith(b"error: standard output: No space left on device; ")
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("redirection", [">&-", "2>&-", "<&- >&- 2>&-", "2>/dev/full"])
def test_nobody_has_to_listen(redirection: str) -> None:
    done = speak("hello", redirection)
    assert done.returncode == 7
    assert b"Traceback" not in done.stderr


def test_a_closed_output_is_not_the_next_file(tmp_path: Path) -> None:
    script = (
        "import os, sys\n"
        "from fgmclip.command import run_command\n"
        "def command():\n"
        f"    with open({str(tmp_path / 'a')!r}, 'wb') as file:\n"
        "        os.write(1, b'stray')\n"
        "    return 0\n"
        "sys.exit(run_command(command))\n"
    )
    command = ["bash", "-c", '"$@" >&-', "bash", sys.executable, "-c", script]
    assert subprocess.run(command, check=False).returncode == 0
    assert (tmp_path / "a").read_bytes() == b""


@pytest.mark.parametrize(
    ("text", "encoding", "expected"),
    [
        ("hüpfen 跳", "utf-8", "hüpfen 跳".encode()),
        ("hüpfen 跳", "iso8859-1", b"h\xfcpfen \\u8df3"),
        ("hüpfen 跳", "ascii", b"h\\xfcpfen \\u8df3"),
        # A file's name that is no UTF-8, as Python has it.
        ("cl\udcfcp", "utf-8", b"cl\\udcfcp"),
    ],
)
def test_what_a_terminal_cannot_show_is_escaped(text: str, encoding: str, expected: bytes) -> None:
    done = speak(text, "", PYTHONIOENCODING=encoding, PYTHONUTF8="1")
    assert done.returncode == 7
    assert done.stdout == expected + b"\n"
    assert done.stderr == expected + b"\n"


ODD_PLACES = """
import os, subprocess, sys, tempfile
from fgmclip.command import run_command

def command():
    subprocess.run([sys.executable, "-c", "import json"], check=True)
    subprocess.run([sys.executable, "-m", "json.tool", os.devnull], check=False)
    with tempfile.TemporaryDirectory() as folder:
        os.mkdir(os.path.join(folder, "mine"))
        assert os.stat(os.path.join(folder, "mine")).st_mode & 0o700 == 0o700

sys.exit(run_command(command))
"""


@pytest.mark.skipif(sys.version_info < (3, 11), reason="PYTHONSAFEPATH is of Python 3.11")
def test_processes_of_ours_import_nothing_of_the_working_directory(tmp_path: Path) -> None:
    evil = "import pathlib; pathlib.Path('pwned').touch()"
    (tmp_path / "json.py").write_text(evil, encoding="utf-8")
    script = tmp_path / "scripts" / "odd.py"
    script.parent.mkdir()
    script.write_text(ODD_PLACES, encoding="utf-8")
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "pwned").exists()


def test_no_umask_takes_our_own_rights() -> None:
    command = ["sh", "-c", 'umask 777; exec "$@"', "sh", sys.executable, "-c", ODD_PLACES]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
