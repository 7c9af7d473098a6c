"""Which run is looked at, and its dataset: as it grows while the run goes on, or read from the session."""

from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Signal, Slot

from engine.events import Snapshot
from engine.runs.jobs.job import State
from gui.state.background_tasks import BackgroundTasks
from gui.state.document import Document
from gui.state.runs import RunRow, Runs

if TYPE_CHECKING:
    import xarray as xr

CHOOSE = "Choose a model on the left, then press Run."


class Results(QObject):
    """`shown` is emitted when there is something else to draw; `failed` carries why a result cannot be read."""

    shown = Signal()
    failed = Signal(object)

    def __init__(self, document: Document, runs: Runs, tasks: BackgroundTasks, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._document, self._runs, self._tasks = document, runs, tasks
        self._datasets: dict[str, xr.Dataset] = {}
        self.live: xr.Dataset | None = None
        self._key: int | None = None
        runs.snapshot.connect(self._grow)
        runs.changed.connect(self._follow)

    @property
    def row(self) -> RunRow | None:
        return None if self._key is None else self._runs.row(self._key)

    @property
    def dataset(self) -> "xr.Dataset | None":
        if self.live is not None:
            return self.live
        return self._datasets.get(self.row.run) if self.row else None

    @property
    def empty(self) -> str:
        """What to say, and what to do next, where there is nothing to draw."""
        match self.row:
            case None:
                return CHOOSE
            case RunRow(state=State.QUEUED):
                return "This run waits for the one before it."
            case RunRow(state=State.RUNNING | State.CANCELLING):
                return "The first layer is on its way."
            case RunRow(state=State.DONE):
                return "Reading the result …"
            case RunRow(state=State.FAILED, message=message):
                return f"{message}"
            case row:
                return f"This run was stopped; {row.done} of {row.total} units are kept. Resume it to see them."

    def clear(self) -> None:
        self._datasets.clear()
        self._key = self.live = None
        self.shown.emit()

    @Slot(object)
    def show_run(self, row: RunRow | None) -> None:
        """Look at `row`, or at nothing; a finished run is read from the session in the background."""
        self._key, self.live = row.key if row else None, None
        session = self._document.session
        if row and row.state is State.DONE and row.run not in self._datasets and session is not None:
            name = row.run

            def keep(dataset: "xr.Dataset | None") -> None:
                if dataset is not None and self._document.session is session:
                    self._datasets[name] = dataset
                    self.shown.emit()

            def say(error: Exception) -> None:
                if self._document.session is session:
                    self.failed.emit(error)

            self._tasks.do(f"Reading {row.title}", lambda: session.run(name).result(), keep, say)
        self.shown.emit()

    @Slot(object)
    def show_live(self, dataset: "xr.Dataset | None") -> None:
        """Look at something that no run made, until a run is chosen; None goes back to the run."""
        self.live = dataset
        self.shown.emit()

    @Slot(object)
    def _grow(self, snapshot: Snapshot) -> None:
        self._datasets[snapshot.run] = snapshot.dataset
        if self.row is not None and self.row.run == snapshot.run:
            self.shown.emit()

    @Slot()
    def _follow(self) -> None:
        if self._key is not None and self.dataset is None:
            self.shown.emit()
