"""A figure as data: what a view returns, what the screen draws, what every export writes.

A view is a pure function of a dataset and a selection that returns a `Figure`. One renderer (`gui.plots.figure_widget`)
shows it, and the exporters (`gui.plots.export`) write exactly the same arrays, so a CSV, a PDF and the screen
cannot differ.

Coordinates are always in data units; an axis says whether it is logarithmic and the renderer does the log₁₀ at one
place. Colours are names that the theme resolves: ``data``, ``null``, ``naive``, ``twin``, ``shuffled``, ``law``,
``accent``, ``muted``, ``ink`` (the text's colour), or ``c0`` … ``c7`` of the categorical map.
"""

from dataclasses import dataclass, field
from itertools import zip_longest
from textwrap import wrap
from typing import Literal

import numpy as np
import numpy.typing as npt

from gui.plots.selection import Pick

Floats = npt.NDArray[np.floating]
Colormap = Literal["sequential", "diverging"]


@dataclass(frozen=True, eq=False)
class Line:
    """A polyline; NaN breaks it. `picks`, one for each point or one for all, makes it clickable."""

    x: Floats
    y: Floats
    label: str = ""
    color: str = "data"
    width: float = 1.0
    dash: bool = False
    markers: bool = False
    picks: tuple[Pick, ...] = ()
    hover: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Points:
    """A scatter. `values` colours the points by the sequential map, with a colour bar; unfilled ones are rings.

    `size`, in pixels, is one for all points or one for each.
    """

    x: Floats
    y: Floats
    label: str = ""
    color: str = "data"
    size: float | Floats = 7.0
    symbol: Literal["o", "s", "d", "+", "x", "star"] = "o"
    filled: bool = True
    values: Floats | None = None
    values_label: str = ""
    picks: tuple[Pick, ...] = ()
    hover: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Segments:
    """Straight pieces from ``(x[i, 0], y[i, 0])`` to ``(x[i, 1], y[i, 1])``, all alike: the edges of a graph."""

    x: Floats
    y: Floats
    label: str = ""
    color: str = "muted"
    opacity: float = 1.0


@dataclass(frozen=True, eq=False)
class Band:
    """The area between two curves, such as a null's 95 % band; NaN breaks it."""

    x: Floats
    low: Floats
    high: Floats
    label: str = ""
    color: str = "null"
    opacity: float = 0.28


@dataclass(frozen=True, eq=False)
class Steps:
    """A histogram: `height` has one value for each bin, `edges` one more."""

    edges: Floats
    height: Floats
    label: str = ""
    color: str = "data"


@dataclass(frozen=True, eq=False)
class Boxes:
    """Box plots at `x`: the middle half of each group with its median, and whiskers that end at `low` and `high`.

    `width` is in data units. What lies beyond the whiskers belongs in a `Points` of its own; a group of NaN is
    left out.
    """

    x: Floats
    low: Floats
    q1: Floats
    median: Floats
    q3: Floats
    high: Floats
    width: float = 0.6
    label: str = ""
    color: str = "data"
    picks: tuple[Pick, ...] = ()
    hover: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Image:
    """A heatmap: ``z[row, column]``; `x_edges` (columns + 1) and `y_edges` (rows + 1) in data units.

    With `log` the colour scale is logarithmic; `limits` fix it (in data units). NaN, and zero under `log`, are drawn in
    the neutral colour. ``picks[row][column]`` makes cells clickable. `marked` cells are outlined.
    """

    z: Floats
    x_edges: Floats
    y_edges: Floats
    label: str = ""
    colormap: Colormap = "sequential"
    log: bool = False
    limits: tuple[float, float] | None = None
    picks: tuple[tuple[Pick, ...], ...] = ()
    marked: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, eq=False)
class Rule:
    """A straight line across the panel at `at`: ``x`` draws a vertical one, ``y`` a horizontal one."""

    axis: Literal["x", "y"]
    at: float
    label: str = ""
    color: str = "null"
    dash: bool = True


@dataclass(frozen=True)
class Span:
    """A window of x whose edges the mouse can drag, inside `limits`, from one whole number to the next.

    `start` and `stop` are the names of the view's options that hold the edges: dragging sets them in the form, and the
    view is drawn again on the way.
    """

    low: float
    high: float
    start: str
    stop: str
    limits: tuple[float, float]
    label: str = ""
    color: str = "accent"


@dataclass(frozen=True)
class Setting:
    """Options of the view, by name, to which a drag sets them."""

    options: tuple[tuple[str, int], ...]


Mark = Line | Points | Segments | Band | Steps | Boxes | Image | Rule | Span

Cell = str | float | int


def cell_text(cell: Cell) -> str:
    """A cell of a table for people: whole numbers in full, others in four figures, a dash for what is absent."""
    if isinstance(cell, str):
        return cell
    if isinstance(cell, int | np.integer):
        return f"{cell:,}"
    return "–" if np.isnan(cell) else f"{cell:.4g}".replace("-", "−")


@dataclass(frozen=True)
class Table:
    """Numbers and texts in rows, under the panels or instead of them.

    Numbers are shown in four figures and exported in full; NaN is a dash. `picks`, one for each row, makes rows
    clickable.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    title: str = ""
    picks: tuple[Pick, ...] = ()

    def text(self, width: int = 60) -> str:
        """The table in plain letters, long texts folded to `width`."""
        lines = [self.columns, *(tuple(map(cell_text, row)) for row in self.rows)]
        folded = [[wrap(text, width) or [""] for text in line] for line in lines]
        widths = [max(len(part) for row in folded for part in row[i]) for i in range(len(self.columns))]
        out = [self.title] if self.title else []
        for row in folded:
            for parts in zip_longest(*row, fillvalue=""):
                out.append("  ".join(part.ljust(w) for part, w in zip(parts, widths, strict=True)).rstrip())
        return "\n".join(out)


@dataclass(frozen=True)
class Axis:
    """`ticks` replaces the automatic ones (position, text); `limits` fixes the range; both in data units.

    A `bare` axis, whose numbers mean nothing, has no ticks. `upright` texts along x read from bottom to top, so that
    more of them fit.
    """

    label: str
    log: bool = False
    ticks: tuple[tuple[float, str], ...] = ()
    limits: tuple[float, float] | None = None
    inverted: bool = False
    bare: bool = False
    upright: bool = False


@dataclass(frozen=True, eq=False)
class Panel:
    """One set of axes. A click anywhere in it applies `pick` if no mark was hit; `current` frames it."""

    x: Axis
    y: Axis
    marks: tuple[Mark, ...]
    title: str = ""
    equal: bool = False
    pick: Pick | None = None
    current: bool = False


@dataclass(frozen=True, eq=False)
class Figure:
    """A grid of panels and, under it or instead of it, a table.

    `note` stands under the panels (badges, caveats); `empty` says what to do when there is nothing.
    """

    rows: tuple[tuple[Panel, ...], ...] = ()
    title: str = ""
    note: str = ""
    empty: str = ""
    legend: bool = True
    table: Table | None = None
    provenance: dict[str, str] = field(default_factory=dict)
