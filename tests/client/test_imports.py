"""A camera host has neither torch nor a decoder that it does not use."""

from __future__ import annotations

import subprocess
import sys


def test_importing_the_client_imports_no_heavy_package() -> None:
    script = (
        "import sys, fgmclip.client\n"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'av', 'cv2', 'matplotlib'}\n"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or None)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        check=False,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
