"""The compute process: one long-lived child that owns the models and the accelerator, and the handle that watches it.

The handle belongs to one thread (the window's worker, which is not the GUI thread). The two sides exchange small frozen
dataclasses over one pipe; the pipe is also how each notices that the other is gone.
"""

import multiprocessing as mp
import os
import queue
import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import UserError
from engine.events import Event, Failed, Finished, Progress, Started, Stopped
from engine.models.info import ModelInfo
from engine.request import DataSpec, Device, ModelSpec, Request
from engine.runs.sentence import Attend, Attended, attended
from engine.runs.tuning_job import Tune, Tuned, TuneProgress, fine_tune

if TYPE_CHECKING:
    from engine.runs.model_cache import ModelCache

CANCEL_SECONDS = 1.5
"""How long a cancelled unit may go on before its process is killed: committed units are safe, so a kill is too."""


@dataclass(frozen=True)
class Submit:
    """Carry out `work`: a new request, or the id of a run to resume. The session is locked by whoever sends this."""

    session: Path
    work: Request | str


@dataclass(frozen=True)
class Cancel:
    """Stop the job in progress."""


@dataclass(frozen=True)
class Inspect:
    """Read the facts of a model, even while a job runs."""

    spec: ModelSpec


@dataclass(frozen=True)
class Inspected:
    """The answer to `Inspect`: the facts, or why there are none."""

    spec: ModelSpec
    info: ModelInfo | None
    error: UserError | None


@dataclass(frozen=True)
class Verify:
    """Verify a model's closed-form Jacobians on a little text, after the job in progress; the next job ends it."""

    spec: ModelSpec
    data: DataSpec
    device: Device
    seed: int


@dataclass(frozen=True)
class Verified:
    """The answer to `Verify`: its outcome, or why there is none, in a sentence, and details to it."""

    passed: bool
    text: str
    detail: str


@dataclass(frozen=True)
class CancelTune:
    """Stop the fine-tuning that is going on or waits; its state is kept in its folder."""


Reply = Event | Inspected | Verified | TuneProgress | Tuned | Attended
Job = Submit | Verify | Tune | Attend


