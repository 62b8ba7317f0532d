"""A file served as an RTSP camera by GStreamer, which may be killed and started again.

As a module: `RtspCamera`, for benches and tests. As a script of the system's Python, which has
GStreamer's bindings: `rtsp_camera.py FILE PORT [USER PASSWORD [digest]]` serves it until killed.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from types import TracebackType

SYSTEM_PYTHON = "/usr/bin/python3"

_START_SECONDS = 30.0


def find_gstreamer() -> str | None:
    """Return None if the system's Python can serve RTSP, else why not."""
    if not Path(SYSTEM_PYTHON).exists():
        return f"no {SYSTEM_PYTHON}"
    probe = "import gi; gi.require_version('GstRtspServer', '1.0'); "
    probe += "from gi.repository import GstRtspServer"
    done = subprocess.run(
        [SYSTEM_PYTHON, "-c", probe],
        capture_output=True,
        check=False,
        encoding="utf-8",
        errors="replace",
    )
    if done.returncode == 0:
        return None
    return f"{SYSTEM_PYTHON} has no GStreamer RTSP server: {done.stderr.strip().splitlines()[-1]}"


def free_port() -> int:
    """Return a TCP port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class RtspCamera:
    """A camera at one address; the file plays from its start for each one who connects."""

    def __init__(
        self,
        file: Path,
        *,
        port: int | None = None,
        login: tuple[str, str] | None = None,
        digest: bool = False,
    ) -> None:
        """Make a camera; it answers once it is started.

        Args:
            file: MP4 with H.264; about as long as the test.
            port: Where it listens; a free one if None.
            login: User and password that it asks for.
            digest: Ask for them by digest authentication, else by basic.
        """
        self.port = port or free_port()
        self._command = [SYSTEM_PYTHON, __file__, str(file), str(self.port), *(login or ())]
        self._command += ["digest"] * digest
        user = f"{login[0]}:{login[1]}@" if login else ""
        self.address = f"rtsp://{user}127.0.0.1:{self.port}/camera"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> RtspCamera:
        """Start it."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Kill it."""
        self.kill()

    @property
    def pid(self) -> int:
        """Of its process.

        Raises:
            RuntimeError: It does not run.
        """
        if self._process is None:
            raise RuntimeError("the camera does not run: start it")
        return self._process.pid

    def start(self) -> None:
        """Start it and wait until it listens.

        Raises:
            RuntimeError: It does not come up.
        """
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            time.sleep(0.05)
        self.kill()
        raise RuntimeError(f"the RTSP camera does not come up: {' '.join(self._command[:4])}")

    def kill(self) -> None:
        """End it as a power cut would: kill -9."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()


def serve(file: str, port: str, user: str = "", password: str = "", scheme: str = "") -> None:
    """Serve a file until killed; runs in the system's Python."""
    gi = import_module("gi")
    gi.require_version("Gst", "1.0")
    gi.require_version("GstRtspServer", "1.0")
    names = ("GLib", "Gst", "GstRtsp", "GstRtspServer")
    GLib, Gst, GstRtsp, GstRtspServer = (  # noqa: N806
        import_module(f"gi.repository.{name}") for name in names
    )

    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(port)
    factory = GstRtspServer.RTSPMediaFactory()
    # config-interval: parameter sets with each key frame, as cameras send them.
    factory.set_launch(
        f'( filesrc location="{file}" ! qtdemux ! h264parse config-interval=-1 '
        "! rtph264pay name=pay0 pt=96 )"
    )
    if user:
        auth = GstRtspServer.RTSPAuth()
        token = GstRtspServer.RTSPToken()
        token.set_string("media.factory.role", "viewer")
        if scheme == "digest":
            auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
            auth.add_digest(user, password, token)
        else:
            auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
        server.set_auth(auth)
        role = Gst.Structure.new_empty("viewer")
        role.set_value("media.factory.access", True)
        role.set_value("media.factory.construct", True)
        factory.add_role_from_structure(role)
    server.get_mount_points().add_factory("/camera", factory)
    if not server.attach(None):
        sys.exit(f"cannot listen on port {port}")
    GLib.MainLoop().run()


if __name__ == "__main__":
    serve(*sys.argv[1:])
