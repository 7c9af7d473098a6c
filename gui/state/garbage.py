"""Cyclic garbage, collected on the GUI thread alone."""

import gc

from PySide6.QtCore import QObject, QTimer, Slot

EVERY_MS = 1000


class Collector(QObject):
    """Takes over from Python's own collector until it is closed.

    Python collects on whichever thread happens to allocate. Widgets and plots that are no longer used lie in cycles,
    and a thread that reads a result would then destroy them beside the GUI thread, which crashes the process.
    """

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        gc.disable()
        self._timer = QTimer(self, interval=EVERY_MS)
        self._timer.timeout.connect(self.collect)
        self._timer.start()

    @Slot()
    def collect(self) -> None:
        """Collect the oldest generation that is due, as Python would."""
        due = [
            i for i, (count, limit) in enumerate(zip(gc.get_count(), gc.get_threshold(), strict=True)) if count > limit
        ]
        if due:
            gc.collect(due[-1])

    def close(self) -> None:
        """Collect what there is and leave the rest to Python; call it when no other thread is left."""
        self._timer.stop()
        gc.collect()
        gc.enable()
