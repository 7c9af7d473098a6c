"""Runs a QObject in its own QThread and stops it within a bounded time."""

from PySide6.QtCore import QObject, QThread

# Destroying a running QThread aborts the process: one that did not stop in time is kept here until the process ends.
abandoned: list[tuple[QThread, QObject]] = []


class WorkerThread:
    """Starts `worker` in its own thread; reach it only through signals connected to its decorated slots."""

    def __init__(self, worker: QObject, name: str) -> None:
        self.worker = worker
        self.thread = QThread()
        self.thread.setObjectName(name)
        worker.moveToThread(self.thread)
        self.thread.finished.connect(worker.deleteLater)
        self.thread.start()

    def stop(self, timeout_ms: int = 4000) -> bool:
        """Ask the event loop to quit and wait; return False if it took longer than `timeout_ms`."""
        self.thread.quit()
        if self.thread.wait(timeout_ms):
            return True
        abandoned.append((self.thread, self.worker))
        return False