class Child:
    """A handle on the compute process. One job at a time; every job ends in Finished, Stopped or Failed."""

    def __init__(self) -> None:
        self._process: mp.process.BaseProcess | None = None
        self._connection: Connection | None = None
        self._busy = False
        self._progress: tuple[str, int, int] = ("", 0, 0)  # of the job in progress: its run, and done of total
        self._inspecting: deque[ModelSpec] = deque()
        self._verifying = 0
        self._attending: deque[Attend] = deque()
        self._tuning: deque[Path] = deque()
        self._behind = False  # whether the job waits for a fine-tuning
        self._kill_at: float | None = None
        self._own: deque[Reply] = deque()  # what the handle itself has to report

    @property
    def busy(self) -> bool:
        """Whether a job was submitted whose end has not been polled yet."""
        return self._busy

    @property
    def pid(self) -> int | None:
        """The process id, None while none runs."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start the process if it does not run; it imports torch while nobody waits for it."""
        if self._process is not None and not self._busy and not self._process.is_alive():
            self._bury()  # it died while idle, which costs nobody anything
        if self._process is None:
            context = mp.get_context("spawn")
            self._connection, theirs = context.Pipe()
            self._process = context.Process(target=serve, args=(theirs,), name="eigenscope-compute", daemon=True)
            self._process.start()
            theirs.close()  # or its end would never read as closed

    def submit(self, session: Path, work: Request | str) -> None:
        """Start a new run of a request, or resume the run with this id, in the session at this path."""
        if self._busy:
            raise RuntimeError("The compute process does one job at a time.")
        self.start()
        self._busy, self._kill_at, self._progress = True, None, ("", 0, 0)
        self._behind = bool(self._tuning)
        self._send(Submit(session, work))

    def inspect(self, spec: ModelSpec) -> None:
        """Ask for a model's facts; `poll` returns an `Inspected`."""
        self.start()
        self._inspecting.append(spec)
        self._send(Inspect(spec))

    def verify(self, message: Verify) -> None:
        """Ask for a verification; `poll` returns a `Verified`."""
        self.start()
        self._verifying += 1
        self._send(message)

    def attend(self, message: Attend) -> None:
        """Ask for the attention of a sentence; `poll` returns an `Attended`."""
        self.start()
        self._attending.append(message)
        self._send(message)

    def tune(self, message: Tune) -> None:
        """Ask for a fine-tuning; `poll` returns its progress and, at its end, a `Tuned`."""
        self.start()
        self._tuning.append(message.out)
        self._send(message)

    def cancel_tuning(self) -> None:
        """Ask the fine-tuning to stop after the step that it is at."""
        if self._tuning:
            self._send(CancelTune())

    def cancel(self) -> None:
        """Ask the job to stop; if its unit goes on for long, `poll` ends the process instead."""
        if self._busy and self._kill_at is None:
            if not self._behind:  # a run that waits for a fine-tuning must not end that
                self._kill_at = time.monotonic() + CANCEL_SECONDS
            self._send(Cancel())

    def poll(self, timeout: float = 0.0) -> Reply | None:
        """Return the next event or answer, or None when nothing came within `timeout` seconds."""
        if self._own:
            return self._own.popleft()
        if self._connection is None:
            time.sleep(timeout)
            return None
        if self._kill_at is not None:
            timeout = min(timeout, max(0.0, self._kill_at - time.monotonic()))
        try:
            if self._connection.poll(timeout):
                return self._note(self._connection.recv())
        except (EOFError, OSError):
            self._bury()
        if self._kill_at is not None and time.monotonic() >= self._kill_at:
            self.kill()
            self.start()
        return self._own.popleft() if self._own else None

    def kill(self) -> None:
        """End the process at once; a job in progress is reported as stopped, and what it had committed is kept."""
        if self._process is not None:
            self._process.kill()
            if self._busy:
                self._own.append(Stopped(*self._progress))
                self._busy = False
            self._bury()

    def close(self) -> None:
        """Let the process end: it leaves as soon as its pipe closes, even in the middle of a unit."""
        if self._process is not None:
            self._end()
        self._busy = False
        self._inspecting.clear()
        self._tuning.clear()
        self._attending.clear()
        self._verifying = 0
        self._own.clear()

    def _end(self) -> int | None:
        """Close the pipe, see the process out, forget it; return its exit code."""
        assert self._process is not None
        assert self._connection is not None
        self._connection.close()
        self._process.join(2.0)
        self._process.kill()
        self._process.join()
        exitcode = self._process.exitcode
        self._process = self._connection = self._kill_at = None
        return exitcode

    def _send(self, message: Job | Cancel | CancelTune | Inspect) -> None:
        assert self._connection is not None
        with suppress(
            OSError
        ):  # it has died: the next poll reads what it still sent, then the closed pipe, and says so
            self._connection.send(message)

    def _note(self, reply: Reply) -> Reply:
        if isinstance(reply, Started | Progress):
            self._progress = (reply.run, reply.done, reply.total)
        elif isinstance(reply, Finished | Stopped | Failed):
            self._busy, self._kill_at = False, None
        elif isinstance(reply, Inspected) and reply.spec in self._inspecting:
            self._inspecting.remove(reply.spec)
        elif isinstance(reply, Verified):
            self._verifying -= 1
        elif isinstance(reply, Attended):
            self._attending.popleft()
        elif isinstance(reply, Tuned):
            self._tuning.popleft()
            self._behind = self._behind and bool(self._tuning)
        return reply

    def _bury(self) -> None:
        """Answer everything that the dead process still owed; the next message starts a new one."""
        why = _cause(self._end())
        if self._busy:
            run, done, total = self._progress
            kept = f" The {done} of {total} units that were committed are kept: resume the run." if run else ""
            self._own.append(Failed(run, f"{why}{kept}", ""))
            self._busy = False
        while self._inspecting:
            self._own.append(Inspected(self._inspecting.popleft(), None, UserError(f"{why} Ask again.")))
        while self._attending:
            self._own.append(Attended(self._attending.popleft(), None, f"{why} Type again."))
        while self._tuning:
            ask = "The fine-tuning can be resumed from its last saved state."
            self._own.append(Tuned(self._tuning.popleft(), (), f"{why} {ask}", ""))
        self._own.extend([Verified(False, f"{why} The closed forms were not verified.", "")] * self._verifying)
        self._verifying = 0


