"""Odd names, users, locales, disks, proxies and surroundings, each tried through every command.

A cell is one condition and one command. The real command runs in a folder of its own and has to end
in time, with a documented exit code, without a traceback and without a warning; where it fails it
says so in a line that names the path or the remedy, and where the condition is harmless it ends as
it would without. It leaves nothing half written, and nothing outside its own folders changes: the
checkout and what is installed are listed before and after.

A part of the cells runs by default: every second condition, each on one command, and every command
at least once. All of them, among them exports, training and a real server, run with
`FGMCLIP_FIELD_FULL=1` (over half an hour):

    FGMCLIP_FIELD_FULL=1 python -m pytest tests/field/test_matrix.py
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import sysconfig
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread

import pytest

from fgmclip.bench import racing
from fgmclip.export.release import export_release
from fgmclip.model.build import build_model
from fgmclip.model.checkpoint import save_checkpoint
from fgmclip.serve import EmbeddedServer
from fgmclip.spec import ModelSpec
from fgmclip.storage.atomic import TEMPORARY
from fgmclip.video.samples import generate_samples

FULL = os.environ.get("FGMCLIP_FIELD_FULL") == "1"
ROOT = Path(racing.__file__).resolve().parent.parent
FGMCLIP = str(Path(sys.executable).with_name("fgmclip"))
LIMIT_SECONDS = 120.0
LIGHT_SECONDS = 60.0
WORKERS = 3
# What a command that starts a server, or loads torch and does its work, is tried under.
HEAVY = {
    "plain",
    "name command",
    "name umlaut",
    "name latin-1",
    "name newline",
    "locale C, odd name",
    "locale ISO-8859-1",
    "user without name",
    "disk full",
    "disk read-only",
    "RLIMIT_FSIZE",
    "no TMPDIR",
    "cwd deleted",
    "cwd evil",
    "proxies black hole",
    "all closed",
    "umask 777",
    "cache unwritable",
    "stdout full",
    "TMPDIR noexec",
}
TORCH = {"plain", "name latin-1", "user without name", "cwd deleted"}
DOCUMENTED = {0, 1, 2, 3, 4, 130}
NOBODY = (
    "--reuid=54321",
    "--regid=54321",
    "--clear-groups",
    "--inh-caps=+dac_read_search",
    "--ambient-caps=+dac_read_search",
)
"""A user that no passwd file knows; the interpreter may lie where only root reads."""
POWERLESS = ("--inh-caps=-all", "--bounding-set=-all")
"""A root user who has no more rights than others."""

BAD_WORDS = re.compile(
    r"Traceback \(most|Fatal Python|Segmentation|core dumped|Exception ignored|leaked|\w+Warning:"
)


@dataclass(frozen=True)
class Material:
    """What commands are given, made once."""

    checkpoint: Path
    data: Path
    repository: Path
    cache: Path
    url: str


@dataclass
class Condition:
    """How a cell differs from a plain one.

    Attributes:
        name: Its own.
        stem: Name of the folder, and start of the names of all files in it.
        shell: What `sh` does before the command, which is `"$@"`.
        environment: Variables; None takes one away.
        user: Who runs it.
        given: Puts something else where an input is expected.
        made: Puts something where an output is to be written.
        harmless: Every command ends as it does in a plain cell.
        prepare: What is done in the folder before.
        relative: Paths are given as seen from the folder.
        dashes: Whether `--` stands before paths.
        mounts: It needs a mount namespace.
        silent: Nothing can be read of what it says.
    """

    name: str
    stem: str = "plain"
    shell: str = 'exec "$@"'
    environment: Mapping[str, str | None] = field(default_factory=dict)
    user: tuple[str, ...] = ()
    given: Callable[[Path], None] | None = None
    made: Callable[[Path], None] | None = None
    harmless: bool = False
    prepare: Callable[[Path], None] | None = None
    relative: bool = False
    dashes: bool = True
    mounts: bool = False
    silent: bool = False


class Scene:
    """The folder of a cell, and what a command of it is given."""

    def __init__(self, folder: Path, condition: Condition, material: Material) -> None:
        self.root = folder
        folder.mkdir()
        self.condition = condition
        self.material = material
        self.work = folder / condition.stem
        if condition.stem == "..":
            (folder / "in").mkdir()
            self.work = folder / "in" / ".." / "plain"
        self.home = folder / "home"
        self.temporary = folder / "tmp"
        for path in (self.work, self.home, self.temporary):
            path.mkdir(exist_ok=True)
        shutil.copytree(material.cache, self.home / ".cache" / "fgmclip")

    def given(self, kind: str) -> str:
        """Put an input where the condition wants it; returns its path."""
        path = self._path(
            {
                "checkpoint": ".safetensors",
                "video": ".mp4",
                "data": "",
                "repository": "",
                "onnx": ".onnx",
                "nvcc": "",
                "config": ".yaml",
                "spec": ".json",
            }[kind],
            kind,
        )
        if self.condition.given is not None:
            self.condition.given(path)
            return self._text(path)
        if kind == "checkpoint":
            shutil.copyfile(self.material.checkpoint, path)
        elif kind == "video":
            shutil.copyfile(next(self.material.data.rglob("*.mp4")), path)
        elif kind == "data":
            for source in self.material.data.iterdir():
                if source.is_dir():
                    (path / source.name).mkdir(parents=True)
                    name = self.condition.stem[:200] + ".mp4"
                    shutil.copyfile(next(source.iterdir()), path / source.name / name)
        elif kind == "repository":
            shutil.copytree(self.material.repository, path)
        elif kind == "nvcc":
            path.write_text("#!/bin/sh\necho 'no compiler' >&2\nexit 1\n", encoding="utf-8")
            path.chmod(0o755)
        elif kind == "config":
            video = self.given("video")
            named = json.dumps(os.fsencode(video).decode("utf-8", "replace"))
            path.write_text(
                f"servers: {{urls: ['localhost:1']}}\ncameras: [{{name: a, source: {named}}}]\n",
                encoding="utf-8",
            )
        else:
            path.write_bytes(b"neither")
        return self._text(path)

    def out(self, suffix: str = "") -> str:
        """Return the path of an output, on which the condition may have put something."""
        path = self._path(suffix, "out")
        if self.condition.made is not None:
            self.condition.made(path)
        return self._text(path)

    def out_folder(self) -> str:
        """Return the path of an output folder that has to exist."""
        text = self.out()
        if self.condition.made is None:
            (self.work / text).mkdir()
        return text

    def _path(self, suffix: str, kind: str) -> Path:
        stem = self.condition.stem
        # The first path of a command has the odd name itself.
        name = (stem[: 255 - len(suffix)] if stem not in ("..", ".") else kind) + suffix
        while os.path.lexists(self.work / name) or name == "":
            name = f"{kind}{suffix}" if not os.path.lexists(self.work / (kind + suffix)) else "z"
        return self.work / name

    def _text(self, path: Path) -> str:
        return path.name if self.condition.relative else str(path)


Command = Callable[[Scene], list[str]]
"""Gives the arguments; those after "--" are paths."""


@dataclass(frozen=True)
class Row:
    """A command with what it does in a plain cell.

    Attributes:
        arguments: Gives its arguments.
        code: How it ends there.
        heavy: It loads torch or starts a server: for some conditions alone.
        path: Whether it is given paths.
        ends: Whether it has to be ended.
        lists: Whether it lists all that it finds, and finds odd names as well.
        bench: Script of this bench instead of `fgmclip`.
    """

    arguments: Command
    code: int
    heavy: bool = False
    torch: bool = False
    path: bool = True
    ends: bool = False
    lists: bool = False
    bench: str | None = None


ROWS: dict[str, Row] = {
    "help": Row(lambda s: ["--help"], 0, path=False),
    "samples": Row(lambda s: ["samples", "--per-class", "1", "--", s.out()], 0),
    "export bad": Row(
        lambda s: ["export", "--repository", s.out(), "--", s.given("onnx")], 1, torch=True
    ),
    "classify": Row(
        lambda s: ["classify", "--json", "--url", "localhost:1", "--", s.given("video")], 1
    ),
    "train bad": Row(
        lambda s: ["train", "--spec", s.given("spec"), "--out", s.out(".safetensors"), "--",
                   s.given("data")], 1, torch=True
    ),
    "evaluate bad": Row(
        lambda s: ["evaluate", "--", s.given("onnx"), s.given("data")], 1, torch=True
    ),
    "watch check": Row(
        lambda s: ["watch", "--check", "--url", "localhost:1", "--events", s.out(".jsonl"), "--",
                   s.given("video")], 0, lists=True
    ),
    "watch config": Row(
        lambda s: ["watch", "--check", "--config", s.given("config")], 0, lists=True
    ),
    "watch schema": Row(lambda s: ["watch", "--schema"], 0, path=False),
    "describe bad": Row(lambda s: ["model", "describe", "--", s.given("onnx")], 1, torch=True),
    "repo list": Row(lambda s: ["repo", "list", "--", s.given("repository")], 0),
    "repo lint": Row(lambda s: ["repo", "lint", "--", s.given("repository")], 0, lists=True),
    "repo activate": Row(lambda s: ["repo", "activate", "--", s.given("repository"), "1"], 0),
    "repo prune": Row(lambda s: ["repo", "prune", "--keep", "1", "--", s.given("repository")], 0),
    "kernels info": Row(lambda s: ["kernels", "info", "--json"], 0, path=False),
    "kernels build": Row(
        lambda s: ["kernels", "build", "--nvcc", s.given("nvcc"), "--out", s.out()], 1
    ),
    "engine build": Row(lambda s: ["engine", "build", "--", s.given("onnx")], 1),
    "engine view": Row(
        lambda s: ["engine", "view", "--out", s.out(), "--", s.given("repository")], 1
    ),
    "serve nothing": Row(lambda s: ["serve", "--", s.out()], 2),
    # Those that do their work.
    "export": Row(
        lambda s: ["export", "--repository", s.out(), "--", s.given("checkpoint")], 0, heavy=True
    ),
    "train": Row(
        lambda s: ["train", "--preset", "demo", "--epochs", "1", "--out", s.out(".safetensors"),
                   "--", s.given("data")], 0, heavy=True
    ),
    "evaluate": Row(
        lambda s: ["evaluate", "--", s.given("checkpoint"), s.given("data")], 0, heavy=True
    ),
    "describe": Row(
        lambda s: ["model", "describe", "--", s.given("checkpoint")], 0, heavy=True
    ),
    "classify served": Row(
        lambda s: ["classify", "--url", s.material.url, "--", s.given("video")], 0, heavy=True
    ),
    "watch served": Row(
        lambda s: ["watch", "--url", s.material.url, "--events", s.out(".jsonl"), "--",
                   s.given("video")], 0, heavy=True, lists=True
    ),
    "annotate": Row(
        lambda s: ["watch", "--url", s.material.url, "--annotate", s.out_folder(), "--",
                   s.given("video")], 0, heavy=True, lists=True
    ),
    **{
        f"bench {name}": Row(
            lambda s: ["--no-such-option"], 2, torch=True, path=False, bench=name
        )
        for name in ("demo", "latency", "stream", "cameras", "figures", "crashes")
    },
    "serve": Row(lambda s: ["serve", "--", s.given("repository")], 0, heavy=True, ends=True),
}  # fmt: skip


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


def _broken(path: Path) -> None:
    path.symlink_to("nowhere at all")


def _fifo(path: Path) -> None:
    """A pipe whose writer ends at once: a command that waited for more would never end."""
    os.mkfifo(path)

    def write() -> None:
        with path.open("wb") as pipe:
            pipe.write(b"x")

    Thread(target=write, daemon=True).start()


def _folder(path: Path) -> None:
    path.mkdir()


def _file(path: Path) -> None:
    path.write_bytes(b"x")


def _link(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


def _unreadable(path: Path) -> None:
    path.write_bytes(b"x")
    path.chmod(0)


def _evil(folder: Path) -> None:
    """Modules by the names of ours and others', which say that they were imported."""
    code = "open('pwned', 'w').close(); raise ImportError('of the working directory')\n"
    for name in ("json.py", "fgmclip.py", "site.py", "torch.py", "typer.py", "model.py"):
        (folder / name).write_text(code, encoding="utf-8")
    (folder / "numpy").mkdir()
    (folder / "numpy" / "__init__.py").write_text(code, encoding="utf-8")


