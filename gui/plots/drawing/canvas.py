"""The canvas: lays out the panels of a figure, links equal axes, and turns mouse events into picks and readouts."""

from collections.abc import Iterator
from math import ceil

import numpy as np
import pyqtgraph as pg
from PySide6.QtCore import QEvent, QPoint, QPointF, QRectF, Qt, Signal
from PySide6.QtGui import QColor, QFont, QFontInfo, QFontMetricsF, QKeyEvent, QPainter, QPen, QResizeEvent
from PySide6.QtWidgets import QGraphicsEllipseItem, QGraphicsWidget, QWidget

from gui.plots import theme
from gui.plots.drawing.drawn import Look, named
from gui.plots.drawing.legend import Legend
from gui.plots.drawing.marks import DENSE, DrawnPoints
from gui.plots.drawing.panel import PanelItem, paint_label
from gui.plots.drawing.scale import ColorBar, coloured, scales_of
from gui.plots.figure import Axis, Figure, Panel

MARGIN, COLUMN_GAP, ROW_GAP = 10.0, 14.0, 10.0
WRAP = Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop | Qt.TextFlag.TextWordWrap
Place = tuple[int, int]


class _Root(QGraphicsWidget):
    """Fills the canvas and paints everything outside the panels."""

    def __init__(self, canvas: "Canvas") -> None:
        super().__init__()
        self.canvas = canvas

    def paint(self, painter: QPainter, option: object, widget: object = None) -> None:
        self.canvas.paint_frame(painter)


