"""One writer for each session: a second window learns who has it and can still look."""

import json
import os
import socket
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from engine.errors import UserError

LOCK = "session.lock"
OWNER = "session.owner"


class SessionLocked(UserError):
    """The session is open for writing elsewhere; it can be opened read-only."""


class SessionLock:
    """Held from the moment it is made until `release`; the operating system drops it when the process dies.

    Raises
    ------
    SessionLocked
        If another process, or another window of this one, holds it.
    OSError
        If the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        from filelock import FileLock, Timeout

        self._owner = folder / OWNER
        self._lock = FileLock(folder / LOCK, thread_local=False)
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            raise SessionLocked(
                f"The session “{folder}” is already open{_holder(self._owner)}. "
                "Close it there, or open it here read-only."
            ) from None
        note = {"pid": os.getpid(), "host": socket.gethostname(), "since": datetime.now().strftime("%H:%M on %d %B")}
        # It only helps the sentence above: on a full disk the session opens all the same.
        with suppress(OSError):
            self._owner.write_text(json.dumps(note))

    def release(self) -> None:
        with suppress(OSError):
            self._owner.unlink()
        self._lock.release()


def _holder(owner: Path) -> str:
    try:
        note = json.loads(owner.read_text())
        return f" in process {note['pid']} on {note['host']} since {note['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return " in another window"
