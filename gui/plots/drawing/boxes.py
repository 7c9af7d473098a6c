"""The drawn form of box plots."""

import numpy as np
from PySide6.QtCore import QPointF, QRectF
from PySide6.QtGui import QPainterPath

from gui.plots.drawing.axes import from_drawn, number
from gui.plots.drawing.drawn import (
    REACH,
    Bounds,
    Drawn,
    Hit,
    Look,
    Mouse,
    bounds_of,
    make_brush,
    make_pen,
    named,
    per_point,
)
from gui.plots.drawing.items import PathItem
from gui.plots.drawing.scale import Scale
from gui.plots.figure import Boxes

CAP = 0.5
"""Width of a whisker cap relative to the box."""


class DrawnBoxes(Drawn):
    ARRAYS = ("x", "low", "q1", "median", "q3", "high", "width")
    LAYER = 2

    def build(self) -> None:
        self.boxes = self.add_item(PathItem())
        self.medians = self.add_item(PathItem())

    def place(self) -> None:
        mark: Boxes = self.mark
        self._left, self._right = self.x(mark.x - mark.width / 2), self.x(mark.x + mark.width / 2)
        self._heights = np.array([self.y(v) for v in (mark.low, mark.q1, mark.median, mark.q3, mark.high)])
        areas, outline, medians = QPainterPath(), QPainterPath(), QPainterPath()
        for left, right, (low, q1, median, q3, high) in zip(self._left, self._right, self._heights.T, strict=True):
            if not np.isfinite([left, right, q1, median, q3]).all():
                continue
            areas.addRect(QRectF(left, q1, right - left, q3 - q1))
            outline.addRect(QRectF(left, q1, right - left, q3 - q1))
            _stroke(medians, left, median, right, median)
            middle, cap = (left + right) / 2, CAP * (right - left) / 2
            for start, end in ((q1, low), (q3, high)):
                if np.isfinite(end) and end != start:
                    _stroke(outline, middle, start, middle, end)
                    _stroke(outline, middle - cap, end, middle + cap, end)
        self.boxes.set_path(areas, outline)
        self.medians.set_path(QPainterPath(), medians)

    def paint(self, look: Look, scale: Scale | None) -> None:
        self.boxes.set_look(make_pen(self.mark.color, look), make_brush(self.mark.color, look, 70))
        self.medians.set_look(make_pen(self.mark.color, look, 2.2), None)

    def bounds(self) -> Bounds:
        return bounds_of(np.concatenate([self._left, self._right]), self._heights)

    def hit(self, mouse: Mouse) -> Hit | None:
        inside = (self._left <= mouse.x) & (mouse.x <= self._right)
        inside &= (self._heights[0] <= mouse.y) & (mouse.y <= self._heights[4])
        if not inside.any():
            return None
        index = int(np.argmax(inside))
        assert self.panel is not None
        low, q1, median, q3, high = (number(from_drawn(v, self._logs[1])) for v in self._heights[:, index])
        x, y = (self._left[index] + self._right[index]) / 2, self._heights[2, index]
        text = per_point(self.mark.hover, index) or named(self.panel.x, x)
        text += f"  ·  median {median}, quartiles {q1} … {q3}, whiskers {low} … {high}"
        text = f"{self.mark.label}  ·  {text}" if self.mark.label else text
        return Hit(REACH, x, y, text, per_point(self.mark.picks, index), point=False)


def _stroke(path: QPainterPath, x0: float, y0: float, x1: float, y1: float) -> None:
    path.moveTo(QPointF(x0, y0))
    path.lineTo(QPointF(x1, y1))