class Canvas(pg.GraphicsView):
    """Shows one `Figure`. Panels and their items are reused from one figure to the next."""

    picked = Signal(object)
    hovered = Signal(str)
    dragged = Signal(object)
    menu_requested = Signal(QPoint)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent, background=None)
        self.figure = Figure()
        self.look = Look()
        self.hidden: set[str] = set()
        self.zoomed = False
        self._panels: dict[Place, PanelItem] = {}
        self._groups: dict[tuple[str, Axis], list[PanelItem]] = {}
        self._legend = Legend(())
        self._bar: ColorBar | None = None
        self._bar_rect = QRectF()
        self._grid = QRectF()
        self._note = QRectF()
        self._left_margins: dict[int, float] = {}
        self._shared: dict[str, bool] = {"x": False, "y": False}
        self._set_fonts()
        self._root = _Root(self)
        self.setCentralItem(self._root)
        self._ring = QGraphicsEllipseItem(-7, -7, 14, 14)
        self._ring.setZValue(1e6)
        self._ring.setAcceptedMouseButtons(Qt.MouseButton.NoButton)
        self._ring.hide()
        self.scene().addItem(self._ring)
        self.scene().sigMouseMoved.connect(self._mouse_moved)
        self.scene().sigMouseClicked.connect(self._mouse_clicked)
        self._set_background()

    # Figures

    def show_figure(self, figure: Figure) -> None:
        """Draw `figure`, reusing the items drawn; the zoom stays if the axes are unchanged."""
        previous = {place: (p.spec.x, p.spec.y) for place, p in self._panels.items() if p.spec}
        self.figure = figure
        self._legend = Legend(m for _, p in self._places() for m in p.marks) if figure.legend else Legend(())
        for place in [p for p in self._panels if p not in dict(self._places())]:
            self._remove(place)
        self._ring.hide()
        self._draw()
        if {place: (p.x, p.y) for place, p in self._places()} != previous:
            self.zoomed = False
        self._left_margins = {}
        self._fit(force=False)
        self.arrange()

    def set_look(self, look: Look) -> None:
        if look != self.look:
            self.look = look
            self._set_background()
            self._draw()
            self._root.update()

    def toggle(self, label: str) -> None:
        """Hide or show all marks labelled `label`, in later figures too."""
        self.hidden ^= {label}
        for item in self._panels.values():
            for drawn in item.marks:
                drawn.set_visible(not self._is_hidden(drawn.mark.label))
        self._ring.hide()
        self._root.update()

    def reset(self) -> None:
        """Return to the range that shows everything."""
        self.zoomed = False
        self._left_margins = {}
        self._fit(force=True)
        self.arrange()

    def hide_ring(self) -> None:
        """Hide the ring around the point under the mouse."""
        self._ring.hide()

    def _is_hidden(self, label: str) -> bool:
        return self.figure.legend and bool(label) and label in self.hidden

    def _places(self) -> Iterator[tuple[Place, Panel]]:
        if not self.figure.empty:
            for r, row in enumerate(self.figure.rows):
                for c, panel in enumerate(row):
                    yield (r, c), panel

    def _remove(self, place: Place) -> None:
        item = self._panels.pop(place)
        item.moved.disconnect(self._panel_moved)
        item.dragged.disconnect(self.dragged)
        self.scene().removeItem(item)
        item.deleteLater()

    def _draw(self) -> None:
        """Draw the marks, colours and labels of every panel."""
        places = dict(self._places())
        scales = scales_of(self.figure)
        first = {place: next((scales[id(m)] for m in coloured(p.marks)), None) for place, p in places.items()}
        bars = [scale for scale in first.values() if scale is not None]
        shared = bars[0] if len(bars) > 1 and all(b == bars[0] for b in bars) else None
        self._bar = ColorBar(shared) if shared is not None else None
        hidden = self.hidden if self.figure.legend else set()
        self._groups = {}
        for (r, c), panel in places.items():
            item = self._panels.get((r, c))
            if item is None:
                item = self._panels[r, c] = PanelItem(self._root, self._small)
                item.moved.connect(self._panel_moved)
                item.dragged.connect(self.dragged)
            item.show_panel(panel, self.look, scales, None if shared else first[r, c], tuple(hidden))
            below, beside = places.get((r + 1, c)), places.get((r, c - 1))
            item.tick_labels = {
                "x": not panel.x.bare and not (below and below.x == panel.x),
                "y": not panel.y.bare and not (beside and beside.y == panel.y),
            }
            self._groups.setdefault(("x", panel.x), []).append(item)
            self._groups.setdefault(("y", panel.y), []).append(item)
        # Panels with equal axes share one range; if all are equal, one label serves the whole figure.
        for side, across in (("x", 1), ("y", 0)):
            alike = len({getattr(p, side) for p in places.values()}) == 1
            self._shared[side] = alike and len({place[across] for place in places}) > 1
            for item in self._panels.values():
                item.labels[side] = item.tick_labels[side] and not self._shared[side]

    # Ranges

    def _fit(self, force: bool) -> None:
        if self.zoomed:
            return
        ranges: dict[tuple[str, Axis], tuple[float, float]] = {}
        for (side, axis), items in self._groups.items():
            extents = np.array([item.data_range("x" if side == "x" else "y") for item in items])
            finite = np.isfinite(extents).all(axis=1)
            low, high = (extents[finite, 0].min(), extents[finite, 1].max()) if finite.any() else (np.nan, np.nan)
            ranges[side, axis] = items[0].padded("x" if side == "x" else "y", float(low), float(high))
        for item in self._panels.values():
            item.set_home(ranges["x", item.axis("x")], ranges["y", item.axis("y")], force)

    def _panel_moved(self, moved: PanelItem) -> None:
        """Move all panels that share an axis together."""
        self.zoomed = True
        self._ring.hide()
        for index, side in enumerate(("x", "y")):
            low, high = moved.view.viewRange()[index]
            for item in self._groups[side, moved.axis("x" if side == "x" else "y")]:
                if item is not moved and item.view.viewRange()[index] != [low, high]:
                    item.set_range("x" if side == "x" else "y", low, high)
        self.arrange()

    # Layout

    def _set_fonts(self) -> None:
        # Sizes are in pixels: in points, the text of a PDF would be scaled twice
        size = max(11, QFontInfo(self.font()).pixelSize())
        self._small, self._title = QFont(self.font()), QFont(self.font())
        self._small.setPixelSize(size)
        self._title.setPixelSize(size + 2)
        self._title.setWeight(QFont.Weight.DemiBold)

    def arrange(self) -> None:
        """Lay out title, legend, panels, colour bar and note."""
        for _ in range(3):  # margins depend on the ticks, and the ticks on the size that the margins leave
            if not self._arrange():
                break
        self._root.update()

    def _arrange(self) -> bool:
        small, title = QFontMetricsF(self._small), QFontMetricsF(self._title)
        area = QRectF(0, 0, self.width(), self.height()).adjusted(MARGIN, MARGIN - 2, -MARGIN, -MARGIN + 2)
        if self.figure.title:
            area.setTop(area.top() + title.height() + 6)
        if used := self._legend.arrange(area, small):
            area.setTop(area.top() + used + 4)
        self._note = QRectF()
        if note := self._note_text():
            height = small.boundingRect(QRectF(0, 0, area.width(), 1000), int(WRAP), note).height()
            self._note = QRectF(area.left(), area.bottom() - height, area.width(), height)
            area.setBottom(area.bottom() - height - 5)
        if not self._panels:
            self._grid = area
            return False
        rows = 1 + max(r for r, _ in self._panels)
        columns = 1 + max(c for _, c in self._panels)
        line = small.height() + 4
        if self._shared["x"]:
            area.setBottom(area.bottom() - line)
        if self._shared["y"]:
            area.setLeft(area.left() + line)
        lefts, rights, tops, bottoms = np.zeros(columns), np.zeros(columns), np.zeros(rows), np.zeros(rows)
        for (r, c), item in self._panels.items():
            lefts[c] = max(lefts[c], item.left_margin())
            rights[c] = max(rights[c], item.right_margin(max(item.plot.height(), 50)))
            tops[r] = max(tops[r], item.top_margin())
            bottoms[r] = max(bottoms[r], item.bottom_margin())
        for c in range(columns):  # margins only grow while panning, so that the plot does not jitter
            lefts[c] = self._left_margins[c] = max(self._left_margins.get(c, 0.0), 4 * ceil(lefts[c] / 4))
        if self._bar:
            bar = self._bar.width(max(self._grid.height(), 50), small)
            area.setRight(area.right() - bar)
        if not rights[-1]:
            rights[-1] = 8.0  # half the width of the last tick label
        width = (area.width() - lefts.sum() - rights.sum() - COLUMN_GAP * (columns - 1)) / columns
        height = (area.height() - tops.sum() - bottoms.sum() - ROW_GAP * (rows - 1)) / rows
        width, height = max(width, 4.0), max(height, 4.0)
        self._grid = area
        changed = False
        for (r, c), item in self._panels.items():
            x = area.left() + lefts[: c + 1].sum() + rights[:c].sum() + c * (width + COLUMN_GAP)
            y = area.top() + tops[: r + 1].sum() + bottoms[:r].sum() + r * (height + ROW_GAP)
            plot = QRectF(round(x), round(y), round(width), round(height))
            outer = plot.adjusted(-lefts[c], -tops[r], rights[c], bottoms[r])
            changed |= item.plot.size() != plot.size()
            item.place(outer, plot)
        top = area.top() + tops[0]
        self._bar_rect = QRectF(
            area.right(), top, self.width() - MARGIN - area.right(), area.bottom() - bottoms[-1] - top
        )
        return changed

    def heading_height(self) -> int:
        """Return the height of title and note without panels, in pixels."""
        small, title = QFontMetricsF(self._small), QFontMetricsF(self._title)
        room = QRectF(0, 0, self.width() - 2 * MARGIN, 1000)
        note = small.boundingRect(room, int(WRAP), self._note_text()).height() if self._note_text() else 0
        return ceil(2 * MARGIN + (title.height() + 6 if self.figure.title else 0) + note)

    def _note_text(self) -> str:
        dense = any(isinstance(d, DrawnPoints) and d.dense for p in self._panels.values() for d in p.marks)
        dense_note = f"More than {DENSE:,} points are drawn as an image of their counts." if dense else ""
        return "  ·  ".join(filter(None, (self.figure.note, dense_note)))

    # Painting

    def _set_background(self) -> None:
        self.setBackgroundBrush(QColor(theme.resolve("background", self.look.dark)))
        self._ring.setPen(QPen(QColor(theme.resolve("ink", self.look.dark)), 1.6))

    def paint_frame(self, painter: QPainter) -> None:
        """Paint title, legend, shared labels, shared colour bar and note, or the text of an empty figure."""
        ink = QColor(theme.resolve("ink", self.look.dark))
        small, title = QFontMetricsF(self._small), QFontMetricsF(self._title)
        wide = QRectF(MARGIN, MARGIN - 2, self.width() - 2 * MARGIN, title.height() + 2)
        painter.setFont(self._title)
        painter.setPen(ink)
        text = title.elidedText(self.figure.title, Qt.TextElideMode.ElideRight, wide.width())
        painter.drawText(wide, Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter, text)
        painter.setFont(self._small)
        quiet = QColor(theme.resolve("axis", self.look.dark))
        if self.figure.empty:
            painter.setPen(quiet)
            plain = QFont(self._title)
            plain.setWeight(QFont.Weight.Normal)
            painter.setFont(plain)
            box = QRectF(0, 0, self.width(), self.height()).adjusted(40, 40, -40, -40)
            painter.drawText(box, Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap, self.figure.empty)
            return
        self._legend.paint(painter, self.look.dark, self.hidden)
        painter.setPen(quiet)
        painter.drawText(self._note, WRAP, self._note_text())
        painter.setPen(ink)
        if self._panels and self._shared["x"]:
            below = QRectF(self._grid.left(), self._grid.bottom() + 1, self._grid.width(), small.height() + 2)
            paint_label(painter, next(iter(self._panels.values())).axis("x").label, below)
        if self._panels and self._shared["y"]:
            beside = QRectF(MARGIN, self._grid.top(), small.height() + 2, self._grid.height())
            paint_label(painter, next(iter(self._panels.values())).axis("y").label, beside, upright=True)
        if self._bar:
            self._bar.paint(painter, self._bar_rect, self.look.dark)

    # Events

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        super().resizeEvent(event)
        if hasattr(self, "_ring"):
            self._left_margins = {}
            self.arrange()

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() == QEvent.Type.FontChange and hasattr(self, "_ring"):
            self._set_fonts()
            for item in self._panels.values():
                item.set_font(self._small)
            self.arrange()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Leave all keys to the window, whose arrow keys step through layers and heads."""
        event.ignore()

    def leaveEvent(self, event: QEvent) -> None:
        super().leaveEvent(event)
        self._ring.hide()
        self.hovered.emit("")

    def _mouse_moved(self, place: QPointF) -> None:
        if label := self._legend.label_at(place):
            self.setCursor(Qt.CursorShape.PointingHandCursor)
            self._ring.hide()
            self.hovered.emit(f"{label}: click to {'show' if label in self.hidden else 'hide'}")
            return
        text, cursor = "", Qt.CursorShape.ArrowCursor
        self._ring.hide()
        for item in self._panels.values():
            if (mouse := item.mouse(place)) is None:
                continue
            assert item.spec is not None
            hit = item.hit(mouse)
            if item.spec.pick is not None or item.hit(mouse, to_pick=True) is not None:
                cursor = Qt.CursorShape.PointingHandCursor
            elif hit is not None and hit.cursor is not None:
                cursor = hit.cursor
            title = f"{item.spec.title}  ·  " if item.spec.title and len(self._panels) > 1 else ""
            if hit is None:
                text = f"{title}{named(item.spec.x, mouse.x)}  ·  {named(item.spec.y, mouse.y)}"
            else:
                text = f"{title}{hit.text}"
                if hit.point:
                    self._ring.setPos(item.view.mapViewToScene(QPointF(hit.x, hit.y)))
                    self._ring.show()
            break
        self.setCursor(cursor)
        self.hovered.emit(text)

    def _mouse_clicked(self, event: "pg.GraphicsScene.mouseEvents.MouseClickEvent") -> None:
        place = event.scenePos()
        if event.button() == Qt.MouseButton.RightButton:
            self.menu_requested.emit(event.screenPos().toPoint())
        elif event.button() != Qt.MouseButton.LeftButton:
            return
        elif label := self._legend.label_at(place):
            self.toggle(label)
        elif event.double():
            self.reset()
        else:
            for item in self._panels.values():
                if item.spec and item.geometry().contains(place):
                    mouse = item.mouse(place)
                    hit = item.hit(mouse, to_pick=True) if mouse else None
                    pick = hit.pick if hit else item.spec.pick
                    if pick is not None:
                        self.picked.emit(pick)
                    break
