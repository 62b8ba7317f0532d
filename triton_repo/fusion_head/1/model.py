"""`fusion_head`: loads the step from the modules beside this file."""

import sys
from pathlib import Path

# Ahead of an installed fgmclip: a release answers with the code that it was proved with.
sys.path.insert(0, str(Path(__file__).resolve().parent))

from fgmclip.serve.steps.engine import TritonPythonModel

__all__ = ["TritonPythonModel"]
