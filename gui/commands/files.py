"""The session commands of the File menu: their dialogs, and the slow parts in the background."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from PySide6.QtCore import QObject, Signal, Slot
from PySide6.QtWidgets import QFileDialog, QMessageBox, QWidget

from engine.errors import UserError
from gui.state.background_tasks import BackgroundTasks
from gui.state.document import SUFFIX, Document
from gui.state.settings import Settings


class FileCommands(QObject):
    """Opens, copies, packs and verifies sessions; `said` carries a sentence, `failed` an error."""

    said = Signal(str)
    failed = Signal(object)

    def __init__(self, document: Document, tasks: BackgroundTasks, settings: Settings, window: QWidget) -> None:
        super().__init__(window)
        self._document, self._tasks, self._settings, self._window = document, tasks, settings, window

    @Slot()
    def new(self) -> None:
        self._document.take(None)

    @Slot()
    def open(self) -> None:
        folder = QFileDialog.getExistingDirectory(self._window, "Open session", str(self._document.home))
        if folder:
            self.open_path(Path(folder))

    @Slot()
    def open_zip(self) -> None:
        name, _ = QFileDialog.getOpenFileName(self._window, "Open a zip read-only", "", "Sessions (*.zip)")
        if name:
            self.open_path(Path(name))

    def open_path(self, path: Path) -> None:
        """Open a session's folder or zip; one that is open elsewhere is offered read-only."""
        from engine.sessions.lock import SessionLocked

        try:
            try:
                self._document.open(path)
            except SessionLocked as locked:
                if not self._offer_readonly(locked):
                    return
                self._document.open(path, readonly=True)
        except UserError as error:
            self.failed.emit(error)
            return
        self._settings.remember_session(path)
        session = self._document.session
        for notice in session.notices if session else ():
            self.said.emit(notice)

    @Slot()
    def save_as(self) -> None:
        name, _ = QFileDialog.getSaveFileName(
            self._window, "Save session as", str(Path.home() / f"session{SUFFIX}"), f"Sessions (*{SUFFIX})"
        )
        if name:
            self.save_to(Path(name))

    def save_to(self, path: Path) -> None:
        """Copy the session to `path` and go on there."""
        session = self._document.session
        if session is None:
            return
        target = path if path.name.endswith(SUFFIX) else path.with_name(path.name + SUFFIX)

        def take(copy: Any) -> None:
            self._document.take(copy)
            self._settings.remember_session(target)
            self.said.emit(f"The session is now “{target}”.")

        self._document.leaving.emit()
        self._work("Copying the session", lambda: session.save_as(target), take)

    @Slot()
    def pack(self) -> None:
        session = self._document.session
        if session is None:
            return
        start = Path.home() / f"{session.path.name.removesuffix('.zip')}.zip"
        name, _ = QFileDialog.getSaveFileName(self._window, "Zip for a colleague", str(start), "Zip (*.zip)")
        if name:
            self.pack_to(Path(name))

    def pack_to(self, target: Path) -> None:
        """Zip the session, after every file was compared with its checksum."""
        from engine.sessions.archive import pack

        session = self._document.session
        assert session is not None
        self._document.leaving.emit()
        self._work(
            "Zipping the session",
            lambda: pack(session.path, target),
            lambda _: self.said.emit(f"The session was verified and zipped to “{target}”."),
        )

    @Slot()
    def unpack(self) -> None:
        name, _ = QFileDialog.getOpenFileName(self._window, "Import a zip", "", "Sessions (*.zip)")
        if not name:
            return
        folder = QFileDialog.getExistingDirectory(self._window, "Unpack it into", str(self._document.home.parent))
        if folder:
            self.unpack_to(Path(name), Path(folder))

    def unpack_to(self, archive: Path, folder: Path) -> None:
        """Unpack a session's zip into a new folder inside `folder`, and open that."""
        from engine.sessions.archive import unpack

        target = folder / f"{archive.name.removesuffix('.zip').removesuffix(SUFFIX)}{SUFFIX}"
        self._work("Unpacking the zip", lambda: unpack(archive, target), lambda _: self.open_path(target))

    @Slot()
    def verify(self) -> None:
        from engine.sessions.verify import verify

        session = self._document.session
        assert session is not None

        def tell(report: Any) -> None:
            if report.problems:
                more = f" and {len(report.problems) - 1} more problems" if len(report.problems) > 1 else ""
                self.failed.emit(UserError(f"{report.problems[0]}{more}", "\n".join(report.problems)))
            else:
                self.said.emit(f"All {report.files} files ({report.bytes / 1e6:.1f} MB) are as they were committed.")

        self._work("Verifying the session", lambda: verify(session.path), tell)

    def _work(self, title: str, work: Callable[[], Any], then: Callable[[Any], None]) -> None:
        self._tasks.do(title, work, then, self.failed.emit)

    def _offer_readonly(self, locked: UserError) -> bool:
        answer = QMessageBox.question(
            self._window,
            "Session in use",
            f"{locked.message}",
            QMessageBox.StandardButton.Open | QMessageBox.StandardButton.Cancel,
            QMessageBox.StandardButton.Open,
        )
        return answer == QMessageBox.StandardButton.Open
