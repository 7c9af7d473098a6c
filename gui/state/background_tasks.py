"""Work that must not block the window: reading a result; copying, zipping or verifying a session."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

from PySide6.QtCore import QObject, Signal, Slot

from gui.state.threads import WorkerThread


@dataclass(frozen=True)
class _Task:
    key: int
    work: Callable[[], Any]


@dataclass(frozen=True)
class _Outcome:
    key: int
    result: Any
    error: BaseException | None


@dataclass(frozen=True)
class _Callbacks:
    title: str
    on_result: Callable[[Any], None]
    on_error: Callable[[BaseException], None]


class _Worker(QObject):
    done = Signal(object)

    @Slot(object)
    def run(self, task: _Task) -> None:
        try:
            result, error = task.work(), None
        except BaseException as caught:  # the caller shows every failure
            result, error = None, caught
        self.done.emit(_Outcome(task.key, result, error))


class BackgroundTasks(QObject):
    """Runs one task after another in a thread; results arrive on the GUI thread.

    `running_changed` carries the title of the running task, empty when there is none.
    """

    running_changed = Signal(str)
    _submitted = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._keys = count()
        self._pending: dict[int, _Callbacks] = {}
        worker = _Worker()
        worker.done.connect(self._finish)
        self._submitted.connect(worker.run)
        self._thread = WorkerThread(worker, "eigenscope-tasks")

    def submit(
        self,
        title: str,
        work: Callable[[], Any],
        on_result: Callable[[Any], None],
        on_error: Callable[[BaseException], None],
    ) -> None:
        """Call `work` in the thread, then `on_result` or `on_error` with its outcome on the GUI thread."""
        key = next(self._keys)
        self._pending[key] = _Callbacks(title, on_result, on_error)
        self._announce()
        self._submitted.emit(_Task(key, work))

    @property
    def busy(self) -> bool:
        return bool(self._pending)

    def close(self) -> None:
        """Drop the pending results and stop the thread once its current task ends."""
        self._pending.clear()
        self._thread.stop()

    @Slot(object)
    def _finish(self, outcome: _Outcome) -> None:
        callbacks = self._pending.pop(outcome.key, None)
        if callbacks is None:
            return
        self._announce()
        if outcome.error is not None:
            callbacks.on_error(outcome.error)
        else:
            callbacks.on_result(outcome.result)

    def _announce(self) -> None:
        self.running_changed.emit(next((callbacks.title for callbacks in self._pending.values()), ""))