DEAD = "http://127.0.0.1:9"
HOLE = "http://192.0.2.1:3128"
"""An address of the documents' network: nobody answers, nobody refuses."""

ASCII = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}


def _proxies(address: str, **others: str) -> dict[str, str | None]:
    names = ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy")
    return {**{name: address for name in names}, **{n.upper(): address for n in names}, **others}


def _tmpfs(size: str, fill: bool = False) -> str:
    filling = 'head -c 100m /dev/zero > "$WORK/filling" 2> /dev/null; ' if fill else ""
    # What was put into the folder is carried over, as far as it fits.
    return (
        'mkdir -p "$ROOT/aside" && cp -a "$WORK/." "$ROOT/aside/" && '
        f'mount -t tmpfs -o size={size} none "$WORK" && cp -a "$ROOT/aside/." "$WORK/" && '
        f'cd "$WORK" && {filling}exec "$@"'
    )


NAMES = {
    "space": "a b",
    "quotes": "a\"b'c",
    "command": "x$(touch pwned)",
    "substitution": "x`touch pwned`;touch pwned&|",
    "backslash": "a\\b",
    "newline": "a\nb",
    "umlaut": "h\u00fcpfen \u8df3",
    "decomposed": unicodedata.normalize("NFD", "h\u00fcpfen"),
    "latin-1": os.fsdecode(b"h\xfcpfen"),
    "long": "n" * 255,
    "percent": "a%20b%s%(x)s",
    "tilde": "~",
    "star": "*?[a]",
    "emoji": "\U0001f3c3\u200d\u2640\ufe0f",
    "trailing": "a. ",
    "markup": "[red]a{x}[bold",
    "escape": "a\x1b[31mb\x07",
    "right-to-left": "a\u202eb\u2028c",
    "colon": "rtsp:a@b#c?d",
}

