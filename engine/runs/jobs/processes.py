"""The compute processes: one that owns the models and the accelerator, one for what is answered beside its work."""

from multiprocessing.connection import wait

from engine.runs.jobs.job import Job, Reply
from engine.runs.jobs.process import ComputeProcess


class ComputeProcesses:
    """Asks each job of the process that its kind belongs to; neither loses anything when the other dies or is killed.

    Methods are those of a `ComputeProcess`.
    """

    def __init__(self) -> None:
        self._main, self._beside = ComputeProcess(), ComputeProcess()

    def start(self) -> None:
        """Start the main process ahead of its first job; the other one starts with its first."""
        self._main.start()

    def ask(self, job: Job) -> None:
        """Queue a job."""
        (self._beside if job.beside else self._main).ask(job)

    def cancel(self, job_id: int) -> None:
        """Ask a job to stop."""
        for process in (self._main, self._beside):
            process.cancel(job_id)

    def poll(self, timeout: float = 0.0) -> Reply | None:
        """Return the next reply of either, or None when nothing came within `timeout` seconds."""
        if (reply := self._reply()) is None and timeout > 0:
            wait([c for process in (self._main, self._beside) if (c := process.connection) is not None], timeout)
            reply = self._reply()
        return reply

    def _reply(self) -> Reply | None:
        return next((reply for process in (self._beside, self._main) if (reply := process.poll()) is not None), None)

    def close(self) -> None:
        """End both, even in the middle of a job."""
        for process in (self._main, self._beside):
            process.close()
