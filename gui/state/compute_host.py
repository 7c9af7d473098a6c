"""The thread that hosts the compute processes: passes jobs to them and their replies back."""

from contextlib import suppress

from PySide6.QtCore import QObject, QTimer, Signal, Slot

from engine.runs.jobs.job import Job
from engine.runs.jobs.processes import ComputeProcesses
from gui.state.threads import WorkerThread

POLL_MS = 20


class _Worker(QObject):
    """Lives in the thread. Results are unpickled here, where they cannot block the window."""

    replied = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self._processes = ComputeProcesses()
        self._timer: QTimer | None = None

    @Slot()
    def begin(self) -> None:
        if self._timer is None:
            self._timer = QTimer(self)
            self._timer.timeout.connect(self.poll)
            self._timer.start(POLL_MS)
        with suppress(OSError):  # the first job reports the failure
            self._processes.start()

    @Slot(object)
    def ask(self, job: Job) -> None:
        self.begin()
        self._processes.ask(job)

    @Slot(int)
    def cancel(self, job_id: int) -> None:
        self._processes.cancel(job_id)

    @Slot()
    def poll(self) -> None:
        while (reply := self._processes.poll()) is not None:
            self.replied.emit(reply)

    @Slot()
    def end(self) -> None:
        """End the compute processes; what they committed is on disk."""
        if self._timer is not None:
            self._timer.stop()
        self._processes.close()


class ComputeHost(QObject):
    """The window's side of the thread: call its methods on the GUI thread; `replied` carries each `Reply`."""

    replied = Signal(object)
    _begin, _end = Signal(), Signal()
    _asked, _cancelled = Signal(object), Signal(int)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        worker = _Worker()
        worker.replied.connect(self._pass_on)
        self._begin.connect(worker.begin)
        self._asked.connect(worker.ask)
        self._cancelled.connect(worker.cancel)
        self._end.connect(worker.end)
        self._thread = WorkerThread(worker, "eigenscope-host")
        self._closed = False

    def start(self) -> None:
        """Start the compute process ahead of the first job."""
        self._begin.emit()

    @Slot(object)
    def ask(self, job: Job) -> None:
        """Queue a job; every reply to it carries its id."""
        self._asked.emit(job)

    @Slot(int)
    def cancel(self, job_id: int) -> None:
        """Ask a job to stop."""
        self._cancelled.emit(job_id)

    def close(self) -> bool:
        """End the compute processes and the thread; return whether it stopped in time."""
        if self._closed:
            return True
        self._closed = True
        self._end.emit()
        return self._thread.stop()

    @Slot(object)
    def _pass_on(self, reply: object) -> None:
        if not self._closed:
            self.replied.emit(reply)
