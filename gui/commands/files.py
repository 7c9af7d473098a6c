"""The session commands of the File menu: their dialogs, and the slow work in the background."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from PySide6.QtCore import QObject, Signal, Slot
from PySide6.QtWidgets import QFileDialog, QWidget

from engine.errors import UserError
from gui.look.widgets import Button, confirm
from gui.state.background_tasks import BackgroundTasks
from gui.state.document import SUFFIX, Document, OpenSession, open_session
from gui.state.runs import Runs
from gui.state.settings import Settings


class FileCommands(QObject):
    """Opens, copies, zips and verifies sessions; `notice` carries a sentence, `failed` an error."""

    notice = Signal(str)
    failed = Signal(object)

    def __init__(
        self, document: Document, runs: Runs, tasks: BackgroundTasks, settings: Settings, window: QWidget
    ) -> None:
        super().__init__(window)
        self._document, self._runs, self._tasks = document, runs, tasks
        self._settings, self._window = settings, window
        self._opening: set[Path] = set()

    @Slot()
    def new(self) -> None:
        self._document.switch_to(None)

    @Slot()
    def open(self) -> None:
        folder = QFileDialog.getExistingDirectory(self._window, "Open session", str(self._document.home))
        if folder:
            self.open_path(Path(folder))

    @Slot()
    def open_zip(self) -> None:
        name, _ = QFileDialog.getOpenFileName(self._window, "Open ZIP read-only", "", "Sessions (*.zip)")
        if name:
            self.open_path(Path(name))

    def open_path(self, path: Path) -> None:
        """Open a session's folder or ZIP in the background, in place of the open one, which stays if that fails.

        One in use elsewhere is offered read-only.
        """
        session, path = self._document.session, path.absolute()
        if path not in self._opening and (session is None or session.readonly or session.path != path):
            self._open(path, readonly=False)

    def _open(self, path: Path, readonly: bool) -> None:
        def switch(content: OpenSession) -> None:
            self._opening.discard(path)
            self._switch_to(content)

        def refuse(error: BaseException) -> None:
            from engine.sessions.lock import SessionLocked

            self._opening.discard(path)
            if not isinstance(error, SessionLocked):
                self.failed.emit(error)
            elif self._offer_readonly(error):
                self._open(path, readonly=True)

        self._opening.add(path)
        self._tasks.submit("Opening the session", lambda: open_session(path, readonly), switch, refuse)

    def _switch_to(self, content: OpenSession) -> bool:
        """Show a session that was opened in the background, unless a run is in progress."""
        path = content.session.path
        if self._runs.busy:
            content.session.close()
            self.failed.emit(
                UserError(f"“{path}” is not shown because a run is in progress. Open it when the run has ended.")
            )
            return False
        self._document.switch_to(content)
        self._settings.remember_session(path)
        for notice in content.session.notices:
            self.notice.emit(notice)
        return True

    @Slot()
    def save_as(self) -> None:
        name, _ = QFileDialog.getSaveFileName(
            self._window, "Save session as", str(Path.home() / f"session{SUFFIX}"), f"Sessions (*{SUFFIX})"
        )
        if name:
            self.save_to(Path(name))

    def save_to(self, path: Path) -> None:
        """Copy the session to `path` and continue in the copy."""
        session = self._document.session
        if session is None:
            return
        target = path if path.name.endswith(SUFFIX) else path.with_name(path.name + SUFFIX)

        def switch(copy: OpenSession) -> None:
            if self._switch_to(copy):
                self.notice.emit(f"Session saved as “{target}”.")

        self._document.flush_requested.emit()
        self._submit("Copying the session", lambda: OpenSession.read(session.save_as(target)), switch)

    @Slot()
    def pack(self) -> None:
        session = self._document.session
        if session is None:
            return
        proposal = Path.home() / f"{session.path.name.removesuffix('.zip')}.zip"
        name, _ = QFileDialog.getSaveFileName(self._window, "Export session as ZIP", str(proposal), "ZIP (*.zip)")
        if name:
            self.pack_to(Path(name))

    def pack_to(self, target: Path) -> None:
        """Zip the session after comparing every file with its checksum."""
        from engine.sessions.archive import pack

        session = self._document.session
        assert session is not None
        self._document.flush_requested.emit()
        self._submit(
            "Zipping the session",
            lambda: pack(session.path, target),
            lambda _: self.notice.emit(f"Session verified and exported to “{target}”."),
        )

    @Slot()
    def unpack(self) -> None:
        name, _ = QFileDialog.getOpenFileName(self._window, "Import session from ZIP", "", "Sessions (*.zip)")
        if not name:
            return
        folder = QFileDialog.getExistingDirectory(
            self._window, "Folder for the session", str(self._document.home.parent)
        )
        if folder:
            self.unpack_to(Path(name), Path(folder))

    def unpack_to(self, archive: Path, folder: Path) -> None:
        """Unpack a session's ZIP into a new folder inside `folder` and open it."""
        from engine.sessions.archive import unpack

        target = folder / f"{archive.name.removesuffix('.zip').removesuffix(SUFFIX)}{SUFFIX}"
        self._submit("Unpacking the ZIP", lambda: unpack(archive, target), lambda _: self.open_path(target))

    @Slot()
    def verify(self) -> None:
        from engine.sessions.verify import verify

        session = self._document.session
        assert session is not None

        def show(report: Any) -> None:
            if report.problems:
                more = f" ({len(report.problems) - 1} more in the details)" if len(report.problems) > 1 else ""
                self.failed.emit(UserError(f"{report.problems[0]}{more}", "\n".join(report.problems)))
            else:
                self.notice.emit(f"All {report.files} files ({report.bytes / 1e6:.1f} MB) are as they were committed.")

        self._submit("Verifying the session", lambda: verify(session.path), show)

    def _submit(self, title: str, work: Callable[[], Any], on_result: Callable[[Any], None]) -> None:
        self._tasks.submit(title, work, on_result, self.failed.emit)

    def _offer_readonly(self, locked: UserError) -> bool:
        title, accept = "Session in use", "Open read-only"
        return confirm(self._window, title, locked.message, Button.Open, accept, "Cancel", default=True)
