"""`preprocess_edge`: loads the step from the modules beside this file."""

import sys
from importlib.machinery import PathFinder
from pathlib import Path

# Ahead of an installed fgmclip, and of the import hook that an editable install puts before the
# path: a release answers with the code that it was proved with.
sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.meta_path.insert(0, PathFinder)

from fgmclip.serve.steps.preprocess_edge import TritonPythonModel

__all__ = ["TritonPythonModel"]
