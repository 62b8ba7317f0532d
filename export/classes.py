"""The class file: the classifier as arrays that the server multiplies, replaceable by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgmclip.model.network import FgmClip
from fgmclip.storage.atomic import writing


def class_arrays(model: FgmClip) -> dict[str, NDArray[Any]]:
    """Return the arrays of the class file, as `fgmclip.serve.steps.classify` reads them."""
    classifier = model.classifier
    arrays: dict[str, NDArray[Any]] = {}
    if classifier.linear is not None:
        arrays["linear_weight"] = classifier.linear.weight.detach().numpy()
        arrays["linear_bias"] = classifier.linear.bias.detach().numpy()
    if classifier.project_text is not None and classifier.text_embeddings is not None:
        arrays["text_weight"] = classifier.project_text.weight.detach().numpy()
        arrays["text_embeddings"] = classifier.text_embeddings.numpy()
        arrays["temperature"] = np.array(classifier.temperature, np.float32)
    return arrays


def write_class_file(path: Path, model: FgmClip) -> None:
    """Write the class file of a model.

    Args:
        path: The `.npz` file to write.
        model: Its classifier is written.
    """
    with writing(path) as stream:
        np.savez(stream, **class_arrays(model))
