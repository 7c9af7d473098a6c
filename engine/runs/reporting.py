"""What a run tells on its way: how far it is, how long the rest takes, and its result so far."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from engine.analyses.base import Unit
from engine.events import Event, Notice, Progress, Snapshot

if TYPE_CHECKING:
    import xarray as xr

SNAPSHOT_SECONDS = 0.5
"""The shortest time between two snapshots."""


class Reporter:
    """Emits the progress of one run.

    Parameters
    ----------
    run : str
    units : sequence of Unit
        The plan.
    done : mapping
        The committed units by their keys; the run adds to it.
    """

    def __init__(
        self, run: str, emit: Callable[[Event], None], units: Sequence[Unit], done: Mapping[str, "xr.Dataset"]
    ) -> None:
        self._run, self._emit = run, emit
        self._done, self._total = done, len(units)
        self._cost_ahead = sum(unit.cost for unit in units if unit.key not in done)
        self._seconds = self._cost_timed = 0.0

    @property
    def remaining(self) -> float | None:
        """Seconds until every unit is computed; None until one has been timed."""
        return self._seconds / self._cost_timed * self._cost_ahead if self._cost_timed else None

    def timed(self, unit: Unit, seconds: float) -> None:
        """Learn from a unit that took so long."""
        self._seconds += seconds
        self._cost_timed += unit.cost

    def passed(self, unit: Unit) -> None:
        """Count a unit as no longer ahead, whether it was computed or not."""
        self._cost_ahead -= unit.cost

    def progress(self, doing: str) -> None:
        self._emit(Progress(self._run, len(self._done), self._total, doing, self.remaining))

    def notice(self, text: str, detail: str = "") -> None:
        self._emit(Notice(self._run, text, detail))


class Snapshots:
    """Emits the result so far, now and then: putting it together takes at most a fifth of the time."""

    def __init__(self, run: str, emit: Callable[[Event], None], assemble: Callable[[], "xr.Dataset"]) -> None:
        self._run, self._emit, self._assemble = run, emit, assemble
        self._next = 0.0

    def offer(self) -> None:
        """Emit one, if it is time."""
        began = time.monotonic()
        if began >= self._next:
            self._emit(Snapshot(self._run, self._assemble(), final=False))
            ended = time.monotonic()
            self._next = ended + max(SNAPSHOT_SECONDS, 4 * (ended - began))
