"""A QObject in its own QThread, stopped in an orderly and bounded way."""

from PySide6.QtCore import QObject, QThread

# Destroying a running QThread aborts the process: one that would not stop in time is kept here until the process ends.
abandoned: list[tuple[QThread, QObject]] = []


class WorkerThread:
    """Starts `worker` in a thread of its own; talk to it only through signals connected to its decorated slots."""

    def __init__(self, worker: QObject, name: str) -> None:
        self.worker = worker
        self.thread = QThread()
        self.thread.setObjectName(name)
        worker.moveToThread(self.thread)
        self.thread.finished.connect(worker.deleteLater)
        self.thread.start()

    def stop(self, timeout_ms: int = 4000) -> bool:
        """Ask the event loop to end and wait; False if what it is doing took longer than `timeout_ms`."""
        self.thread.quit()
        if self.thread.wait(timeout_ms):
            return True
        abandoned.append((self.thread, self.worker))
        return False
