"""What a view is: a name, its options, and a pure function from data to a Figure."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from gui.plots.figure import Figure
from gui.plots.selection import Selection

if TYPE_CHECKING:
    import xarray as xr


class Options(BaseModel):
    """Base of a view's options; the window makes its tool bar from the fields, as it makes forms from Params."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True)
class View:
    """One way to look at one analysis's dataset.

    `draw(dataset, selection, options)` is pure, fast (well under 50 ms) and never touches Qt, files or models. `help`
    names a page of ``resources/help``. `offered` says of a dataset whether the view is for it at all. Where what there
    is to choose depends on the dataset, `options_of` makes the options of one (equal ones are the same class).
    """

    name: str
    title: str
    analysis: str
    help: str
    options: type[Options]
    draw: "Callable[[xr.Dataset, Selection, Any], Figure]"
    offered: "Callable[[xr.Dataset], bool] | None" = None
    options_of: "Callable[[xr.Dataset], type[Options]] | None" = None
