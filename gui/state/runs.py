"""The runs of the open session and their queue."""

from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Signal, Slot

from engine.events import Event, Failed, Notice, Progress, Snapshot, Started, Stopped
from engine.request import Request
from engine.runs.jobs.job import Reply, State
from engine.runs.jobs.run import CarryOut
from gui.state.compute_host import Host

if TYPE_CHECKING:
    from engine.sessions.store import Session


@dataclass(frozen=True)
class RunRow:
    """One run as the list shows it. `run` is its id in the session, empty until the engine has made its plan.

    `job` is the id of the job that carries it out, None until there is one. `missing` says of each model that is not
    wholly in the result of a finished run why that is.
    """

    key: int
    session: Path
    request: Request
    state: State
    job: int | None = None
    run: str = ""
    done: int = 0
    total: int = 0
    remaining: float | None = None
    doing: str = ""
    message: str = ""
    detail: str = ""
    missing: tuple[str, ...] = ()
    log: tuple[str, ...] = field(default=(), repr=False)

    @property
    def title(self) -> str:
        names = [spec.label for spec in self.request.models]
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        return f"{self.request.analysis} · {', '.join(names[:3])}{more}"

    @property
    def active(self) -> bool:
        return self.state in (State.RUNNING, State.CANCELLING)

    @property
    def resumable(self) -> bool:
        return self.state in (State.STOPPED, State.FAILED) or (self.state is State.DONE and self.done < self.total)


class Runs(QObject):
    """Knows every run of the session, gives the host one at a time, and follows what it says."""

    changed = Signal()
    snapshot = Signal(object)
    ended = Signal(object)

    def __init__(self, host: Host, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._host = host
        self._keys = count()
        self._rows: dict[int, RunRow] = {}
        host.replied.connect(self.follow)

    @property
    def rows(self) -> list[RunRow]:
        """Oldest first."""
        return list(self._rows.values())

    @property
    def active(self) -> RunRow | None:
        return next((row for row in self._rows.values() if row.active), None)

    @property
    def busy(self) -> bool:
        return any(row.active or row.state is State.QUEUED for row in self._rows.values())

    def row(self, key: int) -> RunRow | None:
        return self._rows.get(key)

    def find(self, run: str) -> RunRow | None:
        return next((row for row in self._rows.values() if run and row.run == run), None)

    def load(self, session: "Session | None") -> None:
        """Show the runs that `session` holds."""
        self._rows = {}
        for run in session.runs() if session is not None else ():
            done, total = len(run.committed()), len(run.plan)
            finished = run.finished
            row = RunRow(
                next(self._keys),
                run.session.path,
                run.request,
                State.DONE if finished else State.STOPPED,
                run=run.id,
                done=done,
                total=total,
                message="" if finished and done == total else f"{done} of {total} units are kept; it can be resumed.",
            )
            self._rows[row.key] = row
        self.changed.emit()

    def add(self, session: Path, request: Request) -> RunRow:
        """Queue a new run."""
        return self._queue(RunRow(next(self._keys), session, request, State.QUEUED))

    def resume(self, row: RunRow) -> RunRow:
        """Queue what is left of a stopped or failed run; one that never got a plan starts anew."""
        return self._queue(
            replace(row, state=State.QUEUED, job=None, message="", detail="", missing=(), remaining=None)
        )

    def cancel(self, row: RunRow) -> None:
        """Stop it: between units if it is running, at once if it only waits."""
        if row.state is State.RUNNING:
            self._put(replace(row, state=State.CANCELLING))
            assert row.job is not None
            self._host.cancel(row.job)
        elif row.state is State.QUEUED and row.run:
            self._put(replace(row, state=State.STOPPED, message=f"{row.done} of {row.total} units are kept."))
        elif row.state is State.QUEUED:
            del self._rows[row.key]
        self.changed.emit()

    def cancel_all(self) -> None:
        for row in self.rows:
            self.cancel(row)

    @Slot(object)
    def follow(self, reply: Reply) -> None:
        """Take in what is replied to the job of a run."""
        row = next((row for row in self._rows.values() if row.job == reply.id), None)
        if row is None:
            return
        if isinstance(reply.told, Snapshot):
            self.snapshot.emit(reply.told)
            return
        if reply.told is not None:
            self._put(_with_event(row, reply.told))
        elif reply.state.ended:
            self._end(_with_end(row, reply))
        self.changed.emit()

    def _queue(self, row: RunRow) -> RunRow:
        self._rows.pop(row.key, None)
        self._put(row)
        self._next()
        self.changed.emit()
        return self._rows[row.key]

    def _put(self, row: RunRow) -> None:
        self._rows[row.key] = row

    def _end(self, row: RunRow) -> None:
        row = replace(row, remaining=None, doing="")
        self._put(row)
        self.ended.emit(row)
        self._next()

    def _next(self) -> None:
        if self.active is None and (row := next((row for row in self.rows if row.state is State.QUEUED), None)):
            job = CarryOut(row.session, row.run or row.request)
            self._put(replace(row, state=State.RUNNING, job=job.id))
            self._host.ask(job)


def _with_event(row: RunRow, event: Event) -> RunRow:
    """The row after its run has told an event."""
    match event:
        case Started(run, _, title, done, total):
            row = replace(row, run=run, done=done, total=total, doing=title)
            return _logged(row, f"Started: {title}, {done} of {total} units already there")
        case Progress(_, done, total, doing, remaining):
            row = replace(row, done=done, total=total, doing=doing, remaining=remaining)
            return _logged(row, f"{done} of {total}: {doing}")
        case Notice(_, text, detail):
            return _logged(replace(row, message=text), f"{text}\n{detail}" if detail else text)
        case Stopped(run, done, total):
            return replace(row, run=run, done=done, total=total)
        case Failed(run):
            return replace(row, run=row.run or run)
    return row


def _with_end(row: RunRow, reply: Reply) -> RunRow:
    """The row after its job has ended."""
    if reply.error is not None:
        row = replace(row, state=State.FAILED, message=reply.error.message, detail=reply.error.detail)
        return _logged(row, f"Failed: {row.message}")
    if reply.state is State.STOPPED:
        kept = f"{row.done} of {row.total} units are kept; it can be resumed."
        message = kept if row.run else "It was stopped before it began; resume it to start it."
        return _logged(replace(row, state=State.STOPPED, message=message), "Stopped")
    missing = reply.answer.missing
    row = replace(
        row,
        state=State.DONE,
        done=row.done if missing else row.total,
        message=" ".join(missing) if missing else row.message,
        missing=missing,
    )
    return _logged(row, f"Finished in {reply.answer.seconds:.1f} s")


def _logged(row: RunRow, line: str) -> RunRow:
    return replace(row, log=(*row.log, f"{datetime.now():%H:%M:%S}  {line}"))
