"""How every command ends: a documented exit code, and where something failed one line that says so.

Exit codes: 0 ok, 1 some input failed, 2 usage, 3 regression found, 4 refused by a gate, 130 stopped
from the keyboard. With `FGMCLIP_TRACEBACK=1` the traceback of a failure comes before its line.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any, TextIO, cast

from rich.console import (
    Console,
    ConsoleOptions,
    ConsoleRenderable,
    RenderableType,
    RenderHook,
)
from rich.segment import Segment

from fgmclip.extras import missing_library
from fgmclip.spec.errors import FgmclipError
from fgmclip.storage.explain import explain
from fgmclip.storage.text import one_line, without_controls

TRACEBACK_VARIABLE = "FGMCLIP_TRACEBACK"

STOPPED = 130
"""Exit code after Ctrl-C."""


class OutputError(FgmclipError, OSError):
    """Standard output takes no more: its disk is full, or its reader has gone."""


def run_command(command: Callable[[], int | None]) -> int:
    """Run a command to its exit code; what a machine or a user can cause ends it in one line.

    Texts that the terminal's encoding does not have are escaped. A reader that has seen enough
    (`| head`) ends a command quietly; output that cannot be written (`> /dev/full`) ends it with
    exit code 1, also where the failure shows only when the last of it is flushed.

    Args:
        command: Returns an exit code, None for 0, or ends in `SystemExit` with one.

    Returns:
        The exit code.
    """
    _open_standard_streams()
    _keep_own_rights()
    # Processes that are started by `-m` or `-c` would import a json.py of the working directory.
    os.environ.setdefault("PYTHONSAFEPATH", "1")
    before = sys.stdout, sys.stderr
    output = _Guarded(sys.stdout, tells=True)
    sys.stdout, sys.stderr = cast(TextIO, output), cast(TextIO, _Guarded(sys.stderr, tells=False))
    try:
        code = _outcome(command)
        output.close_quietly()
        if output.failure is not None and not isinstance(output.failure, BrokenPipeError):
            _say(f"standard output: {explain(output.failure)}")
            code = code or OutputError.exit_code
        return code
    finally:
        sys.stdout, sys.stderr = before


def make_console(*, stderr: bool = False) -> Console:
    """Return where a command prints: escape sequences in names and texts are shown, not obeyed.

    Args:
        stderr: Whether to print to standard error.
    """
    console = Console(stderr=stderr)
    console.push_render_hook(_ControlsShown())
    return console


class _ControlsShown(RenderHook):
    """Escapes what a text brings; what rich adds for colours and cursor stays."""

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [_Shown(each) for each in renderables]


class _Shown:
    def __init__(self, content: RenderableType) -> None:
        self._content = content

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        for text, style, control in console.render(self._content, options):
            yield Segment(text if control else without_controls(text), style, control)


def _outcome(command: Callable[[], int | None]) -> int:
    try:
        return command() or 0
    except SystemExit as end:
        if isinstance(end.code, str):
            _say(end.code)
            return 1
        return int(end.code or 0)
    except KeyboardInterrupt:
        return STOPPED
    except OutputError:
        # Said once the output is closed; whoever has seen enough is told nothing.
        return 0
    except FgmclipError as error:
        _say(str(error))
        return error.exit_code
    except ModuleNotFoundError as error:
        remedy = missing_library(error)
        if remedy is None:
            raise
        _say(remedy)
        return 2
    except OSError as error:
        _say(explain(error))
        return 1


def _say(message: str) -> None:
    """Print the one line, after the traceback where it was asked for."""
    if os.environ.get(TRACEBACK_VARIABLE) and sys.exc_info()[0] is not None:
        traceback.print_exc()
    make_console(stderr=True).print(
        f"error: {message}", style="red", highlight=False, markup=False, soft_wrap=True
    )


def _keep_own_rights() -> None:
    """Let this user use what is written, whatever the umask takes from the others."""
    mask = os.umask(0o077)
    os.umask(mask & ~0o700)


def _open_standard_streams() -> None:
    """Give closed standard streams an empty device: else the next file opened takes their place."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        # Python has None for a stream that was closed when it started.
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115


class _Guarded:
    """A standard stream whose failures are an `OutputError`, or for standard error nothing.

    The first failure is kept, and what is written after it goes nowhere: Python flushes once more
    when it ends, and would end in a traceback of its own.
    """

    def __init__(self, stream: TextIO, *, tells: bool) -> None:
        self._stream = stream
        self._tells = tells
        self.failure: OSError | None = None
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        return int(self._guard(lambda: self._stream.write(text)))

    def writelines(self, lines: Any) -> None:
        self._guard(lambda: self._stream.writelines(lines))

    def flush(self) -> None:
        self._guard(self._stream.flush)

    def close_quietly(self) -> None:
        """Flush what is left; a failure is kept, not raised."""
        try:
            self.flush()
        except OutputError:
            return

    def _guard(self, action: Callable[[], Any]) -> Any:
        try:
            return action()
        except OSError as error:
            if self.failure is None:
                self.failure = error
                os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
            if self._tells:
                raise OutputError(one_line(str(error))) from error
            return 0
