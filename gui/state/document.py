"""The open session as the window sees it: none yet, writable, or read-only."""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Signal

from engine.errors import UserError

if TYPE_CHECKING:
    from engine.sessions.store import Session

SUFFIX = ".eigenscope"


class Document(QObject):
    """Holds at most one Session. The first run creates one in `home`, so nothing is ever unsaved."""

    flush_requested = Signal()
    """Emitted before the session is closed or copied: write now whatever belongs in it."""
    changed = Signal()

    def __init__(self, home: Path, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.home = home
        self.session: Session | None = None

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
            self.switch_to(Session.create(self.home / f"{stem}{SUFFIX}"))
        assert self.session is not None
        self.session.require_writable()
        return self.session

    def open(self, path: Path, readonly: bool = False) -> None:
        """Open another session in place of this one; if that fails, this one stays open."""
        from engine.sessions.store import Session

        if self.session is not None and not self.session.readonly and self.session.path == path.absolute():
            return
        self.switch_to(Session.open(path, readonly))

    def switch_to(self, session: "Session | None") -> None:
        """Make `session` the open one and close the previous one."""
        self.flush_requested.emit()
        previous, self.session = self.session, session
        if previous is not None:
            previous.close()
        self.changed.emit()

    def close(self) -> None:
        if self.session is not None:
            self.session.close()
            self.session = None
