"""`fgmclip repo lint`: what can be wrong with a repository, found without a server."""

from fgmclip.export.lint.finding import Finding, findings_table
from fgmclip.export.lint.repository import lint_repository

__all__ = ["Finding", "findings_table", "lint_repository"]
