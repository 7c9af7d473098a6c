"""A job of the compute process: what it is asked to do, the states it goes through, and what it replies."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import count
from typing import TYPE_CHECKING, Any, ClassVar

from engine.errors import UserError

if TYPE_CHECKING:
    from engine.runs.model_cache import ModelCache

_ids = count()


class State(StrEnum):
    """Where a job is. It ends in exactly one of the last four."""

    QUEUED = "queued"
    RUNNING = "running"
    CANCELLING = "cancelling"
    DONE = "done"
    """It has its answer."""
    STOPPED = "stopped"
    """It was cancelled."""
    FAILED = "failed"
    """It, or the start of the process, ended in an error."""
    LOST = "lost"
    """The process died before it ended."""

    @property
    def ended(self) -> bool:
        return not _FOLLOWING[self]

    def advance(self, reported: "State") -> "State":
        """The state after the compute process has reported another.

        Raises
        ------
        ValueError
            If that cannot follow.
        """
        if self is State.CANCELLING and reported is State.RUNNING:
            return self  # it goes on telling until it notices
        if reported not in _FOLLOWING[self]:
            raise ValueError(f"a job that is {self} cannot become {reported}")
        return reported


_FOLLOWING: dict[State, frozenset[State]] = {
    State.QUEUED: frozenset({State.RUNNING, State.CANCELLING, State.FAILED, State.LOST}),
    State.RUNNING: frozenset({State.RUNNING, State.CANCELLING, State.DONE, State.FAILED, State.LOST}),
    State.CANCELLING: frozenset({State.DONE, State.STOPPED, State.FAILED, State.LOST}),
    State.DONE: frozenset(),
    State.STOPPED: frozenset(),
    State.FAILED: frozenset(),
    State.LOST: frozenset(),
}


@dataclass(frozen=True)
class Reply:
    """A job has changed its state, or has something to tell while it runs.

    Attributes
    ----------
    id : int
        Of the job.
    state : State
    told : object
        What a running job tells on its way; the kind of job says what that is.
    answer : object
        Of a job that is done; the kind of job says what that is.
    error : UserError or None
        Of a job that failed or is lost.
    """

    id: int
    state: State
    told: Any = None
    answer: Any = None
    error: UserError | None = None


@dataclass(frozen=True)
class Cancel:
    """Ask the job with this id to stop."""

    id: int


@dataclass(frozen=True)
class Context:
    """What the compute process lends to a job.

    Attributes
    ----------
    models : ModelCache
        The model in memory.
    awaited : callable
        Whether another job waits for this one to end.
    """

    models: "ModelCache"
    awaited: Callable[[], bool]


@dataclass(frozen=True)
class Job(ABC):
    """One question to the compute process. A kind of job is a frozen, picklable dataclass with what it asks about."""

    id: int = field(default_factory=_ids.__next__, kw_only=True)

    beside: ClassVar[bool] = False
    """Whether it is carried out in a process of its own, beside the job in progress: only what opens no model."""
    time_limit: ClassVar[float | None] = None
    """How many seconds after its start the process is killed if the job still runs; None never."""
    kill_after: ClassVar[float | None] = None
    """How many seconds after a cancel the process is killed if the job still runs; None never."""
    after_loss: ClassVar[str]
    """What to do, in a sentence, if the process died before the job ended."""

    @abstractmethod
    def run(self, context: Context, tell: Callable[[Any], None], cancelled: Callable[[], bool]) -> Any:
        """Carry it out, in the compute process, and return the answer.

        Parameters
        ----------
        context : Context
        tell : callable
            Sends something, frozen and picklable, to whoever asked.
        cancelled : callable
            Whether the job should stop; to be asked often.

        Raises
        ------
        Cancelled
            When it stopped because it was cancelled.
        UserError
            When it failed.
        """

    @property
    @abstractmethod
    def failure(self) -> str:
        """The beginning of a sentence: what could not be done when an error comes that nobody foresaw."""
