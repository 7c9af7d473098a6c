"""The run on display and its dataset: the latest snapshot of a run in progress, or the result in the session."""

from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Signal, Slot

from engine.analyses.header import Header
from engine.errors import boundary, one_sentence
from engine.events import Snapshot
from engine.runs.jobs.job import State
from gui.state.background_tasks import BackgroundTasks
from gui.state.document import Document
from gui.state.runs import RunRow, Runs

if TYPE_CHECKING:
    import xarray as xr

    from engine.sessions.store import Session

CHOOSE = "Choose a model on the left, then press Run."
UNREADABLE = "The result of this run cannot be read"


class Results(QObject):
    """`shown` is emitted when there is something new to draw; `failed` carries the error if a result is unreadable."""

    shown = Signal()
    failed = Signal(object)

    def __init__(self, document: Document, runs: Runs, tasks: BackgroundTasks, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._document, self._runs, self._tasks = document, runs, tasks
        self._datasets: dict[str, xr.Dataset] = {}
        self._unreadable: dict[str, str] = {}  # why, by run
        self.live: xr.Dataset | None = None
        self._key: int | None = None
        runs.snapshot.connect(self._show_snapshot)
        runs.changed.connect(self._refresh_text)

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
        """The text in place of a figure: why there is nothing to draw, and what to do next."""
        match self.row:
            case None:
                return CHOOSE
            case RunRow(state=State.QUEUED):
                return "This run is queued and starts when the one before it ends."
            case RunRow(state=State.RUNNING | State.CANCELLING):
                return "Computing the first layer …"
            case RunRow(state=State.DONE, run=run):
                return self._unreadable.get(run, "Reading the result …")
            case RunRow(state=State.FAILED, message=message):
                return f"{message}"
            case row:
                return f"This run was stopped with {row.done} of {row.total} units computed. Resume it to see them."

    def clear(self) -> None:
        self._datasets.clear()
        self._unreadable.clear()
        self._key = self.live = None
        self.shown.emit()

    @Slot(object)
    def show_run(self, row: RunRow | None) -> None:
        """Display `row`, or nothing; a finished run is read from the session in the background."""
        self._key, self.live = row.key if row else None, None
        session = self._document.session
        if row and row.state is State.DONE and row.run not in self._datasets and session is not None:
            run = row.run

            def store(dataset: "xr.Dataset | None") -> None:
                if dataset is not None and self._document.session is session:
                    self._datasets[run] = dataset
                    self.shown.emit()

            def report(error: BaseException) -> None:
                if self._document.session is session:
                    self._unreadable[run] = one_sentence(error, UNREADABLE).message
                    self.failed.emit(error)
                    self.shown.emit()

            self._tasks.submit(f"Reading {row.title}", lambda: _read(session, run), store, report)
        self.shown.emit()

    @Slot(object)
    def show_live(self, dataset: "xr.Dataset | None") -> None:
        """Display a dataset that belongs to no run until a run is chosen; None returns to the run."""
        self.live = dataset
        self.shown.emit()

    @Slot(object)
    def _show_snapshot(self, snapshot: Snapshot) -> None:
        self._datasets[snapshot.run] = snapshot.dataset
        if self.row is not None and self.row.run == snapshot.run:
            self.shown.emit()

    @Slot()
    def _refresh_text(self) -> None:
        if self._key is not None and self.dataset is None:
            self.shown.emit()


def _read(session: "Session", run: str) -> "xr.Dataset | None":
    """Read a result, and what everything that shows it asks for first: its header."""
    with boundary(UNREADABLE):
        stored = session.run(run)
        dataset = stored.result()
        if dataset is not None and (analysis := Header.of(dataset).analysis) != stored.request.analysis:
            raise ValueError(f"it is of “{analysis}”, and its run of “{stored.request.analysis}”")
        return dataset
