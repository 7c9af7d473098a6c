"""The runs of the open session and their queue."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import count
from pathlib import Path

from PySide6.QtCore import QObject, Signal, Slot

from engine.events import Event, Failed, Notice, Progress, Snapshot, Started, Stopped
from engine.request import Request
from engine.runs.jobs.job import Reply, State
from engine.runs.jobs.run import CarryOut
from gui.state.compute_host import ComputeHost
from gui.state.document import StoredRun


@dataclass(frozen=True)
class RunRow:
    """One run as the list shows it.

    Attributes
    ----------
    run : str
        Its id in the session; empty until the engine has planned it.
    job : int or None
        The id of its job, None before the first.
    done, total : int
        Committed and planned units.
    remaining : float or None
        Estimated time left, in seconds.
    activity : str
        What a running run is computing.
    missing : tuple of str
        For each model that a finished run covers only in part, the reason.
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
    activity: str = ""
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
    """Holds every run of the session, passes them to the compute host one at a time, and follows its replies."""

    changed = Signal()
    snapshot = Signal(object)
    ended = Signal(object)

    def __init__(self, host: ComputeHost, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._host = host
        self._keys = count()
        self._rows: dict[int, RunRow] = {}
        host.replied.connect(self.handle_reply)

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

    def load(self, stored: Iterable[StoredRun]) -> None:
        """List the runs of a session in place of those listed before."""
        self._rows = {}
        for each in stored:
            run, done, total = each.run, each.done, len(each.run.plan)
            row = RunRow(
                next(self._keys),
                run.session.path,
                run.request,
                State.DONE if each.finished else State.STOPPED,
                run=run.id,
                done=done,
                total=total,
                message="" if each.finished and done == total else _kept(done, total),
            )
            self._rows[row.key] = row
        self.changed.emit()

    def add(self, session: Path, request: Request) -> RunRow:
        """Queue a new run."""
        return self._queue(RunRow(next(self._keys), session, request, State.QUEUED))

    def resume(self, row: RunRow) -> RunRow:
        """Queue the rest of a stopped or failed run; one that was never planned starts from scratch."""
        return self._queue(
            replace(row, state=State.QUEUED, job=None, message="", detail="", missing=(), remaining=None)
        )

    def cancel(self, row: RunRow) -> None:
        """Stop a running run after its current unit; remove a queued one at once."""
        self._cancel(row)
        self.changed.emit()

    def cancel_all(self) -> None:
        for row in self.rows:
            self._cancel(row)
        self.changed.emit()

    def _cancel(self, row: RunRow) -> None:
        if row.state is State.RUNNING:
            self._store(replace(row, state=State.CANCELLING))
            assert row.job is not None
            self._host.cancel(row.job)
        elif row.state is State.QUEUED and row.run:
            self._store(replace(row, state=State.STOPPED, message=_kept(row.done, row.total)))
        elif row.state is State.QUEUED:
            del self._rows[row.key]

    @Slot(object)
    def handle_reply(self, reply: Reply) -> None:
        """Update the run whose job `reply` belongs to."""
        row = next((row for row in self._rows.values() if row.job == reply.id), None)
        if row is None:
            return
        if isinstance(reply.told, Snapshot):
            self.snapshot.emit(reply.told)
            return
        if reply.told is not None:
            self._store(_with_event(row, reply.told))
        elif reply.state.ended:
            self._end(_with_end(row, reply))
        self.changed.emit()

    def _queue(self, row: RunRow) -> RunRow:
        self._rows.pop(row.key, None)
        self._store(row)
        self._start_next()
        self.changed.emit()
        return self._rows[row.key]

    def _store(self, row: RunRow) -> None:
        self._rows[row.key] = row

    def _end(self, row: RunRow) -> None:
        row = replace(row, remaining=None, activity="")
        self._store(row)
        self.ended.emit(row)
        self._start_next()

    def _start_next(self) -> None:
        if self.active is None and (row := next((row for row in self.rows if row.state is State.QUEUED), None)):
            job = CarryOut(row.session, row.run or row.request)
            self._store(replace(row, state=State.RUNNING, job=job.id))
            self._host.ask(job)


def _with_event(row: RunRow, event: Event) -> RunRow:
    """Return the row updated by an event of its run."""
    match event:
        case Started(run, _, title, done, total):
            row = replace(row, run=run, done=done, total=total, activity=title)
            return _logged(row, f"Started: {title}, {done} of {total} units already computed")
        case Progress(_, done, total, doing, remaining):
            row = replace(row, done=done, total=total, activity=doing, remaining=remaining)
            return _logged(row, f"{done} of {total}: {doing}")
        case Notice(_, text, detail):
            return _logged(replace(row, message=text), f"{text}\n{detail}" if detail else text)
        case Stopped(run, done, total):
            return replace(row, run=run, done=done, total=total)
        case Failed(run):
            return replace(row, run=row.run or run)
    return row


def _with_end(row: RunRow, reply: Reply) -> RunRow:
    """Return the row updated by the end of its job."""
    if reply.error is not None:
        row = replace(row, state=State.FAILED, message=reply.error.message, detail=reply.error.detail)
        return _logged(row, f"Failed: {row.message}")
    if reply.state is State.STOPPED:
        message = _kept(row.done, row.total) if row.run else "Stopped before it started; resume to start it."
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


def _kept(done: int, total: int) -> str:
    return f"{done} of {total} units are kept; resume to compute the rest."


def _logged(row: RunRow, line: str) -> RunRow:
    return replace(row, log=(*row.log, f"{datetime.now():%H:%M:%S}  {line}"))
