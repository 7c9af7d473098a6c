"""Base of the drawn marks: their graphics items, when to redraw them, and how the mouse hits them."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyqtgraph as pg
from PySide6.QtCore import Qt
from PySide6.QtGui import QBrush, QColor, QPen

from gui.plots import theme
from gui.plots.drawing.axes import from_drawn, number, to_drawn
from gui.plots.drawing.scale import Scale
from gui.plots.figure import Axis, Mark, Panel
from gui.plots.selection import Pick

Drawn1d = npt.NDArray[np.float64]
Bounds = tuple[float, float, float, float]

REACH = 12.0
"""Distance from a mark within which the mouse hits it, in pixels."""


@dataclass(frozen=True)
class Hit:
    """A mark under the mouse; `x` and `y` are drawn coordinates, `distance` is in pixels."""

    distance: float
    x: float
    y: float
    text: str
    pick: Pick | None
    point: bool = True
    cursor: Qt.CursorShape | None = None


@dataclass(frozen=True)
class Look:
    """Light or dark; `stroke` widens lines on a device of higher resolution, because their pens are cosmetic."""

    dark: bool = False
    stroke: float = 1.0


@dataclass(frozen=True)
class Mouse:
    """A position in drawn coordinates, and the size of a pixel there."""

    x: float
    y: float
    pixel_x: float
    pixel_y: float


class Drawn:
    """A mark on the screen. Subclasses name the arrays that trigger a redraw, and draw."""

    ARRAYS: ClassVar[tuple[str, ...]] = ()
    LAYER: ClassVar[float] = 0.0

    def __init__(self, view: pg.ViewBox, order: int) -> None:
        self.view = view
        self.order = order
        self.items: list[Any] = []
        self.mark: Any = None
        self.panel: Panel | None = None
        self._arrays: tuple[object, ...] = ()
        self._style: tuple[object, ...] = ()
        self._logs = (False, False)
        self.build()

    def add_item(self, item: Any) -> Any:
        """Add `item` to the view, without pyqtgraph's own computation of bounds."""
        item.setZValue(self.LAYER + 0.01 * self.order)
        self.view.addItem(item, ignoreBounds=True)
        self.items.append(item)
        return item

    def show(self, mark: Mark, panel: Panel, look: Look, scale: Scale | None) -> None:
        """Draw `mark`, updating only what has changed."""
        logs = (panel.x.log, panel.y.log)
        arrays = tuple(getattr(mark, name) for name in self.ARRAYS)
        style = self.style(mark, look, scale)
        changed = logs != self._logs or len(arrays) != len(self._arrays) or not all(map(_same, arrays, self._arrays))
        self.mark, self.panel, self._arrays, self._logs = mark, panel, arrays, logs
        if changed or not self._style:
            self.place()
        if style != self._style or changed:
            self._style = style
            self.paint(look, scale)

    def set_order(self, order: int) -> None:
        """Move to `order` in the stack of marks."""
        for item in self.items:
            item.setZValue(item.zValue() + 0.01 * (order - self.order))
        self.order = order

    def set_visible(self, visible: bool) -> None:
        for item in self.items:
            item.setVisible(visible)

    def remove(self) -> None:
        for item in self.items:
            self.view.removeItem(item)

    def x(self, values: npt.ArrayLike) -> Drawn1d:
        return to_drawn(values, self._logs[0])

    def y(self, values: npt.ArrayLike) -> Drawn1d:
        return to_drawn(values, self._logs[1])

    def describe(self, x: float, y: float, hover: str = "") -> str:
        """Return the mark's label with its hover text, or with the values at a drawn position."""
        assert self.panel is not None
        text = hover or f"{named(self.panel.x, x)}  ·  {named(self.panel.y, y)}"
        return f"{self.mark.label}  ·  {text}" if self.mark.label else text

    def build(self) -> None:
        raise NotImplementedError

    def style(self, mark: Any, look: Look, scale: Scale | None) -> tuple[object, ...]:
        return (mark.color, look)

    def place(self) -> None:
        raise NotImplementedError

    def paint(self, look: Look, scale: Scale | None) -> None:
        raise NotImplementedError

    def bounds(self) -> Bounds:
        """Return the smallest and largest x, then y, in drawn coordinates; NaN where nothing is drawn."""
        raise NotImplementedError

    def hit(self, mouse: Mouse) -> Hit | None:
        """Return the part of this mark within reach of the mouse."""
        return None


def _same(new: Any, old: Any) -> bool:
    """Whether an array is unchanged; comparing is a hundred times faster than drawing again."""
    if isinstance(new, str):
        return bool(new == old)
    if new is old or new is None or old is None:
        return new is old
    return np.array_equal(new, old, equal_nan=True)


def named(axis: Axis, drawn: float) -> str:
    """Return ``label = value`` at a drawn coordinate, with the text of an explicit tick in place of its value."""
    value = from_drawn(drawn, axis.log)
    text = next((t for position, t in axis.ticks if np.isclose(position, value)), "") or number(value)
    return f"{axis.label} = {text}" if axis.label else text


def bounds_of(x: Drawn1d, y: Drawn1d) -> Bounds:
    return (*_span(x), *_span(y))


def _span(values: Drawn1d) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else (np.nan, np.nan)


def per_point(values: tuple[Any, ...], index: int) -> Any:
    """Return entry `index` of a tuple with one entry per point, or the only one; None if it is empty."""
    if not values:
        return None
    return values[0] if len(values) == 1 else values[index]


def nearest(x: Drawn1d, y: Drawn1d, mouse: Mouse) -> tuple[int, float] | None:
    """Return index and distance, in pixels, of the point closest to the mouse; None if out of reach."""
    if not x.size:
        return None
    squared = ((x - mouse.x) / mouse.pixel_x) ** 2 + ((y - mouse.y) / mouse.pixel_y) ** 2
    squared = np.where(np.isfinite(squared), squared, np.inf)
    index = int(np.argmin(squared))
    distance = float(np.sqrt(squared[index]))
    return (index, distance) if distance <= REACH else None


def distance_to_segments(x: Drawn1d, y: Drawn1d, mouse: Mouse) -> float:
    """Return the distance from the mouse to a polyline, in pixels."""
    if x.size < 2:
        return np.inf
    px, py = (x - mouse.x) / mouse.pixel_x, (y - mouse.y) / mouse.pixel_y
    dx, dy = np.diff(px), np.diff(py)
    length = np.maximum(dx**2 + dy**2, 1e-12)
    along = np.clip(-(px[:-1] * dx + py[:-1] * dy) / length, 0, 1)
    gap = np.hypot(px[:-1] + along * dx, py[:-1] + along * dy)
    return float(np.min(np.where(np.isfinite(gap), gap, np.inf)))


def make_pen(color: str, look: Look, width: float = 1.0, dash: bool = False) -> QPen:
    pen = QPen(QColor(theme.resolve(color, look.dark)), width * look.stroke)
    pen.setCosmetic(True)
    if dash:
        pen.setDashPattern([4, 3])
    pen.setCapStyle(Qt.PenCapStyle.FlatCap)
    pen.setJoinStyle(Qt.PenJoinStyle.RoundJoin)
    return pen


def make_brush(color: str, look: Look, alpha: int = 255) -> QBrush:
    translucent = QColor(theme.resolve(color, look.dark))
    translucent.setAlpha(alpha)
    return QBrush(translucent)
