"""The handle on a compute process: one long-lived child that carries out one job after another.

The handle belongs to one thread (the window's worker, which is not the GUI thread), which must live as long as the
child shall. The two sides exchange small frozen dataclasses over one pipe; the pipe is also how each notices that the
other is gone.
"""

import multiprocessing as mp
import signal
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection

from engine.errors import UserError, one_sentence
from engine.runs.jobs.job import Cancel, Job, Reply, State
from engine.runs.jobs.serve import serve


@dataclass
class _Ticket:
    """A job whose end has not come yet. `kill_at` is when the process is killed if it still goes on."""

    job: Job
    state: State = State.QUEUED
    kill_at: float | None = None

    def advance(self, reported: State) -> None:
        self.state = self.state.advance(reported)

    def limit(self, seconds: float | None) -> None:
        """Let the job, which runs, go on for no longer than this; None is no limit."""
        if seconds is not None:
            kill_at = time.monotonic() + seconds
            self.kill_at = kill_at if self.kill_at is None else min(kill_at, self.kill_at)


class ComputeProcess:
    """Asks jobs of its process, which carries out one after another; `poll` returns what it replies.

    Every job that is asked ends in exactly one reply whose state has ended, whatever happens to the process.
    """

    def __init__(self) -> None:
        self._process: mp.process.BaseProcess | None = None
        self._connection: Connection | None = None
        self._tickets: dict[int, _Ticket] = {}
        self._own: deque[Reply] = deque()  # what the handle itself has to report

    @property
    def busy(self) -> bool:
        """Whether a job was asked that has not ended yet."""
        return bool(self._tickets)

    @property
    def pid(self) -> int | None:
        """The process id, None while none runs."""
        return self._process.pid if self._process else None

    @property
    def connection(self) -> Connection | None:
        """What can be waited for until the process says something; None while none runs."""
        return self._connection

    def start(self) -> None:
        """Start the process if it does not run; it imports torch while nobody waits for it.

        Raises
        ------
        OSError
            If the system starts no other process.
        """
        if self._process is not None and not self.busy and not self._process.is_alive():
            self._end_process()  # it died while idle, which costs nobody anything
        if self._process is None:
            context = mp.get_context("spawn")
            ours, theirs = context.Pipe()
            process = context.Process(target=serve, args=(theirs,), name="eigenscope-compute", daemon=True)
            with theirs:  # or its end would never read as closed
                process.start()
            self._process, self._connection = process, ours

    def ask(self, job: Job) -> None:
        """Queue a job."""
        try:
            self.start()
        except OSError as error:
            self._own.append(_not_started(job, error))
            return
        self._tickets[job.id] = _Ticket(job)
        self._send(job)

    def cancel(self, job_id: int) -> None:
        """Ask a job to stop; if it goes on for longer than its kind allows, `poll` ends the process instead."""
        ticket = self._tickets.get(job_id)
        if ticket is None or ticket.state is State.CANCELLING:
            return
        if ticket.state is State.RUNNING:
            ticket.limit(ticket.job.kill_after)
        ticket.advance(State.CANCELLING)
        self._own.append(Reply(job_id, State.CANCELLING))
        self._send(Cancel(job_id))

    def poll(self, timeout: float = 0.0) -> Reply | None:
        """Return the next reply, or None when nothing came within `timeout` seconds."""
        if self._own:
            return self._own.popleft()
        if self._connection is None:
            time.sleep(timeout)
            return None
        limits = [ticket.kill_at for ticket in self._tickets.values() if ticket.kill_at is not None]
        if limits:
            timeout = min(timeout, max(0.0, min(limits) - time.monotonic()))
        try:
            if self._connection.poll(timeout):
                return self._taken(self._connection.recv())
        except (EOFError, OSError):
            self._lose_all()
        else:
            if limits and time.monotonic() >= min(limits):
                self._kill_overdue()
        return self._own.popleft() if self._own else None

    def close(self) -> None:
        """End the process, even in the middle of a unit: what is committed is safe."""
        if self._process is not None:
            self._process.kill()
            self._end_process()
        self._tickets.clear()
        self._own.clear()

    def _send(self, message: Job | Cancel) -> None:
        assert self._connection is not None
        # Where it has died, the next poll reads what it still sent, then the closed pipe, and says so.
        with suppress(OSError):
            self._connection.send(message)

    def _taken(self, reply: Reply) -> Reply:
        """Note what the process replied, and say it in the state that the job is in."""
        ticket = self._tickets[reply.id]
        begins = ticket.state is State.QUEUED
        ticket.advance(reply.state)
        if ticket.state.ended:
            del self._tickets[reply.id]
        elif begins:
            ticket.limit(ticket.job.time_limit)
        elif ticket.state is State.CANCELLING:
            ticket.limit(ticket.job.kill_after)  # it was cancelled while it waited, and began all the same
        return replace(reply, state=ticket.state)

    def _kill_overdue(self) -> None:
        """End the process with the job that goes on for too long; what waits behind it goes to a new one."""
        assert self._process is not None
        self._process.kill()
        self._end_process()
        now = time.monotonic()
        for ticket in list(self._tickets.values()):
            if ticket.kill_at is not None and now >= ticket.kill_at:
                if ticket.state is State.CANCELLING:
                    self._end_ticket(ticket, State.STOPPED)
                else:
                    self._end_ticket(ticket, State.FAILED, _too_slow(ticket.job))
        try:
            self.start()
        except OSError as error:
            self._own.extend(_not_started(ticket.job, error) for ticket in self._tickets.values())
            self._tickets.clear()
        for ticket in self._tickets.values():
            self._send(ticket.job)
            if ticket.state is State.CANCELLING:
                self._send(Cancel(ticket.job.id))

    def _lose_all(self) -> None:
        """Answer everything that the dead process still owed; the next job starts a new one."""
        cause = _cause(self._end_process())
        for ticket in list(self._tickets.values()):
            self._end_ticket(ticket, State.LOST, UserError(f"{cause} {ticket.job.after_loss}"))

    def _end_ticket(self, ticket: _Ticket, state: State, error: UserError | None = None) -> None:
        ticket.advance(state)
        del self._tickets[ticket.job.id]
        self._own.append(Reply(ticket.job.id, state, error=error))

    def _end_process(self) -> int | None:
        """Close the pipe, see the process out, forget it; return its exit code."""
        assert self._process is not None
        assert self._connection is not None
        self._connection.close()
        self._process.join(2.0)
        self._process.kill()
        self._process.join()
        exitcode = self._process.exitcode
        self._process = self._connection = None
        return exitcode


def _not_started(job: Job, error: OSError) -> Reply:
    sentence = "The compute process cannot be started; close other programs."
    return Reply(job.id, State.FAILED, error=UserError(sentence, repr(error)))


def _too_slow(job: Job) -> UserError:
    error = TimeoutError(f"it took longer than {job.time_limit:.0f} s and was given up")
    return one_sentence(error, job.failure, "Try again if the disk or the network was slow, or choose another model.")


def _cause(exitcode: int | None) -> str:
    if exitcode == -signal.SIGKILL:
        return "The system killed the compute process (signal 9), most likely because memory ran out."
    if exitcode == -signal.SIGTERM:
        return "Another program asked the compute process to end (signal 15)."
    if exitcode is not None and exitcode < 0:
        return f"The compute process crashed ({signal.Signals(-exitcode).name})."
    return f"The compute process ended unexpectedly (exit code {exitcode})."
