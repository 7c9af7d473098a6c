"""The compute process from the inside: carry out one job after another until the pipe closes."""

import os
import signal
import threading
from collections import deque
from multiprocessing.connection import Connection

from engine.errors import Cancelled, one_sentence
from engine.logs import keep_warnings
from engine.runs.jobs.job import Cancel, Context, Job, Reply, State
from engine.runs.jobs.parent import die_with_parent


def serve(connection: Connection) -> None:
    """Live in the child."""
    keep_warnings()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in the terminal is for the parent, which cancels
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # ends it as a kill does, also where the parent ignores it
    die_with_parent()
    _Server(connection).live()


class _Server:
    """Carries out jobs in the thread that calls `live`.

    A second thread reads the pipe, so that a cancel is seen while a unit computes.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._sending = threading.Lock()
        self._changed = threading.Condition()  # guards the three below
        self._waiting: deque[Job] = deque()
        self._current: int | None = None
        self._stop = threading.Event()

    def live(self) -> None:
        threading.Thread(target=self._listen, name="listen", daemon=True).start()
        # While nobody waits, so that the first run starts at once.
        import engine.runs.loop  # noqa: F401
        from engine.runs.model_cache import ModelCache

        context = Context(ModelCache(), lambda: bool(self._waiting))
        while True:
            self._carry_out(self._next(), context)

    def _next(self) -> Job:
        with self._changed:
            self._current = None
            self._changed.wait_for(lambda: bool(self._waiting))
            job = self._waiting.popleft()
            self._current = job.id
            self._stop.clear()
            return job

    def _carry_out(self, job: Job, context: Context) -> None:
        self._reply(Reply(job.id, State.RUNNING))

        def tell(told: object) -> None:
            self._reply(Reply(job.id, State.RUNNING, told=told))

        try:
            end = Reply(job.id, State.DONE, answer=job.run(context, tell, self._stop.is_set))
        except Cancelled:
            end = Reply(job.id, State.STOPPED)
        except BaseException as error:  # whoever asked must get an answer, whatever happens
            end = Reply(job.id, State.FAILED, error=one_sentence(error, job.failure))
        self._reply(end)

    def _listen(self) -> None:
        while True:
            try:
                message = self._connection.recv()
            except (EOFError, OSError):
                os._exit(0)  # nobody asks any more
            if isinstance(message, Cancel):
                self._cancel(message.id)
            else:
                with self._changed:
                    self._waiting.append(message)
                    self._changed.notify()

    def _cancel(self, job_id: int) -> None:
        with self._changed:
            if job_id == self._current:
                self._stop.set()
            if not any(job.id == job_id for job in self._waiting):
                return
            self._waiting = deque(job for job in self._waiting if job.id != job_id)
        self._reply(Reply(job_id, State.STOPPED))

    def _reply(self, reply: Reply) -> None:
        with self._sending:
            try:
                self._connection.send(reply)
            except OSError:  # nobody listens any more
                os._exit(0)