def _cause(exitcode: int | None) -> str:
    if exitcode == -9:
        return "The system killed the compute process (signal 9), most likely because memory ran out."
    if exitcode is not None and exitcode < 0:
        return f"The compute process crashed ({signal.Signals(-exitcode).name})."
    return f"The compute process ended unexpectedly (exit code {exitcode})."


def serve(connection: Connection) -> None:
    """Live in the child: carry out jobs until the pipe closes.

    A second thread reads the pipe, so that a cancel is seen, a model is described and the parent's death is noticed
    while a unit computes.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in the terminal is for the parent, which cancels
    jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
    cancel = threading.Event()
    cancel_tuning = threading.Event()
    warm = threading.Event()
    sending = threading.Lock()

    def reply(message: Reply) -> None:
        with sending:
            try:
                connection.send(message)
            except OSError:  # nobody listens any more
                os._exit(0)

    def listen() -> None:
        while True:
            try:
                message = connection.recv()
            except (EOFError, OSError):
                os._exit(0)  # never outlive the parent, not even by one unit
            match message:
                case Cancel():
                    cancel.set()
                case Submit():
                    cancel.clear()
                    jobs.put(message)
                case CancelTune():
                    cancel_tuning.set()
                case Tune():
                    cancel_tuning.clear()
                    jobs.put(message)
                case Verify() | Attend():
                    jobs.put(message)
                case Inspect(spec=spec):
                    warm.wait()
                    reply(_inspected(spec))

    threading.Thread(target=listen, name="listen", daemon=True).start()

    # Imported with nobody waiting, so that the first run starts at once; two threads must not import torch together.
    from engine.runs.loop import carry_out
    from engine.runs.model_cache import ModelCache

    warm.set()
    opened = ModelCache()
    while True:
        job = jobs.get()
        if isinstance(job, Submit):
            carry_out(job.session, job.work, reply, cancel.is_set, opened)
        elif isinstance(job, Tune):
            opened.close()  # one model is in memory at a time
            reply(fine_tune(job, reply, cancel_tuning.is_set))
        elif isinstance(job, Attend):
            reply(attended(job, opened))
        else:
            reply(_verified(job, opened, lambda: not jobs.empty()))


def _inspected(spec: ModelSpec) -> Inspected:
    from engine.models.opening import describe

    try:
        return Inspected(spec, describe(spec), None)
    except UserError as error:
        return Inspected(spec, None, error)
    except Exception as error:  # the window must get an answer, whatever is in that folder
        return Inspected(spec, None, UserError(f"{spec.label} cannot be opened: {error}.", repr(error)))


def _verified(message: Verify, opened: "ModelCache", waited_for: Callable[[], bool]) -> Verified:
    from engine.runs.verification import verify_model

    def progress(_: str) -> None:
        if waited_for():  # it can be asked for again, and a run should not have to wait for it
            raise UserError("The verification was given up because something else was started; start it again after.")

    try:
        outcome = verify_model(message.spec, message.data, message.device, message.seed, progress, opened)
    except UserError as error:
        return Verified(False, error.message, error.detail)
    except Exception as error:  # the window must get an answer here too
        return Verified(False, f"{message.spec.label} cannot be verified: {error}.", repr(error))
    widths = (12, 7, *[10] * (len(outcome.rows()[0]) - 2))
    lines = ("".join(map(str.ljust, row, widths)).rstrip() for row in outcome.rows())
    return Verified(outcome.passed, outcome.sentence, "\n".join(lines))
