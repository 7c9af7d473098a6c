"""The drawn form of many straight lines, such as the edges of a graph: a single item with one pen."""

import numpy as np
import pyqtgraph as pg
from PySide6.QtGui import QColor

from gui.plots.drawing.drawn import Bounds, Drawn, Look, bounds_of, make_pen
from gui.plots.drawing.scale import Scale
from gui.plots.figure import Segments


class DrawnSegments(Drawn):
    ARRAYS = ("x", "y")
    LAYER = 1

    def build(self) -> None:
        # Not antialiased: 40,000 antialiased lines take ten times as long, and panning would stutter
        self.curve = self.add_item(pg.PlotCurveItem(connect="pairs", antialias=False, skipFiniteCheck=True))

    def style(self, mark: Segments, look: Look, scale: Scale | None) -> tuple[object, ...]:
        return (mark.color, mark.opacity, look)

    def place(self) -> None:
        x, y = self.x(self.mark.x), self.y(self.mark.y)
        finite = np.isfinite(x).all(1) & np.isfinite(y).all(1)
        self._x, self._y = x[finite].ravel(), y[finite].ravel()
        self.curve.setData(self._x, self._y)

    def paint(self, look: Look, scale: Scale | None) -> None:
        pen = make_pen(self.mark.color, look)
        color = QColor(pen.color())
        color.setAlphaF(self.mark.opacity)
        pen.setColor(color)
        self.curve.setPen(pen)

    def bounds(self) -> Bounds:
        return bounds_of(self._x, self._y)
