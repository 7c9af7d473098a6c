"""The open session as the window sees it: none yet, one that is written to, or one that is only read."""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Signal

from engine.errors import UserError

if TYPE_CHECKING:
    from engine.sessions.store import Session

SUFFIX = ".eigenscope"


class Document(QObject):
    """Holds at most one Session. A new one is made in `home` when something is first run: nothing is ever unsaved."""

    leaving = Signal()
    """The session is about to be left or copied: what belongs into it must be written now."""
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
        """The session to write a run into; a UserError if it is read-only or none can be made."""
        if self.session is None:
            from engine.sessions.store import Session

            try:
                self.home.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise UserError(
                    f"No session can be made in “{self.home}”: {error.strerror}. Free or unlock it."
                ) from error
            stem = f"untitled-{datetime.now():%Y%m%d-%H%M%S}"
            self.take(Session.create(self.home / f"{stem}{SUFFIX}"))
        assert self.session is not None
        self.session.require_writable()
        return self.session

    def open(self, path: Path, readonly: bool = False) -> None:
        """Open another session in place of this one; if it cannot be opened, this one stays."""
        from engine.sessions.store import Session

        if self.session is not None and not self.session.readonly and self.session.path == path.absolute():
            return
        self.take(Session.open(path, readonly))

    def take(self, session: "Session | None") -> None:
        """Go on with `session` and close the one before it."""
        self.leaving.emit()
        before, self.session = self.session, session
        if before is not None:
            before.close()
        self.changed.emit()

    def close(self) -> None:
        if self.session is not None:
            self.session.close()
            self.session = None
