"""Carry out a run and show on standard error how it goes.

Ctrl-C asks it to stop; a second one, or a request to terminate, stops it at once.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import FrameType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from engine import events
from engine.cli.terminal import say
from engine.printable import printable
from engine.runs.loop import execute
from engine.runs.model_cache import ModelCache
from engine.sessions.store import Run, Session


class Follower:
    """Shows events; remembers how the run ended and what the result was."""

    def __init__(self, console: Console) -> None:
        self.end: events.Event | None = None
        self.result: events.Snapshot | None = None
        self._console = console
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[left]}", markup=False),
            console=console,
            disable=not console.is_terminal,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> "Follower":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, event: events.Event) -> None:
        match event:
            case events.Started(title=title, done=done, total=total):
                kept = f" ({done} of {total} units are already there)" if done else ""
                self.say(f"{title}{kept}")
                self._task = self._bar.add_task("", total=total, completed=done, left="")
            case events.Progress():
                self._advance(event)
            case events.Notice(text=text):
                self.say(text)
            case events.Snapshot(final=True):
                self.result = event
            case events.Finished() | events.Stopped() | events.Failed():
                self.end = event

    def say(self, text: str) -> None:
        """One line on standard error, above the bar."""
        say(self._console, text)

    def _advance(self, event: events.Progress) -> None:
        left = "" if event.remaining is None else f"{timedelta(seconds=round(event.remaining))} left"
        if self._console.is_terminal and self._task is not None:
            self._bar.update(self._task, description=printable(event.doing), completed=event.done, left=left)
        else:  # in a log every line stands for itself
            self.say(f"{event.done}/{event.total} {event.doing}{', ' if left else ''}{left}")


def follow(session: Session, run: Run, console: Console, models: ModelCache | None = None) -> Follower:
    """Execute `run` in this process; the follower says how it ended.

    Raises
    ------
    KeyboardInterrupt
        At the second Ctrl-C, or at SIGTERM. What is committed is kept in any case.
    """
    stopping = "Stopping after this unit; press Ctrl-C again to stop at once."
    with Follower(console) as follower, interruptible(lambda: follower.say(stopping)) as cancelled:
        execute(session, run, follower, cancelled.is_set, models)
    return follower


@contextmanager
def interruptible(stopping: Callable[[], None]) -> Iterator[threading.Event]:
    """An event that the first Ctrl-C sets, which also calls `stopping`; the second raises KeyboardInterrupt.

    So does SIGTERM: whoever sends it, such as a batch system, kills what has not ended soon.
    """
    cancelled = threading.Event()

    def interrupted(signum: int, frame: FrameType | None) -> None:
        if cancelled.is_set() or signum == signal.SIGTERM:
            raise KeyboardInterrupt
        cancelled.set()
        # In a thread: the signal may come in the middle of a line, where this one must not write to the same stream.
        threading.Thread(target=stopping, daemon=True).start()

    before = {number: signal.signal(number, interrupted) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield cancelled
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
