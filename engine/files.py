"""Files that anybody may have made, opened without waiting: regular ones only, and no larger than expected."""

import errno
import os
import stat
from pathlib import Path

NOT_WAITING = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
"""How a file is opened to be read: the other end of a pipe may never come."""
SPECIAL = "it is neither a file nor a folder, but a pipe, a socket or a device; remove it"


def open_file(path: Path) -> int:
    """A handle to read a file that the user named; links to it are followed.

    Raises
    ------
    OSError
        At once, for a pipe, a socket or a device; its ``strerror`` can stand in a sentence.
    """
    status = os.stat(path)
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder where a file belongs")
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, SPECIAL)
    return regular(os.open(path, NOT_WAITING))


def regular(handle: int) -> int:
    """The handle, if it still is what was looked at before it was opened."""
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, SPECIAL)
    return handle


def read_file(path: Path, most: int) -> bytes:
    """The content of a regular file of at most `most` bytes.

    Raises
    ------
    OSError
        As `open_file`; or if it is larger.
    """
    with os.fdopen(open_file(path), "rb") as file:
        return read_open(file.fileno(), most)


def read_open(handle: int, most: int) -> bytes:
    """The content of an open regular file of at most `most` bytes, from where it stands."""
    size = os.fstat(handle).st_size
    if size > most:
        raise OSError(errno.EFBIG, f"it has {size / 1e9:.2f} GB, and at most {most / 1e9:.2f} GB can be read")
    with os.fdopen(handle, "rb", closefd=False) as file:
        return file.read(size)
