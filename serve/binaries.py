"""Where a tritonserver is: on PATH, as in NVIDIA's container, or in the nvidia-pytriton wheel."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from fgmclip.serve.errors import TritonMissingError

REMEDY = "pip install 'fgmclip[serve]', or run inside a Triton container"


@dataclass(frozen=True, slots=True)
class Tritonserver:
    """A tritonserver that can be started.

    Attributes:
        executable: The program.
        wheel: Site directory of the nvidia-pytriton wheel that holds it; None if it stands on
            its own with its backends, as in a container.
    """

    executable: Path
    wheel: Path | None

    def arguments(self, directory: Path) -> list[str]:
        """Return the command line's start, after laying out what the wheel leaves apart.

        Args:
            directory: Folder of this server; the Python backend is assembled in it.
        """
        if self.wheel is None:
            return [str(self.executable)]
        backend = directory / "backends" / "python"
        backend.mkdir(parents=True)
        # Copies: Triton changes the mode of the stub that it is given, and a failed start would
        # leave that of every user of the wheel unusable.
        for part in _backend_parts(self.wheel):
            shutil.copy2(part, backend / part.name)
        return [str(self.executable), f"--backend-directory={backend.parent}"]

    def environment(self) -> dict[str, str]:
        """Return the environment that the program and its Python stubs need."""
        environment = dict(os.environ)
        if self.wheel is None:
            return environment
        libraries = [self.wheel / "nvidia_pytriton.libs", *_libpython_directories()]
        inherited = environment.get("LD_LIBRARY_PATH")
        environment["LD_LIBRARY_PATH"] = os.pathsep.join(
            [*map(str, libraries), *([inherited] if inherited else [])]
        )
        # The stub embeds Python, which finds its environment by the interpreter first on PATH.
        environment["PATH"] = os.pathsep.join(
            [str(Path(sys.executable).parent), environment.get("PATH", os.defpath)]
        )
        return environment


def find_tritonserver() -> Tritonserver:
    """Return the tritonserver of PATH, else that of the nvidia-pytriton wheel.

    Raises:
        TritonMissingError: There is neither, or the wheel has no stub for this Python.
    """
    on_path = shutil.which("tritonserver")
    if on_path is not None:
        return Tritonserver(Path(on_path).resolve(), wheel=None)
    # Naming a top-level package only finds it: pytriton itself is never imported.
    spec = importlib.util.find_spec("pytriton")
    if spec is None or not spec.submodule_search_locations:
        raise TritonMissingError(f"no tritonserver on PATH and no nvidia-pytriton: {REMEDY}")
    package = Path(spec.submodule_search_locations[0])
    executable = package / "tritonserver" / "bin" / "tritonserver"
    wheel = package.parent
    for part in (executable, *_backend_parts(wheel)):
        if not part.is_file():
            raise TritonMissingError(
                f"nvidia-pytriton has no {part.relative_to(wheel)}: expected a wheel with a server "
                f"for Python {_version()}; {REMEDY}"
            )
    return Tritonserver(executable, wheel)


def _version() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _backend_parts(wheel: Path) -> tuple[Path, ...]:
    triton = wheel / "pytriton" / "tritonserver"
    backend = triton / "backends" / "python"
    return (
        backend / "libtriton_python.so",
        backend / "triton_python_backend_utils.py",
        triton / "python_backend_stubs" / _version() / "triton_python_backend_stub",
    )


def _libpython_directories() -> list[Path]:
    candidates = (Path(sysconfig.get_config_var("LIBDIR") or ""), Path(sys.base_prefix) / "lib")
    name = f"libpython{_version()}.so.1.0"
    return [path for path in dict.fromkeys(candidates) if (path / name).is_file()]
