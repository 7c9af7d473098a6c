"""The compute processes: one that owns the models and the accelerator, one for what is answered beside its work."""

from contextlib import suppress
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
        """Start the process that inspects, which is asked first; the main one follows when that has answered.

        Both import the same large libraries: side by side, the first answer would come later.
        """
        self._beside.start()

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
        if (reply := self._beside.poll()) is None:
            return self._main.poll()
        if reply.state.ended:
            with suppress(OSError):  # its first job will say that it cannot be started
                self._main.start()
        return reply

    def close(self) -> None:
        """End both, even in the middle of a job."""
        for process in (self._main, self._beside):
            process.close()
