"""One panel: a pyqtgraph ViewBox with its marks, and axes painted around it."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import numpy as np
import pyqtgraph as pg
from PySide6.QtCore import QPointF, QRectF, Qt, Signal
from PySide6.QtGui import QColor, QFont, QFontMetricsF, QPainter, QPen
from PySide6.QtWidgets import QGraphicsSceneWheelEvent, QGraphicsWidget

from gui.plots import theme
from gui.plots.drawing.areas import DrawnSpan
from gui.plots.drawing.axes import Tick, ticks, to_drawn
from gui.plots.drawing.drawn import Drawn, Hit, Look, Mouse
from gui.plots.drawing.marks import KINDS
from gui.plots.drawing.scale import ColorBar, Scale
from gui.plots.figure import Axis, Image, Panel

Side = Literal["x", "y"]
TICK, MINOR = 4.0, 2.0
PAD = 0.04
UPRIGHT = 70.0
"""Largest height of an upright tick text of the x axis, in pixels."""


class PanelItem(QGraphicsWidget):
    """Draws one `Panel`; the canvas places it and decides which of its labels are shown."""

    moved = Signal(object)
    """The user panned or zoomed the panel; carries this item."""
    dragged = Signal(object)
    """A window in the panel is being dragged; carries an `OptionChange`."""

    def __init__(self, parent: QGraphicsWidget, font: QFont) -> None:
        super().__init__()
        self.view = pg.ViewBox(self, enableMenu=False)
        self.view.setZValue(0)
        self.view.disableAutoRange()
        self.view.sigRangeChangedManually.connect(self._moved)
        self.view.sigRangeChanged.connect(self._range_changed)
        self.spec: Panel | None = None
        self.marks: list[Drawn] = []
        self.bar: ColorBar | None = None
        self.labels = {"x": True, "y": True}
        self.tick_labels = {"x": True, "y": True}
        self.dark = False
        self.plot = QRectF()
        self._ticks: dict[Side, tuple[object, list[Tick]]] = {}
        self._home: tuple[float, float, float, float] | None = None
        self.set_font(font)
        self.setParentItem(parent)  # last: the ViewBox learns of paints only if it exists when it enters the scene

    def set_font(self, font: QFont) -> None:
        self.setFont(font)
        self.title_font = QFont(font)
        self.title_font.setWeight(QFont.Weight.DemiBold)
        self.metrics = QFontMetricsF(font)

    # What is drawn

    def show_panel(
        self, panel: Panel, look: Look, scales: dict[int, Scale], bar: Scale | None, hidden: Sequence[str]
    ) -> None:
        """Draw `panel`; `scales` are the colour scales of its marks by id, `bar` the one shown beside it."""
        if [KINDS[type(m)] for m in panel.marks] != [type(d) for d in self.marks]:
            # Items are reused, because creating them is slow and a window may be in the middle of a drag
            unused = list(self.marks)
            self.marks = []
            for order, kind in enumerate(KINDS[type(m)] for m in panel.marks):
                reusable = next((drawn for drawn in unused if type(drawn) is kind), None)
                if reusable is None:
                    self.marks.append(kind(self.view, order))
                else:
                    unused.remove(reusable)
                    reusable.set_order(order)
                    self.marks.append(reusable)
            for drawn in unused:
                drawn.remove()
        for drawn, mark in zip(self.marks, panel.marks, strict=True):
            if isinstance(drawn, DrawnSpan):
                drawn.report = self.dragged.emit
            drawn.show(mark, panel, look, scales.get(id(mark)))
            drawn.set_visible(mark.label not in hidden or not mark.label)
        if self.spec is None or panel.equal != self.spec.equal:
            self.view.setAspectLocked(panel.equal)
        self.view.invertX(panel.x.inverted)
        self.view.invertY(panel.y.inverted)
        self.spec, self.dark = panel, look.dark
        if (self.bar and self.bar.scale) != bar:
            self.bar = ColorBar(bar) if bar is not None else None
        self.update()

    def axis(self, side: Side) -> Axis:
        assert self.spec is not None
        return self.spec.x if side == "x" else self.spec.y

    # Ranges, in drawn coordinates

    def data_range(self, side: Side) -> tuple[float, float]:
        """Return the range of the visible marks, or the limits of the axis; NaN if nothing is visible."""
        axis = self.axis(side)
        if axis.limits is not None:
            low, high = (float(v) for v in to_drawn(sorted(axis.limits), axis.log))
            return low, high
        first = 0 if side == "x" else 2
        extents = [d.bounds()[first : first + 2] for d in self.marks if d.items[0].isVisible()]
        lows, highs = (
            [low for low, _ in extents if np.isfinite(low)],
            [high for _, high in extents if np.isfinite(high)],
        )
        return (min(lows), max(highs)) if lows and highs else (np.nan, np.nan)

    def padded(self, side: Side, low: float, high: float) -> tuple[float, float]:
        """Add a margin around the data, but none around a heatmap or below bars that start at zero."""
        axis = self.axis(side)
        if not (np.isfinite(low) and np.isfinite(high)):
            return 0.0, 1.0
        if axis.limits is not None and high > low:
            return low, high
        if high == low:
            half = 0.5 if axis.log else 0.05 * abs(low) or 0.5
            return low - half, high + half
        assert self.spec is not None
        if any(isinstance(m, Image) for m in self.spec.marks):
            return low, high
        pad = PAD * (high - low)
        from_zero = side == "y" and not axis.log and low == 0.0
        return (low if from_zero else low - pad), high + pad

    def set_home(self, x: tuple[float, float], y: tuple[float, float], force: bool) -> None:
        """Show a range, unless it was the last one set."""
        if force or self._home != (*x, *y):
            self._home = (*x, *y)
            self.view.setRange(xRange=x, yRange=y, padding=0)

    def set_range(self, side: Side, low: float, high: float) -> None:
        (self.view.setXRange if side == "x" else self.view.setYRange)(low, high, padding=0)

    def _moved(self) -> None:
        self.moved.emit(self)

    def _range_changed(self) -> None:
        self.update()

    # Sizes, for the canvas

    def ticks(self, side: Side) -> list[Tick]:
        """Return the ticks of an axis, spaced so that their texts are readable."""
        low, high = self.view.viewRange()[0 if side == "x" else 1]
        axis = self.axis(side)
        key = (axis, low, high, self.plot.width() if side == "x" else self.plot.height(), self.metrics.height())
        if self._ticks.get(side, (None, []))[0] != key:
            self._ticks[side] = (key, self._make_ticks(side, axis, low, high))
        return self._ticks[side][1]

    def _make_ticks(self, side: Side, axis: Axis, low: float, high: float) -> list[Tick]:
        if side == "y":
            spacing = 1.3 if axis.ticks else 2.2
            return ticks(axis, low, high, int(self.plot.height() / (spacing * self.metrics.height())))
        if axis.upright:
            return ticks(axis, low, high, int(self.plot.width() / (1.1 * self.metrics.height())))
        room = len(axis.ticks) or int(self.plot.width() / 42)
        while (candidates := ticks(axis, low, high, room)) and room > 2 and self._crowded(candidates):
            room -= 1 + room // 8
        return candidates

    def _crowded(self, candidates: list[Tick]) -> bool:
        texts = [(self.to_pixels("x", t.at), self.metrics.horizontalAdvance(t.text)) for t in candidates if t.text]
        return any(abs(b - a) < (v + w) / 2 + 9 for (a, v), (b, w) in pairwise(texts))

    def left_margin(self) -> float:
        """Return the width of the ticks and the label of the y axis."""
        text = 0.0
        if self.tick_labels["y"]:
            text = max((self.metrics.horizontalAdvance(t.text) for t in self.ticks("y")), default=0.0) + 4
        return TICK + text + (self.metrics.height() + 4 if self.labels["y"] else 0)

    def bottom_margin(self) -> float:
        return TICK + 2 + self._tick_height() + int(self.labels["x"]) * (self.metrics.height() + 1)

    def _tick_height(self) -> float:
        """Return the height of the tick texts of the x axis."""
        if not self.tick_labels["x"]:
            return 0.0
        if not self.axis("x").upright:
            return self.metrics.height() + 1
        longest = max((self.metrics.horizontalAdvance(t.text) for t in self.ticks("x")), default=0.0)
        return min(longest, UPRIGHT) + 4

    def right_margin(self, height: float) -> float:
        return self.bar.width(height, self.metrics) if self.bar else 0.0

    def top_margin(self) -> float:
        assert self.spec is not None
        return self.metrics.height() + 5 if self.spec.title else 0.0

    def place(self, outer: QRectF, plot: QRectF) -> None:
        """Occupy `outer`, with the axes around `plot`; both are in canvas coordinates."""
        if self.geometry() != outer:
            self.setGeometry(outer)
        inner = plot.translated(-outer.topLeft())
        if self.plot != inner:
            self.plot = inner
            self.view.setGeometry(inner)
        self.update()

    # Painting

    def to_pixels(self, side: Side, at: float) -> float:
        low, high = self.view.viewRange()[0 if side == "x" else 1]
        part = (at - low) / (high - low)
        flip = self.axis(side).inverted
        if side == "x":
            return self.plot.left() + (1 - part if flip else part) * self.plot.width()
        return self.plot.top() + (part if flip else 1 - part) * self.plot.height()

    def paint(self, painter: QPainter, option: object, widget: object = None) -> None:
        if self.spec is None or self.plot.width() < 2 or self.plot.height() < 2:
            return
        painter.setFont(self.font())
        painter.setRenderHint(QPainter.RenderHint.Antialiasing, False)
        self._paint_axes(painter)
        painter.setPen(QPen(QColor(theme.resolve("axis", self.dark)), 1))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawRect(self.plot)
        if self.spec.current:
            painter.setPen(QPen(QColor(theme.resolve("accent", self.dark)), 2))
            painter.drawRect(self.plot.adjusted(-1, -1, 1, 1))
        ink = QColor(theme.resolve("ink", self.dark))
        painter.setPen(ink)
        self._paint_labels(painter)
        if self.spec.title:
            painter.setFont(self.title_font)
            height = self.metrics.height() + 4
            room = self.plot.adjusted(-10, -height - 1, 10, 0)
            text = QFontMetricsF(self.title_font).elidedText(self.spec.title, Qt.TextElideMode.ElideRight, room.width())
            painter.drawText(QRectF(room.left(), room.top(), room.width(), height), Qt.AlignmentFlag.AlignCenter, text)
            painter.setFont(self.font())
        if self.bar:
            right = self.plot.right()
            self.bar.paint(
                painter,
                QRectF(right, self.plot.top(), self.bar.width(self.plot.height(), self.metrics), self.plot.height()),
                self.dark,
            )

    def _paint_axes(self, painter: QPainter) -> None:
        line = QPen(QColor(theme.resolve("axis", self.dark)), 1)
        grid = QPen(QColor(theme.resolve("grid", self.dark)), 1)
        text = QColor(theme.resolve("ink", self.dark))
        assert self.spec is not None
        gridded = not any(isinstance(m, Image) for m in self.spec.marks)
        plot, height = self.plot, self.metrics.height()
        for tick in self.ticks("x"):
            x = self.to_pixels("x", tick.at)
            if gridded and tick.text:
                painter.setPen(grid)
                painter.drawLine(QPointF(x, plot.top()), QPointF(x, plot.bottom()))
            painter.setPen(line)
            painter.drawLine(QPointF(x, plot.bottom()), QPointF(x, plot.bottom() + (TICK if tick.text else MINOR)))
            width = self.metrics.horizontalAdvance(tick.text)
            if self.spec.x.upright and tick.text and self.tick_labels["x"]:
                painter.setPen(text)
                self._paint_upright(painter, x, tick.text)
            elif tick.text and self.tick_labels["x"] and self._fits(x, width):
                painter.setPen(text)
                place = QRectF(x - width / 2 - 2, plot.bottom() + TICK + 1, width + 4, height)
                painter.drawText(place, Qt.AlignmentFlag.AlignCenter, tick.text)
        last = np.inf
        for tick in self.ticks("y"):
            y = self.to_pixels("y", tick.at)
            if gridded and tick.text:
                painter.setPen(grid)
                painter.drawLine(QPointF(plot.left(), y), QPointF(plot.right(), y))
            painter.setPen(line)
            painter.drawLine(QPointF(plot.left() - (TICK if tick.text else MINOR), y), QPointF(plot.left(), y))
            if tick.text and self.tick_labels["y"] and abs(last - y) >= height:
                last = y
                painter.setPen(text)
                place = QRectF(plot.left() - TICK - 204, y - height / 2, 200, height)
                painter.drawText(place, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter, tick.text)

    def _paint_upright(self, painter: QPainter, x: float, text: str) -> None:
        """Paint a tick text below the axis, reading from bottom to top."""
        painter.save()
        painter.translate(x - self.metrics.height() / 2, self.plot.bottom() + TICK + 2 + UPRIGHT)
        painter.rotate(-90)
        elided = self.metrics.elidedText(text, Qt.TextElideMode.ElideRight, UPRIGHT)
        place = QRectF(0, 0, UPRIGHT, self.metrics.height())
        painter.drawText(place, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter, elided)
        painter.restore()

    def _fits(self, x: float, width: float) -> bool:
        """Whether a tick text stays near its own panel, clear of the neighbouring one."""
        return x - width / 2 > self.plot.left() - 12 and x + width / 2 < self.plot.right() + 12

    def _paint_labels(self, painter: QPainter) -> None:
        assert self.spec is not None
        height = self.metrics.height()
        if self.labels["x"] and self.spec.x.label:
            top = self.plot.bottom() + TICK + 2 + self._tick_height()
            paint_label(painter, self.spec.x.label, QRectF(self.plot.left(), top, self.plot.width(), height + 1))
        if self.labels["y"] and self.spec.y.label:
            left = self.plot.left() - self.left_margin()
            paint_label(painter, self.spec.y.label, QRectF(left, self.plot.top(), height, self.plot.height()), True)

    # The mouse

    def mouse(self, place: QPointF) -> Mouse | None:
        """Convert a point on the canvas to a position in the view; None outside the axes."""
        inside = place - self.pos()
        if self.spec is None or not self.isVisible() or not self.plot.contains(inside):
            return None
        position = self.view.mapToView(inside - self.plot.topLeft())
        (x0, x1), (y0, y1) = self.view.viewRange()
        return Mouse(position.x(), position.y(), (x1 - x0) / self.plot.width(), (y1 - y0) / self.plot.height())

    def hit(self, mouse: Mouse, to_pick: bool = False) -> Hit | None:
        """Return the closest hit: points before areas and, at equal distance, clickable points first.

        With `to_pick`, only clickable marks count.
        """
        hits = [h for d in reversed(self.marks) if d.items[0].isVisible() and (h := d.hit(mouse))]
        if to_pick:
            hits = [h for h in hits if h.pick is not None]
        return min(hits, key=lambda h: (not h.point, h.distance // 3, h.pick is None, h.distance), default=None)

    def wheelEvent(self, event: QGraphicsSceneWheelEvent) -> None:
        """Zoom one axis when the wheel turns over it."""
        below = event.pos().y() > self.plot.bottom()
        beside = event.pos().x() < self.plot.left()
        if below == beside:
            event.ignore()
            return
        low, high = self.view.viewRange()[0 if below else 1]
        half = (high - low) / 2 * 1.02 ** (-event.delta() / 8)
        self.set_range("x" if below else "y", (low + high) / 2 - half, (low + high) / 2 + half)
        event.accept()
        self.moved.emit(self)


def paint_label(painter: QPainter, text: str, rect: QRectF, upright: bool = False) -> None:
    """Paint a label centred in `rect`, elided to fit; an `upright` one reads from bottom to top."""
    painter.save()
    length = rect.height() if upright else rect.width()
    if upright:
        painter.translate(rect.left(), rect.bottom())
        painter.rotate(-90)
        rect = QRectF(0, 0, rect.height(), rect.width())
    metrics = QFontMetricsF(painter.font())
    elided = metrics.elidedText(text, Qt.TextElideMode.ElideRight, length)
    painter.drawText(rect, Qt.AlignmentFlag.AlignCenter, elided)
    painter.restore()
