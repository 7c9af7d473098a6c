"""Keeps in the session how the window looked, and puts it back."""

from contextlib import suppress
from dataclasses import asdict
from typing import Any

from PySide6.QtCore import QObject, QTimer, Slot

from engine.errors import UserError
from gui.panes.workspace import ViewPanel, Workspace
from gui.state.background_tasks import BackgroundTasks
from gui.state.document import Document
from gui.state.results import Results
from gui.state.runs import Runs
from gui.state.selection import SelectionModel

WINDOW = "window"
QUIET_MS = 1500


class ViewState(QObject):
    """Saves the views, their options, the selection and the run in front, a moment after the last change."""

    def __init__(
        self,
        document: Document,
        tasks: BackgroundTasks,
        shown: tuple[Results, Runs],
        selection: SelectionModel,
        panels: tuple[Workspace, ViewPanel],
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._document, self._tasks = document, tasks
        self._results, self._runs = shown
        self._selection = selection
        self._workspace, self._navigator = panels
        self._quiet = QTimer(self, singleShot=True, interval=QUIET_MS)
        self._quiet.timeout.connect(self._save)
        document.leaving.connect(self.flush)
        self._workspace.changed.connect(self._quiet.start)
        self._navigator.changed.connect(self._quiet.start)
        self._selection.changed.connect(self._later)
        self._results.shown.connect(self._quiet.start)

    def state(self) -> dict[str, Any]:
        row = self._results.row
        return {
            "workspace": self._workspace.state(),
            "navigator": self._navigator.state(),
            "selection": asdict(self._selection.current),
            "run": row.run if row else "",
        }

    def restore(self) -> None:
        """Put everything as it was; the last run is in front if none was."""
        session = self._document.session
        state = session.views().get(WINDOW, {}) if session is not None else {}
        self._workspace.restore(state.get("workspace", {}))
        self._navigator.restore(state.get("navigator", {}))
        self._selection.restore(state.get("selection", {}))
        rows = self._runs.rows
        row = self._runs.find(state.get("run", "")) or (rows[-1] if rows else None)
        if row is not None:
            self._results.show_run(row)
        self._quiet.stop()

    @Slot()
    def flush(self) -> None:
        """Save now; a full disk or a folder that was taken away loses only the view."""
        self._quiet.stop()
        session = self._document.session
        if session is not None and not session.readonly:
            with suppress(UserError, OSError):
                session.save_view(WINDOW, self.state())

    @Slot(object)
    def _later(self, _selection: object) -> None:
        self._quiet.start()

    @Slot()
    def _save(self) -> None:
        session, state = self._document.session, self.state()
        if session is not None and not session.readonly:
            self._tasks.do("", lambda: session.save_view(WINDOW, state), _ignore, _ignore)


def _ignore(_: object) -> None:
    """Nobody waits for the view to be saved."""
