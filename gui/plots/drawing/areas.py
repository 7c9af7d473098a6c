"""Marks that cover a range of the panel: bands, histograms, rules across it, and the draggable window."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pyqtgraph as pg
from PySide6.QtCore import Qt
from PySide6.QtGui import QPainterPath

from gui.plots.drawing.axes import from_drawn, number
from gui.plots.drawing.drawn import REACH, Bounds, Drawn, Hit, Look, Mouse, bounds_of, make_brush, make_pen
from gui.plots.drawing.items import PathItem
from gui.plots.drawing.scale import Scale
from gui.plots.figure import Band, OptionChange, Rule, Span, Steps


class DrawnBand(Drawn):
    ARRAYS = ("x", "low", "high")
    LAYER = 1

    def build(self) -> None:
        self.area = self.add_item(PathItem())

    def place(self) -> None:
        mark: Band = self.mark
        self._x, self._low, self._high = self.x(mark.x), self.y(mark.low), self.y(mark.high)
        path = QPainterPath()
        finite = np.isfinite(self._x) & np.isfinite(self._low) & np.isfinite(self._high)
        for run in _runs(finite):
            x = np.concatenate([self._x[run], self._x[run][::-1]])
            y = np.concatenate([self._high[run], self._low[run][::-1]])
            path.addPath(pg.arrayToQPath(x, y, finiteCheck=False))
        self.area.set_path(path)

    def paint(self, look: Look, scale: Scale | None) -> None:
        self.area.set_look(None, make_brush(self.mark.color, look, round(255 * self.mark.opacity)))

    def style(self, mark: Band, look: Look, scale: Scale | None) -> tuple[object, ...]:
        return (mark.color, mark.opacity, look)

    def bounds(self) -> Bounds:
        return bounds_of(self._x, np.concatenate([self._low, self._high]))


class DrawnSteps(Drawn):
    ARRAYS = ("edges", "height")
    LAYER = 2

    def build(self) -> None:
        self.area = self.add_item(PathItem())

    def place(self) -> None:
        mark: Steps = self.mark
        self._edges, self._height = self.x(mark.edges), self.y(mark.height)
        finite = np.isfinite(self._edges[:-1]) & np.isfinite(self._edges[1:]) & np.isfinite(self._height)
        # On a log axis zero is at infinity: the bars reach down below the smallest double.
        base = -320.0 if self._logs[1] else 0.0
        fill, outline = QPainterPath(), QPainterPath()
        for run in _runs(finite):
            edges = self._edges[run.start : run.stop + 1]
            x = np.repeat(edges, 2)
            y = np.concatenate([[base], np.repeat(self._height[run], 2), [base]])
            path = pg.arrayToQPath(x, y, finiteCheck=False)
            outline.addPath(path)
            fill.addPath(path)
        self.area.set_path(fill, outline)

    def paint(self, look: Look, scale: Scale | None) -> None:
        self.area.set_look(make_pen(self.mark.color, look), make_brush(self.mark.color, look, 60))

    def bounds(self) -> Bounds:
        base = np.zeros(0 if self._logs[1] else 1)
        return bounds_of(self._edges, np.concatenate([self._height, base]))

    def hit(self, mouse: Mouse) -> Hit | None:
        mark: Steps = self.mark
        index = int(np.searchsorted(self._edges, mouse.x, side="right")) - 1
        if not 0 <= index < len(mark.height) or not mouse.y <= self._height[index] + REACH * mouse.pixel_y:
            return None
        assert self.panel is not None
        bin_ = f"{number(mark.edges[index])} … {number(mark.edges[index + 1])}"
        text = f"{self.panel.x.label} {bin_}  ·  {self.panel.y.label} = {number(float(mark.height[index]))}"
        label = f"{mark.label}  ·  {text}" if mark.label else text
        return Hit(REACH, mouse.x, mouse.y, label, None, point=False)


class DrawnRule(Drawn):
    ARRAYS = ("axis", "at")
    LAYER = 2.5

    def build(self) -> None:
        self.line = self.add_item(pg.InfiniteLine())

    def style(self, mark: Rule, look: Look, scale: Scale | None) -> tuple[object, ...]:
        return (mark.color, mark.dash, look)

    def place(self) -> None:
        mark: Rule = self.mark
        self._position = float(self.x(mark.at) if mark.axis == "x" else self.y(mark.at))
        self.line.setAngle(90 if mark.axis == "x" else 0)
        self.line.setPos(self._position if np.isfinite(self._position) else 0)

    def paint(self, look: Look, scale: Scale | None) -> None:
        self.line.setPen(make_pen(self.mark.color, look, 1.2, self.mark.dash))
        self.line.setOpacity(1.0 if np.isfinite(self._position) else 0.0)

    def bounds(self) -> Bounds:
        position, empty = np.array([self._position]), np.zeros(0)
        return bounds_of(position, empty) if self.mark.axis == "x" else bounds_of(empty, position)

    def hit(self, mouse: Mouse) -> Hit | None:
        mark: Rule = self.mark
        along_x = mark.axis == "x"
        distance = abs((mouse.x if along_x else mouse.y) - self._position) / (
            mouse.pixel_x if along_x else mouse.pixel_y
        )
        if not mark.label or not distance <= REACH / 2:
            return None
        return Hit(REACH, mouse.x, mouse.y, f"{mark.label}  ·  {number(mark.at)}", None, point=False)


class DrawnSpan(Drawn):
    """A window dragged by an edge or as a whole; during the drag, its integer edges are reported as `OptionChange`."""

    ARRAYS = ("low", "high", "limits")
    LAYER = 1.5

    def build(self) -> None:
        self.region = self.add_item(pg.LinearRegionItem(swapMode="block"))
        self.region.sigRegionChanged.connect(self._moved)
        self.region.sigRegionChangeFinished.connect(self._released)
        self.report: Callable[[OptionChange], None] | None = None
        self._placing = False

    @property
    def dragged(self) -> bool:
        """Whether the window is being dragged."""
        return bool(self.region.moving or any(line.moving for line in self.region.lines))

    def place(self) -> None:
        mark: Span = self.mark
        self._low, self._high = (float(self.x(v)) for v in (mark.low, mark.high))
        if self.dragged:  # the edges follow the mouse, between integers
            return
        self._placing = True
        self.region.setBounds([float(self.x(v)) for v in mark.limits])
        self.region.setRegion((self._low, self._high))
        self._placing = False

    def paint(self, look: Look, scale: Scale | None) -> None:
        color = self.mark.color
        self.region.setBrush(make_brush(color, look, 22))
        self.region.setHoverBrush(make_brush(color, look, 40))
        for line in self.region.lines:
            line.setPen(make_pen(color, look, 1.4))
            line.setHoverPen(make_pen(color, look, 3))

    def bounds(self) -> Bounds:
        return bounds_of(np.array([self._low, self._high]), np.zeros(0))

    def hit(self, mouse: Mouse) -> Hit | None:
        mark: Span = self.mark
        distance = min(abs(mouse.x - self._low), abs(mouse.x - self._high)) / mouse.pixel_x
        if distance > REACH / 2:
            return None
        text = f"{mark.label or 'window'}: {number(mark.low)} … {number(mark.high)}  ·  drag to change"
        return Hit(REACH, mouse.x, mouse.y, text, None, point=False, cursor=Qt.CursorShape.SplitHCursor)

    def _moved(self) -> None:
        if self._placing or self.report is None or self.mark is None:
            return
        mark: Span = self.mark
        low, high = (round(float(from_drawn(v, self._logs[0]))) for v in self.region.getRegion())
        if (low, high) != (mark.low, mark.high):
            self.report(OptionChange(((mark.start, low), (mark.stop, high))))

    def _released(self) -> None:
        if not self._placing and self.mark is not None:
            self._moved()
            self.place()


def _runs(flags: npt.NDArray[np.bool_]) -> list[slice]:
    """Return the unbroken runs of true `flags`."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(int)))
    return [slice(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]
