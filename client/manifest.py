"""Reading the public manifest: what a server publishes about itself."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from fgmclip.client.errors import ManifestError, ModelNotFoundError
from fgmclip.spec import PublicManifest, SpecError
from fgmclip.spec.manifest import MANIFEST_FORMAT, MANIFEST_PARAMETER

CLIP_MODEL = "fgm_clip"
"""The ensemble that answers one clip, and whose parameters hold the manifest."""


@contextmanager
def not_ours() -> Iterator[None]:
    """Say what was expected where a server does not even have the model that is asked about.

    Raises:
        ManifestError: Instead of `ModelNotFoundError`.
    """
    try:
        yield
    except ModelNotFoundError as error:
        raise ManifestError(
            f"{error}; expected a repository that `fgmclip export` wrote, loaded and ready"
        ) from error


def manifest_in(parameters: Mapping[str, str], url: str) -> PublicManifest:
    """Return the manifest that stands in the parameters of a model's configuration.

    Args:
        parameters: Of `CLIP_MODEL`.
        url: Names the server in messages.

    Raises:
        ManifestError: There is none, or none that this version can read.
    """
    text = parameters.get(MANIFEST_PARAMETER)
    if text is None:
        raise ManifestError(
            f"{url}: expected the parameter {MANIFEST_PARAMETER} of {CLIP_MODEL}, got "
            f"{', '.join(sorted(parameters)) or 'none'}; export the model with fgmclip"
        )
    return parse_manifest(text, url)


def parse_manifest(text: str, url: str) -> PublicManifest:
    """Return the manifest that a server publishes.

    Args:
        text: JSON.
        url: Names the server in messages.

    Raises:
        ManifestError: Not JSON, of an unknown format, or with a field that is missing or wrong.
    """
    try:
        fields = json.loads(text)
        # Ahead of the fields: those of another format would only be reported as wrong one by one.
        came = fields.get("format") if isinstance(fields, dict) else None
        if came != MANIFEST_FORMAT:
            raise ManifestError(
                f"{url}: expected a manifest of format {MANIFEST_FORMAT}, got {came!r}; use the "
                "version of fgmclip that exported the release, or export it again with this one"
            )
        return PublicManifest.from_json(text, stored=True)
    except (json.JSONDecodeError, SpecError) as error:
        raise ManifestError(
            f"{url}: expected a manifest of format {MANIFEST_FORMAT}, got one that cannot be "
            f"read; export the release again: {error}"
        ) from error
