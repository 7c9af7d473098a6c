"""Saves the state of the views in the session and restores it."""

from contextlib import suppress
from dataclasses import asdict
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError
from PySide6.QtCore import QObject, QTimer, Slot

from engine.errors import UserError
from gui.panes.workspace import ViewPanel, Workspace
from gui.state.background_tasks import BackgroundTasks
from gui.state.document import Document
from gui.state.results import Results
from gui.state.runs import Runs
from gui.state.selection import SelectionModel

WINDOW = "window"
SAVE_DELAY_MS = 1500


class ViewState(QObject):
    """Saves the views, their options, the selection and the run on display, shortly after the last change."""

    def __init__(
        self,
        document: Document,
        tasks: BackgroundTasks,
        models: tuple[Results, Runs],
        selection: SelectionModel,
        panels: tuple[Workspace, ViewPanel],
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._document, self._tasks = document, tasks
        self._results, self._runs = models
        self._selection = selection
        self._workspace, self._navigator = panels
        self._save_timer = QTimer(self, singleShot=True, interval=SAVE_DELAY_MS)
        self._save_timer.timeout.connect(self._save)
        document.flush_requested.connect(self.flush)
        self._workspace.changed.connect(self._save_timer.start)
        self._navigator.changed.connect(self._save_timer.start)
        self._selection.changed.connect(self._schedule)
        self._results.shown.connect(self._save_timer.start)

    def state(self) -> dict[str, Any]:
        row = self._results.row
        return {
            "workspace": self._workspace.state(),
            "navigator": self._navigator.state(),
            "selection": asdict(self._selection.current),
            "run": row.run if row else "",
        }

    def restore(self) -> None:
        """Restore the saved state; without one, display the newest run."""
        content = self._document.content
        state = _valid(content.views.get(WINDOW, {}) if content is not None else {})
        self._workspace.restore(state["workspace"])
        self._navigator.restore(state["navigator"])
        self._selection.restore(state["selection"])
        rows = self._runs.rows
        row = self._runs.find(state["run"]) or (rows[-1] if rows else None)
        if row is not None:
            self._results.show_run(row)
        self._save_timer.stop()

    @Slot()
    def flush(self) -> None:
        """Save now; a full disk or a missing folder loses only the state of the views."""
        self._save_timer.stop()
        session = self._document.session
        if session is not None and not session.readonly:
            with suppress(UserError, OSError):
                session.save_view(WINDOW, self.state())

    @Slot(object)
    def _schedule(self, _selection: object) -> None:
        self._save_timer.start()

    @Slot()
    def _save(self) -> None:
        session, state = self._document.session, self.state()
        if session is not None and not session.readonly:
            self._tasks.submit("", lambda: session.save_view(WINDOW, state), _ignore, _ignore)


class _Panel(BaseModel):
    view: str = ""
    options: dict[str, dict[str, Any]] = {}


class _Page(BaseModel):
    split: bool = False
    panels: list[_Panel] = []


class _Workspace(BaseModel):
    analysis: str = ""
    pages: dict[str, _Page] = {}


class _State(BaseModel):
    """What `ViewState.state` saves; −1 is the default site of the selection."""

    workspace: _Workspace = _Workspace()
    navigator: _Panel = _Panel()
    selection: dict[str, Annotated[int, Field(ge=-1, lt=2**31)]] = {}
    run: str = ""


def _valid(state: dict[str, Any]) -> dict[str, Any]:
    """The state that a session holds, with defaults for what is lacking; all of them if somebody else changed it."""
    try:
        return _State.model_validate(state, strict=True).model_dump()
    except ValidationError:
        return _State().model_dump()


def _ignore(_: object) -> None:
    """Discard the outcome: nothing waits for the state to be saved."""
