"""The QThread that hosts the engine: it supervises the compute process and passes on what that says."""

from pathlib import Path

from PySide6.QtCore import QObject, QTimer, Signal, Slot

from engine.errors import UserError
from engine.events import Failed
from engine.request import ModelSpec, Request
from engine.runs.child import Child, Inspected, Submit, Verified, Verify
from engine.runs.sentence import Attend, Attended
from engine.runs.tuning_job import Tune, Tuned
from gui.state.threads import WorkerThread

POLL_MS = 20


class _Worker(QObject):
    """Lives in the thread. Results are unpickled here, where that cannot hold up the window."""

    replied = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self._child = Child()
        self._timer: QTimer | None = None

    @Slot()
    def begin(self) -> None:
        if self._timer is None:
            self._timer = QTimer(self)
            self._timer.timeout.connect(self.poll)
            self._timer.start(POLL_MS)
        try:
            self._child.start()
        except OSError as error:
            self.replied.emit(Failed("", "The compute process cannot be started.", repr(error)))

    @Slot(object)
    def submit(self, message: Submit) -> None:
        try:
            self._child.submit(message.session, message.work)
        except OSError as error:
            self.replied.emit(Failed("", "The compute process cannot be started; close other programs.", repr(error)))

    @Slot(object)
    def inspect(self, spec: ModelSpec) -> None:
        try:
            self._child.inspect(spec)
        except OSError as error:
            trouble = UserError("The compute process cannot be started; close other programs.", repr(error))
            self.replied.emit(Inspected(spec, None, trouble))

    @Slot(object)
    def verify(self, message: Verify) -> None:
        try:
            self._child.verify(message)
        except OSError as error:
            trouble = "The compute process cannot be started; close other programs."
            self.replied.emit(Verified(False, trouble, repr(error)))

    @Slot(object)
    def attend(self, message: Attend) -> None:
        try:
            self._child.attend(message)
        except OSError as error:
            trouble = "The compute process cannot be started; close other programs."
            self.replied.emit(Attended(message, None, trouble, repr(error)))

    @Slot(object)
    def tune(self, message: Tune) -> None:
        try:
            self._child.tune(message)
        except OSError as error:
            trouble = "The compute process cannot be started; close other programs."
            self.replied.emit(Tuned(message.out, (), trouble, repr(error)))

    @Slot()
    def cancel(self) -> None:
        self._child.cancel()

    @Slot()
    def cancel_tuning(self) -> None:
        self._child.cancel_tuning()

    @Slot()
    def poll(self) -> None:
        while (reply := self._child.poll()) is not None:
            self.replied.emit(reply)

    @Slot()
    def end(self) -> None:
        """Let the compute process go; what it committed is on disk."""
        if self._timer is not None:
            self._timer.stop()
        self._child.close()


class Host(QObject):
    """The window's side: call its methods on the GUI thread; `replied` carries each Event and answer there."""

    replied = Signal(object)
    _begin, _cancel, _cancel_tuning, _end = Signal(), Signal(), Signal(), Signal()
    _submit, _inspect, _verify, _tune = Signal(object), Signal(object), Signal(object), Signal(object)
    _attend = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        worker = _Worker()
        worker.replied.connect(self._pass_on)
        self._begin.connect(worker.begin)
        self._submit.connect(worker.submit)
        self._inspect.connect(worker.inspect)
        self._verify.connect(worker.verify)
        self._tune.connect(worker.tune)
        self._attend.connect(worker.attend)
        self._cancel.connect(worker.cancel)
        self._cancel_tuning.connect(worker.cancel_tuning)
        self._end.connect(worker.end)
        self._thread = WorkerThread(worker, "eigenscope-host")
        self._closed = False

    def start(self) -> None:
        """Start the compute process, so that it is warm when the first run comes."""
        self._begin.emit()

    def submit(self, session: Path, work: Request | str) -> None:
        """Start a new run, or resume the one with this id; only one at a time."""
        self._begin.emit()
        self._submit.emit(Submit(session, work))

    def inspect(self, spec: ModelSpec) -> None:
        self._begin.emit()
        self._inspect.emit(spec)

    def verify(self, message: Verify) -> None:
        self._begin.emit()
        self._verify.emit(message)

    def attend(self, message: Attend) -> None:
        self._begin.emit()
        self._attend.emit(message)

    def tune(self, message: Tune) -> None:
        self._begin.emit()
        self._tune.emit(message)

    def cancel_tuning(self) -> None:
        self._cancel_tuning.emit()

    def cancel(self) -> None:
        self._cancel.emit()

    def close(self) -> bool:
        """End the compute process and the thread; True when both ended in time."""
        if self._closed:
            return True
        self._closed = True
        self._end.emit()
        return self._thread.stop()

    @Slot(object)
    def _pass_on(self, reply: object) -> None:
        if not self._closed:
            self.replied.emit(reply)
