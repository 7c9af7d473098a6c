"""A figure as data: what a view returns, what the screen draws, what every export writes.

A view is a pure function from a dataset and a selection to a `Figure`. One renderer (`gui.plots.figure_widget`) shows
it, and the exporters (`gui.plots.export`) write exactly the same arrays, so that the screen, a CSV and a PDF always
agree.

Coordinates are always in data units; an axis says whether it is logarithmic, and the renderer takes log₁₀ in one
place. Colours are names resolved by the theme: ``data``, ``null``, ``naive``, ``twin``, ``shuffled``, ``law``,
``accent``, ``muted``, ``ink`` (text), or ``c0`` … ``c7`` of the categorical map.
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
    """A polyline, broken at NaN. `picks`, one per point or one for all, makes it clickable."""

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
    """A scatter. `values` colours the points by the sequential map, with a colour bar; unfilled points are rings.

    `size`, in pixels, is one value per point or one for all.
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
    """Straight lines from ``(x[i, 0], y[i, 0])`` to ``(x[i, 1], y[i, 1])`` in one style, such as a graph's edges."""

    x: Floats
    y: Floats
    label: str = ""
    color: str = "muted"
    opacity: float = 1.0


@dataclass(frozen=True, eq=False)
class Band:
    """The area between two curves, such as the 95 % band of a null; broken at NaN."""

    x: Floats
    low: Floats
    high: Floats
    label: str = ""
    color: str = "null"
    opacity: float = 0.28


@dataclass(frozen=True, eq=False)
class Steps:
    """A histogram: `height` has one value per bin, `edges` one more."""

    edges: Floats
    height: Floats
    label: str = ""
    color: str = "data"


@dataclass(frozen=True, eq=False)
class Boxes:
    """Box plots at `x`: quartiles and median of each group, with whiskers to `low` and `high`.

    `width` is in data units. Outliers beyond the whiskers are drawn with `Points`; a group with NaN is left out.
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

    With `log`, the colour scale is logarithmic; `limits` fix it, in data units. NaN, and zero with `log`, take the
    neutral colour. ``picks[row][column]`` makes a cell clickable, if it is not None. `marked` cells are outlined.
    """

    z: Floats
    x_edges: Floats
    y_edges: Floats
    label: str = ""
    colormap: Colormap = "sequential"
    log: bool = False
    limits: tuple[float, float] | None = None
    picks: tuple[tuple[Pick | None, ...], ...] = ()
    marked: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, eq=False)
class Rule:
    """A straight line across the panel at `at` on `axis`: vertical for ``x``, horizontal for ``y``."""

    axis: Literal["x", "y"]
    at: float
    label: str = ""
    color: str = "null"
    dash: bool = True


@dataclass(frozen=True)
class Span:
    """A window of x whose edges can be dragged to integers within `limits`.

    `start` and `stop` name the options of the view that hold the edges: dragging sets them, which redraws the view.
    """

    low: float
    high: float
    start: str
    stop: str
    limits: tuple[float, float]
    label: str = ""
    color: str = "accent"


@dataclass(frozen=True)
class OptionChange:
    """New values of the view's options, by name, set by a drag."""

    options: tuple[tuple[str, int], ...]


Mark = Line | Points | Segments | Band | Steps | Boxes | Image | Rule | Span

Cell = str | float | int


def cell_text(cell: Cell) -> str:
    """Format a table cell: integers in full, other numbers to four significant digits, NaN as a dash."""
    if isinstance(cell, str):
        return cell
    if isinstance(cell, int | np.integer):
        return f"{cell:,}"
    return "–" if np.isnan(cell) else f"{cell:.4g}".replace("-", "−")


@dataclass(frozen=True)
class Table:
    """A table of numbers and texts, below the panels or instead of them.

    Numbers are shown to four significant digits and exported in full; NaN is a dash. `picks`, one per row, makes rows
    clickable, or only their cells in the column `clickable`.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    title: str = ""
    picks: tuple[Pick, ...] = ()
    clickable: str = ""

    def text(self, width: int = 60) -> str:
        """Return the table as plain text, with long cells wrapped at `width` characters."""
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
    """`ticks` (position, text) replaces the automatic ones; `limits` fixes the range; both are in data units.

    A `bare` axis has no ticks, because its numbers mean nothing. `upright` turns the tick texts of x to read from
    bottom to top, so that more of them fit.
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
    """One pair of axes. A click that hits no mark applies `pick`; `current` frames the panel."""

    x: Axis
    y: Axis
    marks: tuple[Mark, ...]
    title: str = ""
    equal: bool = False
    pick: Pick | None = None
    current: bool = False


@dataclass(frozen=True, eq=False)
class Figure:
    """A grid of panels and, below it or instead of it, a table.

    `note` is shown below the panels (caveats); `empty` says what to do when there is nothing to draw.
    """

    rows: tuple[tuple[Panel, ...], ...] = ()
    title: str = ""
    note: str = ""
    empty: str = ""
    legend: bool = True
    table: Table | None = None
    provenance: dict[str, str] = field(default_factory=dict)
