"""Errors of `fgmclip.client.gateway`.

ClientError
└── SettingsError        of `fgmclip.client.errors`
    └── SourceError      a source cannot be watched as it was stated (ValueError); exit 2
ClientError
└── BoxesError           a file of boxes cannot be used (ValueError)
"""

from __future__ import annotations

from fgmclip.client.errors import ClientError, SettingsError


class SourceError(SettingsError):
    """A source, or a camera's settings for it, has no meaning."""


class BoxesError(ClientError, ValueError):
    """A file of boxes is missing, not sorted, or not what `CameraSettings.boxes` says."""
