"""Collects cyclic garbage, on the GUI thread only."""

import gc

from PySide6.QtCore import QObject, QTimer, Slot

EVERY_MS = 1000


class Collector(QObject):
    """Replaces Python's own collector until it is closed.

    Python collects on whichever thread happens to allocate. Discarded widgets and plots lie in cycles; a thread
    reading a result would then destroy them off the GUI thread, which crashes the process.
    """

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        gc.disable()
        self._timer = QTimer(self, interval=EVERY_MS)
        self._timer.timeout.connect(self.collect)
        self._timer.start()

    @Slot()
    def collect(self) -> None:
        """Collect the oldest generation that is due, as Python does."""
        due = [
            i for i, (count, limit) in enumerate(zip(gc.get_count(), gc.get_threshold(), strict=True)) if count > limit
        ]
        if due:
            gc.collect(due[-1])

    def close(self) -> None:
        """Collect once more and re-enable Python's collector; call it when no other thread is left."""
        self._timer.stop()
        gc.collect()
        gc.enable()
