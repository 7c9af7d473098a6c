"""Carry out a run of a session."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from engine.errors import Cancelled, UserError
from engine.events import Failed, Finished, Stopped
from engine.request import Request
from engine.runs.jobs.job import Context, Job

CANCEL_SECONDS = 1.5
"""How long a cancelled unit may go on before its process is killed: committed units are safe, so a kill is too."""


@dataclass(frozen=True)
class CarryOut(Job):
    """Carry out a new request, or resume the run with an id. It tells every `Event`; the answer is the `Finished`.

    The session is locked by whoever asks.
    """

    session: Path
    work: Request | str

    kill_after: ClassVar[float | None] = CANCEL_SECONDS
    after_loss: ClassVar[str] = "The units that were committed are kept: resume the run."

    def run(self, context: Context, tell: Callable[[Any], None], cancelled: Callable[[], bool]) -> Finished:
        from engine.runs.loop import carry_out

        end = carry_out(self.session, self.work, tell, cancelled, context.models)
        if isinstance(end, Stopped):
            raise Cancelled
        if isinstance(end, Failed):
            raise UserError(end.message, end.detail)
        return end

    @property
    def failure(self) -> str:
        return "The run failed unexpectedly"
