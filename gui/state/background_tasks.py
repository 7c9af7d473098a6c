"""Work that must not hold up the window: reading a result, copying, zipping and verifying a session."""

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
class _Done:
    key: int
    result: Any
    error: Exception | None


@dataclass(frozen=True)
class _Waiting:
    title: str
    then: Callable[[Any], None]
    failed: Callable[[Exception], None]


class _Worker(QObject):
    done = Signal(object)

    @Slot(object)
    def carry_out(self, task: _Task) -> None:
        try:
            result, error = task.work(), None
        except Exception as caught:  # every failure is the caller's to show
            result, error = None, caught
        self.done.emit(_Done(task.key, result, error))


class BackgroundTasks(QObject):
    """Carries out one task after another in a thread; the answers arrive on the GUI thread.

    `doing` is emitted with the title of the task that is going on, and with an empty one when there is none.
    """

    doing = Signal(str)
    _asked = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._keys = count()
        self._waiting: dict[int, _Waiting] = {}
        worker = _Worker()
        worker.done.connect(self._answered)
        self._asked.connect(worker.carry_out)
        self._thread = WorkerThread(worker, "eigenscope-tasks")

    def do(
        self,
        title: str,
        work: Callable[[], Any],
        then: Callable[[Any], None],
        failed: Callable[[Exception], None],
    ) -> None:
        """Call `work` in the thread, then `then` with its result or `failed` with what it raised, on this thread."""
        key = next(self._keys)
        self._waiting[key] = _Waiting(title, then, failed)
        self._announce()
        self._asked.emit(_Task(key, work))

    @property
    def busy(self) -> bool:
        return bool(self._waiting)

    def close(self) -> None:
        """Forget the answers and stop the thread after the task that it is at."""
        self._waiting.clear()
        self._thread.stop()

    @Slot(object)
    def _answered(self, done: _Done) -> None:
        waiting = self._waiting.pop(done.key, None)
        if waiting is None:
            return
        self._announce()
        if done.error is not None:
            waiting.failed(done.error)
        else:
            waiting.then(done.result)

    def _announce(self) -> None:
        self.doing.emit(next((w.title for w in self._waiting.values()), ""))
