"""What training refuses.

TrainingError (FgmclipError)
├── DatasetError         a data set cannot be read, or does not fit the spec (ValueError)
├── SettingsError        a setting is out of range or contradicts another (ValueError)
└── ResumeError          a saved run belongs to other settings, data or spec (ValueError)
"""

from __future__ import annotations

from typing import ClassVar

from fgmclip.spec.errors import FgmclipError


class TrainingError(FgmclipError):
    """Base of the room's errors."""


class DatasetError(TrainingError, ValueError):
    """A data set cannot be read, or its labels do not fit the spec."""

    exit_code: ClassVar[int] = 2


class SettingsError(TrainingError, ValueError):
    """A setting is out of range, or two of them contradict each other."""

    exit_code: ClassVar[int] = 2


class ResumeError(TrainingError, ValueError):
    """A saved run was made with other settings, data or spec than the one that would go on."""

    exit_code: ClassVar[int] = 2
