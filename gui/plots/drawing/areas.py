"""Marks that cover a range of the panel: bands, histograms, lines across, and the window that can be dragged."""

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
from gui.plots.figure import Band, Rule, Setting, Span, Steps


class DrawnBand(Drawn):
    ARRAYS = ("x", "low", "high")
    LAYER = 1

    def build(self) -> None:
        self.area = self.own(PathItem())

    def place(self) -> None:
        mark: Band = self.mark
        self._x, self._low, self._high = self.x(mark.x), self.y(mark.low), self.y(mark.high)
        path = QPainterPath()
        whole = np.isfinite(self._x) & np.isfinite(self._low) & np.isfinite(self._high)
        for run in _runs(whole):
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
        self.area = self.own(PathItem())

    def place(self) -> None:
        mark: Steps = self.mark
        self._edges, self._height = self.x(mark.edges), self.y(mark.height)
        whole = np.isfinite(self._edges[:-1]) & np.isfinite(self._edges[1:]) & np.isfinite(self._height)
        # On a log axis the bars have no foot: they go down as far as anyone can pan.
        foot = -320.0 if self._logs[1] else 0.0
        fill, outline = QPainterPath(), QPainterPath()
        for run in _runs(whole):
            edges = self._edges[run.start : run.stop + 1]
            x = np.repeat(edges, 2)
            y = np.concatenate([[foot], np.repeat(self._height[run], 2), [foot]])
            path = pg.arrayToQPath(x, y, finiteCheck=False)
            outline.addPath(path)
            fill.addPath(path)
        self.area.set_path(fill, outline)

    def paint(self, look: Look, scale: Scale | None) -> None:
        self.area.set_look(make_pen(self.mark.color, look), make_brush(self.mark.color, look, 60))

    def bounds(self) -> Bounds:
        foot = np.zeros(0 if self._logs[1] else 1)
        return bounds_of(self._edges, np.concatenate([self._height, foot]))

    def hit(self, mouse: Mouse) -> Hit | None:
        mark: Steps = self.mark
        index = int(np.searchsorted(self._edges, mouse.x, side="right")) - 1
        if not 0 <= index < len(mark.height) or not mouse.y <= self._height[index] + REACH * mouse.pixel_y:
            return None
        assert self.panel is not None
        where = f"{number(mark.edges[index])} … {number(mark.edges[index + 1])}"
        text = f"{self.panel.x.label} {where}  ·  {self.panel.y.label} = {number(float(mark.height[index]))}"
        label = f"{mark.label}  ·  {text}" if mark.label else text
        return Hit(REACH, mouse.x, mouse.y, label, None, point=False)


class DrawnRule(Drawn):
    ARRAYS = ("axis", "at")
    LAYER = 2.5

    def build(self) -> None:
        self.line = self.own(pg.InfiniteLine())

    def style(self, mark: Rule, look: Look, scale: Scale | None) -> tuple[object, ...]:
        return (mark.color, mark.dash, look)

    def place(self) -> None:
        mark: Rule = self.mark
        at = float(self.x(mark.at) if mark.axis == "x" else self.y(mark.at))
        self._at = at
        self.line.setAngle(90 if mark.axis == "x" else 0)
        self.line.setPos(at if np.isfinite(at) else 0)

    def paint(self, look: Look, scale: Scale | None) -> None:
        self.line.setPen(make_pen(self.mark.color, look, 1.2, self.mark.dash))
        self.line.setOpacity(1.0 if np.isfinite(self._at) else 0.0)

    def bounds(self) -> Bounds:
        at, nothing = np.array([self._at]), np.zeros(0)
        return bounds_of(at, nothing) if self.mark.axis == "x" else bounds_of(nothing, at)

    def hit(self, mouse: Mouse) -> Hit | None:
        mark: Rule = self.mark
        gap = abs(mouse.x - self._at) / mouse.pixel_x if mark.axis == "x" else abs(mouse.y - self._at) / mouse.pixel_y
        if not mark.label or not gap <= REACH / 2:
            return None
        return Hit(REACH, mouse.x, mouse.y, f"{mark.label}  ·  {number(mark.at)}", None, point=False)


class DrawnSpan(Drawn):
    """The edges, or all of it, follow the mouse; whole numbers of the axis go out as a `Setting` on the way."""

    ARRAYS = ("low", "high", "limits")
    LAYER = 1.5

    def build(self) -> None:
        self.region = self.own(pg.LinearRegionItem(swapMode="block"))
        self.region.sigRegionChanged.connect(self._moved)
        self.region.sigRegionChangeFinished.connect(self._released)
        self.report: Callable[[Setting], None] | None = None
        self._placing = False

    @property
    def dragged(self) -> bool:
        """Whether the mouse holds it now."""
        return bool(self.region.moving or any(line.moving for line in self.region.lines))

    def place(self) -> None:
        mark: Span = self.mark
        self._low, self._high = (float(self.x(v)) for v in (mark.low, mark.high))
        if self.dragged:  # its edges are where the mouse is, between two whole numbers
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
        gap = min(abs(mouse.x - self._low), abs(mouse.x - self._high)) / mouse.pixel_x
        if gap > REACH / 2:
            return None
        text = f"{mark.label or 'window'}: {number(mark.low)} … {number(mark.high)}  ·  drag to change it"
        return Hit(REACH, mouse.x, mouse.y, text, None, point=False, cursor=Qt.CursorShape.SplitHCursor)

    def _moved(self) -> None:
        if self._placing or self.report is None or self.mark is None:
            return
        mark: Span = self.mark
        low, high = (round(float(from_drawn(v, self._logs[0]))) for v in self.region.getRegion())
        if (low, high) != (mark.low, mark.high):
            self.report(Setting(((mark.start, low), (mark.stop, high))))

    def _released(self) -> None:
        if not self._placing and self.mark is not None:
            self._moved()
            self.place()


def _runs(whole: npt.NDArray[np.bool_]) -> list[slice]:
    """Where `whole` is true without a break."""
    edge = np.flatnonzero(np.diff(np.concatenate([[False], whole, [False]]).astype(int)))
    return [slice(int(a), int(b)) for a, b in zip(edge[::2], edge[1::2], strict=True)]