CONDITIONS = [
    Condition("plain", harmless=True),
    *(Condition(f"name {key}", stem=stem, harmless=True) for key, stem in NAMES.items()),
    Condition("name dash", stem="-x", relative=True, harmless=True),
    Condition("name option", stem="--json", relative=True, dashes=False),
    Condition("path up", stem="..", harmless=True),
    Condition("input loop", given=_loop),
    Condition("input broken link", given=_broken),
    Condition("input fifo", given=_fifo),
    Condition("input folder", given=_folder),
    Condition("input file", given=_file),
    Condition("input /dev/null", given=_link("/dev/null")),
    Condition("input /dev/full", given=_link("/dev/full")),
    Condition("input missing", given=lambda path: None),
    Condition("input unreadable", given=_unreadable, user=POWERLESS),
    Condition("output loop", made=_loop),
    Condition("output broken link", made=_broken),
    Condition("output /dev/full", made=_link("/dev/full")),
    Condition("output folder", made=_folder),
    Condition("output file", made=_file),
    Condition("output fifo", made=lambda path: os.mkfifo(path)),
    Condition("user without name", user=NOBODY, environment={"HOME": None}),
    Condition("user of /", user=NOBODY, environment={"HOME": "/"}),
    Condition("user without rights", user=POWERLESS, prepare=lambda folder: folder.chmod(0o500)),
    Condition("HOME empty", environment={"HOME": "", "XDG_CACHE_HOME": "CACHE"}, harmless=True),
    Condition("HOME relative", environment={"HOME": "h", "XDG_CACHE_HOME": "CACHE"}, harmless=True),
    Condition("HOME unset", environment={"HOME": None, "XDG_CACHE_HOME": "CACHE"}, harmless=True),
    Condition("locale C", environment=ASCII, harmless=True),
    Condition("locale C, odd name", stem=NAMES["umlaut"], environment=ASCII, harmless=True),
    Condition(
        "locale ISO-8859-1",
        stem=NAMES["umlaut"],
        environment={"LOCPATH": "LOCALES", "LC_ALL": "en_US.ISO-8859-1", "PYTHONUTF8": "0"},
        harmless=True,
    ),
    Condition(
        "locale Turkish",
        environment={"LOCPATH": "LOCALES", "LC_ALL": "tr_TR.UTF-8"},
        harmless=True,
    ),
    Condition("locale absent", environment={"LC_ALL": "xx_YY.UTF-8"}, harmless=True),
    Condition("locale undone", environment={"PYTHONIOENCODING": "ascii"}, harmless=True),
    Condition("disk full", shell=_tmpfs("16m", fill=True), mounts=True),
    Condition("disk small", shell=_tmpfs("9m"), mounts=True),
    Condition(
        "disk read-only",
        shell='mount --bind "$WORK" "$WORK" && mount -o remount,bind,ro "$WORK" && exec "$@"',
        mounts=True,
    ),
    Condition("RLIMIT_FSIZE", shell='ulimit -f 1 && exec "$@"'),
    Condition("RLIMIT_NOFILE", shell='ulimit -n 12 && exec "$@"'),
    Condition(
        "TMPDIR noexec",
        shell='mount -t tmpfs -o noexec none "$TMPDIR" && exec "$@"',
        mounts=True,
        harmless=True,
    ),
    Condition(
        "no TMPDIR",
        shell="for place in /tmp /var/tmp /dev/shm; do "
        'case "$ROOT" in $place/*) continue;; esac; mount -t tmpfs -o ro none $place; done; '
        'mount -t tmpfs -o ro none "$TMPDIR"; exec "$@"',
        mounts=True,
    ),
    Condition("TMPDIR missing", environment={"TMPDIR": "/none/at all"}, harmless=True),
    Condition("cache unwritable", environment={"XDG_CACHE_HOME": "/proc/self"}),
    Condition("cache a file", environment={"XDG_CACHE_HOME": "/etc/passwd"}),
    Condition("cwd deleted", shell='mkdir gone && cd gone && rmdir ../gone && exec "$@"'),
    Condition("cwd evil", prepare=_evil, harmless=True),
    Condition("proxies dead", environment=_proxies(DEAD), harmless=True),
    Condition("proxies black hole", environment=_proxies(HOLE), harmless=True),
    Condition("proxies nonsense", environment=_proxies("socks5://[::"), harmless=True),
    Condition("no_proxy all", environment=_proxies(DEAD, no_proxy="*"), harmless=True),
    Condition("no_proxy odd", environment=_proxies(HOLE, no_proxy=" ,.x,[::1]"), harmless=True),
    Condition("narrow", environment={"COLUMNS": "1", "TERM": "dumb"}, harmless=True),
    Condition("no color", environment={"NO_COLOR": "1", "TERM": "xyz"}, harmless=True),
    Condition("color", environment={"FORCE_COLOR": "1", "COLUMNS": "zero"}, harmless=True),
    Condition(
        "python switches",
        environment={
            "PYTHONHASHSEED": "7",
            "PYTHONSAFEPATH": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONNOUSERSITE": "1",
        },
        harmless=True,
    ),
    Condition("python optimised", environment={"PYTHONOPTIMIZE": "2"}, harmless=True),
    Condition("python warned", environment={"PYTHONDEVMODE": "1"}, harmless=True),
    Condition("stdin closed", shell='exec "$@" <&-', harmless=True),
    Condition("stdout closed", shell='exec "$@" >&-', harmless=True, silent=True),
    Condition("stderr closed", shell='exec "$@" 2>&-', harmless=True, silent=True),
    Condition("all closed", shell='exec "$@" <&- >&- 2>&-', harmless=True, silent=True),
    Condition("stdout full", shell='exec "$@" >/dev/full'),
    Condition("stderr full", shell='exec "$@" 2>/dev/full', silent=True, harmless=True),
    Condition("head", shell='"$@" | head -n 1', silent=True),
    Condition("umask 777", shell='umask 777; exec "$@"', user=POWERLESS),
    Condition("umask 0", shell='umask 0; exec "$@"', harmless=True),
    Condition("nothing set", shell='exec env -i HOME="$HOME" "$@"', harmless=True),
    Condition("no PATH", environment={"PATH": "/nowhere"}, shell='exec "$@"'),
]


