"""Errors of `fgmclip.storage`.

OSError
└── StorageError       a file or folder cannot be used as it has to be
    ├── LockedError    another process holds a lock (BlockingIOError)
    └── TextError      a file is not the text it should be (ValueError)
        └── TableError     a CSV file is not the table it should be

Not below `FgmclipError`: that class lives beside pydantic, which a stock Triton container, where
this room runs too, need not have.
"""


class StorageError(OSError):
    """A file or folder cannot be used; the message names it and the remedy, in one line."""


class LockedError(StorageError, BlockingIOError):
    """Another process holds the lock of a file."""


class TextError(StorageError, ValueError):
    """A file holds something else than the text that it should."""


class TableError(TextError):
    """A CSV file lacks a column, or a line of it is no row of the table."""
