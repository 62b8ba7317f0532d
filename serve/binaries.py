"""Where tritonserver is on this machine, and the folder from which one server runs.

A system install runs from its own backends. The wheel of nvidia-pytriton carries tritonserver, the
Python backend and a stub for each Python, but not in the places where tritonserver looks: each
server gets a small folder of links that puts them together.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import site
import sys
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path

from fgmclip.serve.errors import TritonNotFoundError

_STUB = "triton_python_backend_stub"


@dataclass(frozen=True, slots=True)
class TritonInstall:
    """A tritonserver on this machine.

    Attributes:
        executable: The program.
        wheel: Folder `pytriton/tritonserver` of the wheel; None for a system install.
    """

    executable: Path
    wheel: Path | None = None

    def prepare(self, runtime: Path) -> tuple[Path, dict[str, str]]:
        """Put together in `runtime` what one server runs from.

        Returns:
            The backend directory and the environment of the server.

        Raises:
            TritonNotFoundError: The wheel has no stub for this Python, or this Python has no
                shared library.
        """
        environment = dict(os.environ)
        if self.wheel is None:
            backends = self.executable.resolve().parent.parent / "backends"
            stub = backends / "python" / _STUB
            if not stub.is_file():
                raise TritonNotFoundError(
                    f"{self.executable}: expected the Python backend in {backends / 'python'}, "
                    "found none; install Triton with its Python backend, or take that "
                    "tritonserver off the PATH to use the one of nvidia-pytriton"
                )
            # A stub of another Python brings packages of its own.
            if b"libpython%d.%d" % sys.version_info[:2] in stub.read_bytes():
                _put_interpreter_first(runtime / "python", environment)
            return backends, environment
        backends = runtime / "backends"
        python_backend = backends / "python"
        python_backend.mkdir(parents=True)
        for source in (
            self.wheel / "backends" / "python" / "libtriton_python.so",
            self.wheel / "backends" / "python" / "triton_python_backend_utils.py",
            self._stub(),
        ):
            (python_backend / source.name).symlink_to(source)
        libraries = runtime / "lib"
        libraries.mkdir()
        libpython = _libpython()
        # A link, because the library's own folder may hold other programs' libraries too.
        (libraries / libpython.name).symlink_to(libpython)
        wheel_libraries = self.wheel.parent.parent / "nvidia_pytriton.libs"
        _put_first(environment, "LD_LIBRARY_PATH", wheel_libraries, libraries)
        _put_interpreter_first(runtime / "python", environment)
        return backends, environment

    def _stub(self) -> Path:
        assert self.wheel is not None
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        stub = self.wheel / "python_backend_stubs" / version / _STUB
        if not stub.is_file():
            known = ", ".join(sorted(path.name for path in stub.parent.parent.glob("3.*")))
            raise TritonNotFoundError(
                f"nvidia-pytriton has no Python backend for Python {version}, only for {known}; "
                "run fgmclip with one of those"
            )
        return stub


def find_tritonserver() -> TritonInstall:
    """Return the tritonserver on the PATH, else the one of the nvidia-pytriton wheel.

    Raises:
        TritonNotFoundError: There is neither.
    """
    wheel = _wheel()
    found = shutil.which("tritonserver")
    if found and not (wheel and Path(found).resolve().is_relative_to(wheel.resolve())):
        return TritonInstall(Path(found))
    if wheel is None:
        raise TritonNotFoundError(
            "expected tritonserver on the PATH or in the package nvidia-pytriton, found neither; "
            "install it with: pip install 'fgmclip[serve]'"
        )
    return TritonInstall(wheel / "bin" / "tritonserver", wheel)


def _wheel() -> Path | None:
    # Not importlib.util.find_spec of a submodule: that would run pytriton itself.
    spec = importlib.util.find_spec("pytriton")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        candidate = Path(folder) / "tritonserver"
        if (candidate / "bin" / "tritonserver").is_file():
            return candidate
    return None


def _libpython() -> Path:
    name = f"libpython{sys.version_info.major}.{sys.version_info.minor}.so.1.0"
    config = sysconfig.get_config_var
    library_folder = config("LIBDIR") or ""
    folders = (
        Path(library_folder),
        Path(library_folder, config("MULTIARCH") or ""),
        Path(sys.base_prefix, "lib"),
        Path(sys.base_prefix, "lib64"),
        Path(sys.base_prefix, "lib", config("MULTIARCH") or ""),
    )
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    raise TritonNotFoundError(
        f"{sys.executable}: Triton's Python backend needs {name}, and this Python has none; install "
        f"it (Debian: apt install libpython{sys.version_info.major}.{sys.version_info.minor}) or "
        "use a Python built with --enable-shared, as uv's and conda's are"
    )


def _put_interpreter_first(folder: Path, environment: dict[str, str]) -> None:
    """Make the stubs run an interpreter that sees the packages of this one.

    The stub of the wheel ignores PYTHON* variables and finds its packages through the `python3` on
    the PATH, so it gets a virtual environment that leads to ours. Bytecode is not written: a
    `__pycache__` that appears beside a `model.py` looks to Triton like a changed model, and the
    step would be started twice.
    """
    venv.create(folder, symlinks=True)
    packages = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    own = [*site.getsitepackages()]
    if site.ENABLE_USER_SITE:
        own.append(site.getusersitepackages())
    given = [str(Path(path).resolve()) for path in _split(environment.get("PYTHONPATH", ""))]
    lines = [
        "import sys; sys.dont_write_bytecode = True",
        *(f"import sys; sys.path.append({path!r})" for path in given),
        *(f"import site; site.addsitedir({path!r})" for path in own),
    ]
    (packages / "site-packages" / "fgmclip.pth").write_text("\n".join(lines) + "\n")
    _put_first(environment, "PATH", folder / "bin")


def _split(paths: str) -> list[str]:
    return [path for path in paths.split(os.pathsep) if path]


def _put_first(environment: dict[str, str], name: str, *folders: Path) -> None:
    before = _split(environment.get(name, ""))
    environment[name] = os.pathsep.join([*map(str, folders), *before])
