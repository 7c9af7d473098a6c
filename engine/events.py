"""What a run tells whoever watches it: the window, the command line, a log. Plain, picklable, frozen."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True)
class Started:
    """A run has its plan: `done` of `total` units were already committed."""

    run: str
    analysis: str
    title: str
    done: int
    total: int


@dataclass(frozen=True)
class Progress:
    """`done` of `total` units are committed; `remaining` is in seconds, None until one unit has been timed."""

    run: str
    done: int
    total: int
    doing: str
    remaining: float | None


@dataclass(frozen=True)
class Snapshot:
    """The result as far as it goes; absent values are NaN. `final` when every unit is in."""

    run: str
    dataset: "xr.Dataset"
    final: bool


@dataclass(frozen=True)
class Notice:
    """Something the user should know that does not stop the run; `detail` is for the log."""

    run: str
    text: str
    detail: str = ""


@dataclass(frozen=True)
class Finished:
    """`missing`: one sentence for each model that is not wholly in the result."""

    run: str
    seconds: float
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stopped:
    """Cancelled: `done` of `total` units are kept and the run can be resumed."""

    run: str
    done: int
    total: int


@dataclass(frozen=True)
class Failed:
    """`message` is one clear sentence; `detail` is for the bug report. Committed units are kept."""

    run: str
    message: str
    detail: str


Event = Started | Progress | Snapshot | Notice | Finished | Stopped | Failed
