"""The runs of the open session and their queue: states, not flags."""

from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from PySide6.QtCore import QObject, Signal, Slot

from engine.events import Failed, Finished, Notice, Progress, Snapshot, Started, Stopped
from engine.request import Request
from gui.state.compute_host import Host

if TYPE_CHECKING:
    from engine.sessions.store import Session

State = Literal["queued", "running", "cancelling", "done", "stopped", "failed"]


@dataclass(frozen=True)
class RunRow:
    """One run as the list shows it. `run` is its id in the session, empty until the engine has made its plan.

    `missing` says of each model that is not wholly in the result of a finished run why that is.
    """

    key: int
    session: Path
    request: Request
    state: State
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
        return self.state in ("running", "cancelling")

    @property
    def resumable(self) -> bool:
        return self.state in ("stopped", "failed") or (self.state == "done" and self.done < self.total)


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
        return any(row.active or row.state == "queued" for row in self._rows.values())

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
                "done" if finished else "stopped",
                run=run.id,
                done=done,
                total=total,
                message="" if finished and done == total else f"{done} of {total} units are kept; it can be resumed.",
            )
            self._rows[row.key] = row
        self.changed.emit()

    def add(self, session: Path, request: Request) -> RunRow:
        """Queue a new run."""
        return self._queue(RunRow(next(self._keys), session, request, "queued"))

    def resume(self, row: RunRow) -> RunRow:
        """Queue what is left of a stopped or failed run; one that never got a plan starts anew."""
        return self._queue(replace(row, state="queued", message="", detail="", missing=(), remaining=None))

    def cancel(self, row: RunRow) -> None:
        """Stop it: between units if it is running, at once if it only waits."""
        if row.state == "running":
            self._put(replace(row, state="cancelling"))
            self._host.cancel()
        elif row.state == "queued" and row.run:
            self._put(replace(row, state="stopped", message=f"{row.done} of {row.total} units are kept."))
        elif row.state == "queued":
            del self._rows[row.key]
        self.changed.emit()

    def cancel_all(self) -> None:
        for row in self.rows:
            self.cancel(row)

    @Slot(object)
    def follow(self, event: object) -> None:
        """Take in one event of the run in progress."""
        row = self.active
        if row is None:
            return
        match event:
            case Started(run, _, title, done, total):
                row = replace(row, run=run, done=done, total=total, doing=title)
                self._put(_logged(row, f"Started: {title}, {done} of {total} units already there"))
            case Progress(_, done, total, doing, remaining):
                row = replace(row, done=done, total=total, doing=doing, remaining=remaining)
                self._put(_logged(row, f"{done} of {total}: {doing}"))
            case Notice(_, text, detail):
                self._put(_logged(replace(row, message=text), f"{text}\n{detail}" if detail else text))
            case Snapshot():
                self.snapshot.emit(event)
                return
            case Finished(_, seconds, missing):
                done, message = (row.done, " ".join(missing)) if missing else (row.total, row.message)
                row = replace(row, state="done", done=done, message=message, missing=missing)
                self._end(_logged(row, f"Finished in {seconds:.1f} s"))
            case Stopped(_, done, total):
                kept = f"{done} of {total} units are kept; it can be resumed."
                self._end(_logged(replace(row, state="stopped", done=done, total=total, message=kept), "Stopped"))
            case Failed(run, message, detail):
                row = replace(row, run=row.run or run, state="failed", message=message, detail=detail)
                self._end(_logged(row, f"Failed: {message}"))
            case _:
                return
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
        if self.active is None and (row := next((r for r in self.rows if r.state == "queued"), None)):
            self._put(replace(row, state="running"))
            self._host.submit(row.session, row.run or row.request)


def _logged(row: RunRow, line: str) -> RunRow:
    return replace(row, log=(*row.log, f"{datetime.now():%H:%M:%S}  {line}"))
