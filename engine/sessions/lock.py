"""One writer for each session: a second window learns who has it and can still look."""

import errno
import json
import os
import socket
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

from engine.errors import UserError
from engine.gate import parse
from engine.printable import printable
from engine.sessions.rooted import Root

if TYPE_CHECKING:
    from filelock import BaseFileLock

LOCK = "session.lock"
SOFT = "session.soft"
OWNER = "session.owner"
MOST_NOTE_BYTES = 10_000
# What a file system without locks answers.
NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP}


class SessionLocked(UserError):
    """The session is open for writing elsewhere; it can be opened read-only."""


class SessionLock:
    """Held from the moment it is made until `release`; the operating system drops it when the process dies.

    Where the file system has no locks, a file stands for one (`SOFT`). Machines that share a folder may differ in
    that, so each kind of holder first says that it holds and then looks for the other kind: of two at least one sees
    the other.

    Raises
    ------
    SessionLocked
        If another process, or another window of this one, holds it.
    OSError
        If the folder cannot be written.
    """

    def __init__(self, root: Root) -> None:
        from filelock import FileLock, SoftFileLock, Timeout

        self._root = root
        with root.folder() as folder:
            for name in (LOCK, SOFT):
                if folder.kind(name) not in (None, "file"):
                    raise OSError(errno.EINVAL, f"its “{name}” is no regular file; remove it")
        soft = SoftFileLock(root.path / SOFT, thread_local=False)
        self._lock: BaseFileLock = FileLock(root.path / LOCK, thread_local=False, fallback_to_soft=False)
        try:
            try:
                self._lock.acquire(blocking=False)
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise
                self._lock = soft
                soft.acquire(blocking=False)
                free = not _may_live(self._note())
            else:
                free = _is_free(soft)
            if free:
                self._sign()
            free = free and (self._lock is soft or _is_free(soft))
        except Timeout:
            free = False
        if not free:
            holder = _holder(self._note())
            self._lock.release()
            raise SessionLocked(
                f"The session “{root.path}” is already open{holder}. Close it there, or open it here read-only."
            )

    def _sign(self) -> None:
        note = {"pid": os.getpid(), "host": socket.gethostname(), "since": datetime.now().strftime("%H:%M on %d %B")}
        # Where the file system has locks it only helps the sentence: on a full disk the session opens all the same.
        with suppress(OSError), self._root.folder() as folder:
            folder.remove(OWNER)
            folder.write(OWNER, json.dumps(note).encode())

    def _note(self) -> Any:
        with suppress(OSError, ValueError), self._root.folder() as folder:
            return parse(folder.read(OWNER, MOST_NOTE_BYTES))
        return None

    def release(self) -> None:
        with suppress(OSError), self._root.folder() as folder:
            folder.remove(OWNER)
        self._lock.release()


def _is_free(soft: "BaseFileLock") -> bool:
    """Whether nobody holds the file that stands for a lock; one of a dead process is removed."""
    from filelock import Timeout

    if not os.path.lexists(soft.lock_file):
        return True
    try:
        soft.acquire(blocking=False)
    except Timeout:
        return False
    soft.release()
    return True


def _may_live(note: Any) -> bool:
    """Whether the process that signed may still hold the session: on another machine nobody can tell."""
    import psutil

    try:
        return bool(note["host"] != socket.gethostname() or psutil.pid_exists(int(note["pid"])))
    except (TypeError, ValueError, KeyError, OverflowError):
        return False


def _holder(note: Any) -> str:
    try:
        return printable(f" in process {note['pid']} on {note['host']} since {note['since']}")
    except (TypeError, KeyError):
        return " in another window"
