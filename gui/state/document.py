"""The open session as the window sees it: none yet, writable, or read-only."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QObject, Signal

from engine.errors import UserError, boundary

if TYPE_CHECKING:
    from engine.sessions.store import Run, Session

SUFFIX = ".eigenscope"


@dataclass(frozen=True)
class StoredRun:
    """A run of a session when that was opened; `done` of its units are committed, and `finished` says of the result."""

    run: "Run"
    done: int
    finished: bool


@dataclass(frozen=True)
class OpenSession:
    """A session with everything that the window shows of it at first; slow to read where there are many runs."""

    session: "Session"
    runs: tuple[StoredRun, ...]
    views: dict[str, dict[str, Any]]

    @classmethod
    def read(cls, session: "Session") -> "OpenSession":
        """Read what a session holds; it is closed if that fails."""
        try:
            runs = tuple(StoredRun(run, len(run.committed()), run.finished) for run in session.runs())
            return cls(session, runs, session.views())
        except BaseException:
            session.close()
            raise


def open_session(path: Path, readonly: bool = False) -> OpenSession:
    """Open and read a session.

    Raises
    ------
    SessionLocked
        Open for writing elsewhere.
    UserError
        If it cannot be opened, whatever its files hold.
    """
    from engine.sessions.store import Session

    with boundary(f"“{path}” cannot be opened"):
        return OpenSession.read(Session.open(path, readonly))


class Document(QObject):
    """Holds at most one session. The first run creates one in `home`, so nothing is ever unsaved."""

    flush_requested = Signal()
    """Emitted before the session is closed or copied: write now whatever belongs in it."""
    changed = Signal()

    def __init__(self, home: Path, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.home = home
        self.content: OpenSession | None = None

    @property
    def session(self) -> "Session | None":
        return self.content.session if self.content is not None else None

    @property
    def title(self) -> str:
        if self.session is None:
            return "New session"
        return self.session.path.name.removesuffix(SUFFIX) + (" (read-only)" if self.session.readonly else "")

    def ensure(self) -> "Session":
        """Return the session to write a run into, creating one if none is open.

        Raises
        ------
        UserError
            If the session is read-only, or none can be created.
        """
        if self.session is None:
            from engine.sessions.store import Session

            try:
                self.home.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise UserError(
                    f"Could not create a session in “{self.home}”: {error.strerror}. "
                    "Check its free space and permissions."
                ) from error
            stem = f"untitled-{datetime.now():%Y%m%d-%H%M%S}"
            self.switch_to(OpenSession.read(Session.create(self.home / f"{stem}{SUFFIX}")))
        assert self.session is not None
        self.session.require_writable()
        return self.session

    def switch_to(self, content: OpenSession | None) -> None:
        """Make this the open session and close the previous one."""
        self.flush_requested.emit()
        previous, self.content = self.session, content
        if previous is not None:
            previous.close()
        self.changed.emit()

    def close(self) -> None:
        if self.session is not None:
            self.session.close()
        self.content = None