@pytest.fixture(scope="session")
def locales(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of locales that are made here, as far as the system can."""
    folder = tmp_path_factory.mktemp("locales")
    for name, source, charset in (
        ("en_US.ISO-8859-1", "en_US", "ISO-8859-1"),
        ("tr_TR.UTF-8", "tr_TR", "UTF-8"),
    ):
        if shutil.which("localedef"):
            command = ["localedef", "-i", source, "-f", charset, str(folder / name)]
            subprocess.run(command, capture_output=True, check=False)
    return folder


@pytest.fixture(scope="session")
def material(small_spec: ModelSpec, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Material]:
    """The smallest inputs that let every command do its work."""
    folder = tmp_path_factory.mktemp("material")
    checkpoint = folder / "tiny.safetensors"
    model = build_model(small_spec, seed=0)
    save_checkpoint(model, checkpoint)
    generate_samples(folder / "data", per_class=1, seed=0)
    cache, repository = folder / "cache" / "fgmclip", folder / "repository"
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}
    export_release(model, repository)
    subprocess.run([FGMCLIP, "kernels", "info"], env=environment, check=True, capture_output=True)
    with ExitStack() as stack:
        url = stack.enter_context(EmbeddedServer(repository)).url if FULL else "localhost:1"
        yield Material(checkpoint, folder / "data", repository, cache, url)


def _listing() -> dict[str, str]:
    """Return type, mode, size and content or time of whatever is installed, and of the checkout."""
    found: dict[str, str] = {}
    package = importlib.util.find_spec("pytriton")
    installed = {Path(sysconfig.get_paths()["purelib"])}
    if package is not None and package.origin is not None:
        installed.add(Path(package.origin).resolve().parent.parent)
    for root in (ROOT, *installed):
        for folder, folders, files in os.walk(root):
            # Caches of Python and of the checks belong to whoever runs them.
            folders[:] = [
                name
                for name in folders
                if name != "__pycache__" and not (name[0] == "." and root == ROOT)
            ]
            for name in (*files, *folders):
                path = os.path.join(folder, name)
                state = os.lstat(path)
                what = f"{state.st_mode:o} {state.st_uid}"
                if stat.S_ISREG(state.st_mode):
                    what += f" {state.st_size} {state.st_mtime_ns}"
                    if root == ROOT or ("pytriton" in folder and state.st_size < 2**20):
                        what += hashlib.sha256(Path(path).read_bytes()).hexdigest()
                found[path] = what
    return found


@pytest.fixture(scope="module")
def before() -> dict[str, str]:
    return _listing()


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        return self.out + self.err


def _run(scene: Scene, row: Row, locales: Path) -> Outcome:
    """Run a cell to its end; a code of -1000 is none in time."""
    condition = scene.condition
    if condition.prepare is not None:
        condition.prepare(scene.work)
    environment = {
        "PATH": os.defpath,
        "HOME": str(scene.home),
        "TMPDIR": str(scene.temporary),
        "LC_ALL": "C.UTF-8",
        # Under a limit on file sizes Python 3.11 would leave half a module in its cache.
        "PYTHONDONTWRITEBYTECODE": "1",
        "ROOT": str(scene.root),
        "WORK": str(scene.work),
    }
    places = {"LOCALES": str(locales), "CACHE": str(scene.home / ".cache")}
    for name, value in condition.environment.items():
        if value is None:
            environment.pop(name, None)
        else:
            environment[name] = places.get(value, value)
    arguments = row.arguments(scene)
    if not condition.dashes:
        arguments = [item for item in arguments if item != "--"]
    shell = condition.shell
    command = ["/bin/sh", "-c", shell, "sh"]
    if condition.mounts:
        command = ["unshare", "--mount", *command]
    if condition.user:
        command += [str(shutil.which("setpriv")), *condition.user, "--"]
        if condition.user is NOBODY:
            for folder, _, files in os.walk(scene.root):
                for name in [".", *files]:
                    if not os.path.islink(os.path.join(folder, name)):
                        os.chmod(os.path.join(folder, name), 0o777)
    program = [FGMCLIP]
    if row.bench is not None:
        program = [sys.executable, str(ROOT / "bench" / f"{row.bench}.py")]
    out, err = scene.root / "stdout", scene.root / "stderr"
    with out.open("wb") as stdout, err.open("wb") as stderr:
        process = subprocess.Popen(
            [*command, *program, *arguments],
            cwd=scene.work,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
        code = _wait(process, out, row)
    texts = [path.read_bytes().decode("utf-8", "replace") for path in (out, err)]
    return Outcome(code, *texts)


def _wait(process: subprocess.Popen[bytes], out: Path, row: Row) -> int:
    deadline = time.monotonic() + (LIMIT_SECONDS if row.heavy or row.torch else LIGHT_SECONDS)
    told = False
    try:
        while (code := process.poll()) is None:
            if time.monotonic() > deadline:
                return -1000
            if row.ends and not told and b"metrics" in out.read_bytes():
                process.send_signal(signal.SIGTERM)
                told = True
            time.sleep(0.02)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return code


def _faults(scene: Scene, row: Row, outcome: Outcome) -> Iterator[str]:
    """Yield what is wrong with how a cell ended."""
    condition = scene.condition
    if found := BAD_WORDS.search(outcome.said):
        yield f"says {found[0]!r}"
    if outcome.code not in DOCUMENTED:
        yield "did not end" if outcome.code == -1000 else f"ended with {outcome.code}"
    elif condition.harmless and outcome.code != row.code and not (row.lists and outcome.code == 1):
        yield f"ended with {outcome.code}, not {row.code}"
    if outcome.code not in (0, 130) and not condition.silent:
        lines = [line for line in outcome.said.splitlines() if line.strip()]
        errors = [line for line in lines if "error" in line]
        box = "usage:" in outcome.said.lower() or row.lists
        if not lines or (not box and len(errors) != 1):
            yield f"says {len(errors)} errors"
        named = condition.stem in outcome.said or str(scene.root) in outcome.said
        if not box and not named and ";" not in "".join(errors):
            yield "names neither path nor remedy"
    if list(scene.root.rglob("pwned")):
        yield "ran a command of a name, or a module of the folder"
    left = [path for path in scene.root.rglob(f"{TEMPORARY}*")] + [
        path for path in scene.temporary.iterdir() if not path.name.startswith("torchinductor_")
    ]
    if left:
        yield f"left {left[0].relative_to(scene.root)}"
    for folder, ours in ((scene.home, {".cache"}), (scene.home / ".cache", {"fgmclip"})):
        for name in {path.name for path in folder.iterdir()} - ours:
            yield f"wrote {name} into {folder.name}"


def _cells(name: str) -> list[Condition]:
    """Return the conditions under which a command is tried."""
    row = ROWS[name]
    light = [key for key in ROWS if not (ROWS[key].heavy or ROWS[key].torch)]
    if not (row.heavy or row.torch):
        if FULL:
            return CONDITIONS
        # Every second condition, spread over the commands.
        return [
            condition
            for number, condition in enumerate(CONDITIONS[::2])
            if light[(number * 7) % len(light)] == name
        ]
    if not FULL:
        return []
    if row.torch:
        return [c for c in CONDITIONS if c.name in TORCH or c.given or c.made]
    return [c for c in CONDITIONS if c.name in HEAVY and not (row.ends and c.silent)]


@pytest.mark.parametrize("name", [name for name in ROWS if _cells(name)])
def test_every_command_ends_in_order(
    name: str,
    before: dict[str, str],
    material: Material,
    locales: Path,
    tmp_path: Path,
) -> None:
    found, codes = [], Counter[int]()

    def cell(numbered: tuple[int, Condition]) -> None:
        number, condition = numbered
        scene = Scene(tmp_path / str(number), condition, material)
        began = time.monotonic()
        outcome = _run(scene, ROWS[name], locales)
        codes[outcome.code] += 1
        faults = list(_faults(scene, ROWS[name], outcome))
        print(
            f"{name} | {condition.name} | {outcome.code} | {time.monotonic() - began:.1f} s |",
            faults,
            outcome.said[-700:] if faults else "",
            flush=True,
        )
        if faults:
            told = outcome.said[-1500:]
            found.append(f"{condition.name}: {', '.join(faults)} [{outcome.code}]\n{told}")
        shutil.rmtree(scene.root, ignore_errors=True)

    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(cell, enumerate(_cells(name))))
    print(f"CELLS {name}: {sum(codes.values())}, by exit code {dict(codes)}")
    assert not found, f"{len(found)} of {sum(codes.values())} cells:\n" + "\n".join(found)


def test_nothing_outside_our_folders_changed(before: dict[str, str]) -> None:
    after = _listing()
    changed = {path for path in {*before, *after} if before.get(path) != after.get(path)}
    assert sorted(changed) == []
