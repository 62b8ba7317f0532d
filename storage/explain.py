"""What an `OSError` means for the person at the keyboard: the path, the trouble, the remedy."""

from __future__ import annotations

import errno
import os
import shutil
import socket
from pathlib import Path

from fgmclip.storage.cache import variable_of
from fgmclip.storage.errors import StorageError
from fgmclip.storage.text import one_line

_NETWORK_SHARE = "mount the network share again"
_OTHER_PLACE = "choose a path on another file system"
_ADDRESS = "check the address and the network"

_REMEDIES = {
    errno.ENOENT: "check the path, or make what is missing",
    errno.EISDIR: "name a file, not a folder",
    errno.ENOTDIR: "a part of the path is a file; name a path below folders alone",
    errno.EEXIST: "something else is there; move it away or choose another name",
    errno.ENOTEMPTY: "something else is there; move it away or choose another name",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ELOOP: "links lead in a circle; name the real file",
    errno.EROFS: "choose a path that may be written",
    errno.ENOSPC: "make room there, or choose another place",
    errno.EDQUOT: "this user's quota is used up; make room there, or choose another place",
    errno.EFBIG: "the limit on a file's size is reached; raise it (ulimit -f) or choose another "
    "file system",
    errno.EMFILE: "this process may open no more files; raise the limit (ulimit -n)",
    errno.ENFILE: "the machine has no room for more open files; close programs, or raise "
    "fs.file-max",
    errno.EAGAIN: "wait and try again, or raise the limit on processes (ulimit -u)",
    errno.ENOMEM: "the machine has no memory left; close programs or use a larger machine",
    errno.EIO: "the disk or its connection failed; see the kernel's log (dmesg)",
    errno.ENODEV: "the device is gone or cannot do this; connect it again",
    errno.ENXIO: "the device is gone or nobody is at the other end; connect it again",
    errno.EBADF: "it is closed, or open for something else; check the redirection",
    errno.EBUSY: "something uses it; end that first",
    errno.ETXTBSY: "it is a program that runs; end it first",
    errno.EXDEV: "the two are on different file systems; choose paths on one",
    errno.EINVAL: f"the file system refuses it; {_OTHER_PLACE}",
    errno.ENOTSUP: f"the file system cannot do this; {_OTHER_PLACE}",
    errno.ENOSYS: f"the file system cannot do this; {_OTHER_PLACE}",
    errno.ENOLCK: f"the file system has no locks; {_OTHER_PLACE}",
    errno.ESTALE: _NETWORK_SHARE,
    errno.ENOTCONN: _NETWORK_SHARE,
    errno.ESHUTDOWN: _NETWORK_SHARE,
    errno.EREMOTEIO: _NETWORK_SHARE,
    errno.ENOEXEC: "it is no program for this machine; install one that is",
    errno.E2BIG: "the command line is too long; name fewer files at once",
    errno.EADDRINUSE: "something else listens there; end it or choose another port",
    errno.EADDRNOTAVAIL: "this machine does not have that address; choose another",
    errno.ECONNREFUSED: f"nothing listens there; start it, or {_ADDRESS}",
    errno.ECONNRESET: "the other end hung up; see its log",
    errno.ETIMEDOUT: _ADDRESS,
    errno.EHOSTUNREACH: _ADDRESS,
    errno.ENETUNREACH: _ADDRESS,
    errno.EPIPE: "the program that read this has ended; see why",
}

_NO_TEMPORARY = "No usable temporary directory"


def explain(error: OSError) -> str:
    """Return one line: the path if there is one, what the system said, and what helps.

    Args:
        error: Any; a `StorageError` says all of this itself.
    """
    if isinstance(error, StorageError):
        return one_line(str(error))
    if isinstance(error, shutil.Error) and error.args and isinstance(error.args[0], list):
        # A tree that was not copied: (source, destination, why) of each file; the first will do.
        first = error.args[0][0]
        return one_line(f"{first[0]}: {first[2]}; {_OTHER_PLACE}")
    said = error.strerror or str(error) or type(error).__name__
    if _NO_TEMPORARY in said:
        return one_line(f"{said}; set TMPDIR to a folder that this user can write")
    if error.errno == errno.ENOENT and error.filename is None and _nowhere():
        return one_line(f"working directory: {said}; it was removed, change to one that exists")
    names = [_name(name) for name in (error.filename, error.filename2) if name is not None]
    where = f"{' -> '.join(names)}: " if names else ""
    return one_line(f"{where}{said}; {_remedy(error)}")


def _remedy(error: OSError) -> str:
    variable = variable_of(Path(_name(error.filename))) if error.filename is not None else None
    if variable is not None:
        return f"set {variable} to a folder with room that this user can write"
    if isinstance(error, socket.gaierror):
        return _ADDRESS
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"give user {os.getuid()} the right to it, or choose another path"
    if isinstance(error, TimeoutError):
        return _ADDRESS
    return _REMEDIES.get(error.errno or 0, "see the system's log")


def _nowhere() -> bool:
    """Return whether the working directory has been removed."""
    try:
        os.getcwd()
    except FileNotFoundError:
        return True
    return False


def _name(name: object) -> str:
    """Return a path as text, whatever a call was given: text, bytes, a path or a descriptor."""
    if isinstance(name, int):
        return f"file descriptor {name}"
    return os.fsdecode(name) if isinstance(name, (str, bytes, os.PathLike)) else str(name)
