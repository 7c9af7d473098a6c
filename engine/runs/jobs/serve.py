"""The compute process from the inside: carry out one job after another until the pipe closes."""

import os
import signal
import threading
from collections import deque
from collections.abc import Callable
from multiprocessing.connection import Connection

from engine.errors import Cancelled, UserError
from engine.logs import keep_warnings
from engine.runs.jobs.job import Cancel, Context, Job, Reply, State


def serve(connection: Connection) -> None:
    """Live in the child."""
    keep_warnings()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in the terminal is for the parent, which cancels
    _Server(connection).live()


class _Server:
    """Carries out jobs in the thread that calls `live`.

    A second thread reads the pipe, so that a cancel is seen, a model is inspected and the parent's death is noticed
    while a unit computes.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._sending = threading.Lock()
        self._changed = threading.Condition()  # guards the three below
        self._waiting: deque[Job] = deque()
        self._current: int | None = None
        self._stop = threading.Event()
        self._context: Context | None = None
        self._ready = threading.Event()

    def live(self) -> None:
        threading.Thread(target=self._listen, name="listen", daemon=True).start()
        # While nobody waits, so that the first run starts at once; two threads must not import torch together.
        import engine.runs.loop  # noqa: F401
        from engine.runs.model_cache import ModelCache

        context = self._context = Context(ModelCache(), lambda: bool(self._waiting))
        self._ready.set()
        while True:
            self._carry_out(self._next(), context, self._stop.is_set)

    def _next(self) -> Job:
        with self._changed:
            self._current = None
            self._changed.wait_for(lambda: bool(self._waiting))
            job = self._waiting.popleft()
            self._current = job.id
            self._stop.clear()
            return job

    def _carry_out(self, job: Job, context: Context, cancelled: Callable[[], bool]) -> None:
        self._reply(Reply(job.id, State.RUNNING))
        try:
            answer = job.run(context, lambda told: self._reply(Reply(job.id, State.RUNNING, told=told)), cancelled)
            end = Reply(job.id, State.DONE, answer=answer)
        except Cancelled:
            end = Reply(job.id, State.STOPPED)
        except UserError as error:
            end = Reply(job.id, State.FAILED, error=error)
        except Exception as error:  # whoever asked must get an answer, whatever happens
            end = Reply(job.id, State.FAILED, error=UserError(job.explain(error), repr(error)))
        self._reply(end)

    def _listen(self) -> None:
        while True:
            try:
                message = self._connection.recv()
            except (EOFError, OSError):
                os._exit(0)  # never outlive the parent, not even by one unit
            if isinstance(message, Cancel):
                self._cancel(message.id)
            elif message.beside:
                self._ready.wait()
                assert self._context is not None
                self._carry_out(message, self._context, lambda: False)
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
