"""The drawn forms of lines, points and heatmaps, and the table of the drawn form of every mark.

Each owns its graphics items, updates only what has changed, and finds what the mouse hits. An item has one pen and one
brush (points coloured by value share brushes by colour class), because a pen per point takes seconds to draw.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyqtgraph as pg
from PySide6.QtCore import Qt
from PySide6.QtGui import QBrush, QColor, QPainterPath, QPen

from gui.plots import theme
from gui.plots.drawing.areas import DrawnBand, DrawnRule, DrawnSpan, DrawnSteps
from gui.plots.drawing.axes import number
from gui.plots.drawing.boxes import DrawnBoxes
from gui.plots.drawing.drawn import (
    REACH,
    Bounds,
    Drawn,
    Drawn1d,
    Hit,
    Look,
    Mouse,
    bounds_of,
    distance_to_segments,
    make_brush,
    make_pen,
    named,
    nearest,
    per_point,
)
from gui.plots.drawing.items import HeatItem, PathItem
from gui.plots.drawing.scale import STEPS, Scale
from gui.plots.drawing.segments import DrawnSegments
from gui.plots.figure import Band, Boxes, Image, Line, Points, Rule, Segments, Span, Steps

DENSE = 20_000
"""Above this number of points a scatter is drawn as an image of counts: 10⁵ separate points take 44 ms per frame."""


class DrawnLine(Drawn):
    ARRAYS = ("x", "y")
    LAYER = 3

    def build(self) -> None:
        self.curve = self.add_item(pg.PlotCurveItem(connect="finite", antialias=True))
        self.dots: Any = None

    def style(self, mark: Line, look: Look, scale: Scale | None) -> tuple[object, ...]:
        return (mark.color, mark.width, mark.dash, mark.markers, look)

    def place(self) -> None:
        self._x, self._y = self.x(self.mark.x), self.y(self.mark.y)
        self.curve.setData(self._x, self._y)

    def paint(self, look: Look, scale: Scale | None) -> None:
        mark: Line = self.mark
        self.curve.setPen(make_pen(mark.color, look, mark.width, mark.dash))
        if mark.markers:
            if self.dots is None:
                self.dots = self.add_item(pg.ScatterPlotItem(pxMode=True))
                self.dots.setVisible(self.curve.isVisible())
            shown = np.isfinite(self._x) & np.isfinite(self._y)
            size = 3 + mark.width if self._x.size > 40 else 4 + mark.width
            self.dots.setData(
                self._x[shown], self._y[shown], pen=None, brush=make_brush(mark.color, look), size=size, symbol="o"
            )
        elif self.dots is not None:
            self.dots.clear()

    def bounds(self) -> Bounds:
        return bounds_of(self._x, self._y)

    def hit(self, mouse: Mouse) -> Hit | None:
        mark: Line = self.mark
        if neighbour := nearest(self._x, self._y, mouse):
            index, distance = neighbour
            x, y = float(self._x[index]), float(self._y[index])
            text = self.describe(x, y, per_point(mark.hover, index) or "")
            return Hit(distance, x, y, text, per_point(mark.picks, index))
        if len(mark.picks) == 1 and (distance := distance_to_segments(self._x, self._y, mouse)) <= REACH / 2:
            return Hit(distance, mouse.x, mouse.y, self.describe(mouse.x, mouse.y), mark.picks[0], point=False)
        return None


class DrawnPoints(Drawn):
    ARRAYS = ("x", "y", "values")
    LAYER = 4

    def build(self) -> None:
        self.dots = self.add_item(pg.ScatterPlotItem(pxMode=True))
        self.counts: HeatItem | None = None

    def style(self, mark: Points, look: Look, scale: Scale | None) -> tuple[object, ...]:
        return (mark.color, np.asarray(mark.size).tobytes(), mark.symbol, mark.filled, look, scale)

    def place(self) -> None:
        self._x, self._y = self.x(self.mark.x), self.y(self.mark.y)
        self._shown = np.isfinite(self._x) & np.isfinite(self._y)

    @property
    def dense(self) -> bool:
        return bool(self._shown.sum() > DENSE)

    def paint(self, look: Look, scale: Scale | None) -> None:
        mark: Points = self.mark
        if self.dense:
            self.dots.clear()
            self._paint_counts(look)
            return
        if self.counts is not None:
            self.counts.set_steps(np.zeros((0, 0), np.uint8), np.zeros(0), np.zeros(0))
        x, y = self._x[self._shown], self._y[self._shown]
        # Every size is rendered as a picture of its own: rounding to half pixels keeps them few
        size = mark.size if np.ndim(mark.size) == 0 else np.round(2 * np.asarray(mark.size)[self._shown]) / 2
        if not mark.filled:
            self.dots.setData(x, y, pen=make_pen(mark.color, look, 1.6), brush=None, size=size, symbol=mark.symbol)
        elif mark.values is None or scale is None:
            brush = make_brush(mark.color, look, 220)
            self.dots.setData(x, y, pen=None, brush=brush, size=size, symbol=mark.symbol)
        else:
            steps = (scale.steps(mark.values)[self._shown].astype(int) + 3) // 4  # 65 brushes at most
            codes = scale.colors(look.dark)
            brushes = {
                s: QBrush(QColor(codes[max(0, 4 * s - 2)] if s else codes[0])) for s in np.unique(steps).tolist()
            }
            # A rim keeps the dark end of the map visible on a dark background and the bright end on a white one
            pen = make_pen("axis", look, 0.7)
            self.dots.setData(x, y, pen=pen, brush=[brushes[s] for s in steps.tolist()], size=size, symbol=mark.symbol)

    def _paint_counts(self, look: Look) -> None:
        """Paint counts on a fine grid, log-scaled into the opacity of the mark's colour."""
        if self.counts is None:
            self.counts = self.add_item(HeatItem())
            self.counts.setZValue(0.5)
            self.counts.setVisible(self.dots.isVisible())
        x_edges, column = _cells(self._x[self._shown], 256)
        y_edges, row = _cells(self._y[self._shown], 192)
        counts = np.bincount(row * 256 + column, minlength=192 * 256).reshape(192, 256)
        level = np.log1p(counts) / np.log1p(counts.max())
        self.counts.set_steps(np.ceil(level * STEPS).astype(np.uint8), x_edges, y_edges)
        color = QColor(theme.resolve(self.mark.color, look.dark))
        colors = [QColor(0, 0, 0, 0)]
        for step in range(1, STEPS + 1):
            color.setAlpha(40 + 215 * step // STEPS)
            colors.append(QColor(color))
        self.counts.set_colors(colors)

    def bounds(self) -> Bounds:
        return bounds_of(self._x, self._y)

    def hit(self, mouse: Mouse) -> Hit | None:
        mark: Points = self.mark
        if not (neighbour := nearest(self._x, self._y, mouse)):
            return None
        index, distance = neighbour
        x, y = float(self._x[index]), float(self._y[index])
        text = self.describe(x, y, per_point(mark.hover, index) or "")
        if mark.values is not None:
            text += f"  ·  {mark.values_label} = {number(float(mark.values[index]))}"
        return Hit(distance, x, y, text, per_point(mark.picks, index))


class DrawnImage(Drawn):
    ARRAYS = ("z", "x_edges", "y_edges")
    LAYER = 0

    def build(self) -> None:
        self.heat = self.add_item(HeatItem())
        self.under = self.add_item(PathItem())
        self.frames = self.add_item(PathItem())

    def style(self, mark: Image, look: Look, scale: Scale | None) -> tuple[object, ...]:
        return (mark.marked, look, scale)

    def place(self) -> None:
        self._x, self._y = self.x(self.mark.x_edges), self.y(self.mark.y_edges)

    def paint(self, look: Look, scale: Scale | None) -> None:
        mark: Image = self.mark
        assert scale is not None
        self.heat.set_steps(scale.steps(mark.z), self._x, self._y)
        self.heat.set_colors([QColor(color) for color in scale.colors(look.dark)])
        frames = QPainterPath()
        for row, column in mark.marked:
            x0, x1, y0, y1 = self._x[column], self._x[column + 1], self._y[row], self._y[row + 1]
            frames.addRect(x0, y0, x1 - x0, y1 - y0)
        # Black edged with white stands out against every colour of the maps
        for item, color, width in ((self.under, "#ffffff", 4.0), (self.frames, "#000000", 2.0)):
            pen = QPen(QColor(color), width * look.stroke)
            pen.setCosmetic(True)
            pen.setJoinStyle(Qt.PenJoinStyle.MiterJoin)
            item.set_path(QPainterPath(), frames)
            item.set_look(pen, None)

    def bounds(self) -> Bounds:
        return bounds_of(self._x, self._y)

    def hit(self, mouse: Mouse) -> Hit | None:
        mark: Image = self.mark
        column = int(np.searchsorted(self._x, mouse.x, side="right")) - 1
        row = int(np.searchsorted(self._y, mouse.y, side="right")) - 1
        rows, columns = mark.z.shape
        if not (0 <= row < rows and 0 <= column < columns):
            return None
        assert self.panel is not None
        x = float(self._x[column] + self._x[column + 1]) / 2
        y = float(self._y[row] + self._y[row + 1]) / 2
        value = float(mark.z[row, column])
        value_text = "no value" if np.isnan(value) else number(value)
        text = f"{named(self.panel.x, x)}  ·  {named(self.panel.y, y)}  ·  {mark.label or 'value'} = {value_text}"
        pick = mark.picks[row][column] if mark.picks else None
        return Hit(REACH, x, y, text, pick, point=False)


def _cells(values: Drawn1d, count: int) -> tuple[Drawn1d, npt.NDArray[np.int64]]:
    """Return the edges of `count` equal cells and the cell of each value (ten times faster than histogram2d)."""
    low, high = float(values.min()), float(values.max())
    high = high if high > low else low + 1.0
    cell = ((values - low) * (count / (high - low))).astype(np.int64)
    return np.linspace(low, high, count + 1), np.minimum(cell, count - 1)


KINDS: dict[type, type[Drawn]] = {
    Line: DrawnLine,
    Points: DrawnPoints,
    Segments: DrawnSegments,
    Band: DrawnBand,
    Steps: DrawnSteps,
    Boxes: DrawnBoxes,
    Image: DrawnImage,
    Rule: DrawnRule,
    Span: DrawnSpan,
}
