"""The legend: a strip of entries above the panels; clicking an entry hides or shows its marks."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QColor, QFontMetricsF, QPainter, QPen

from gui.plots import theme
from gui.plots.figure import Band, Boxes, Image, Line, Mark, Points, Segments, Span, Steps

SWATCH, GAP, BETWEEN = 22.0, 6.0, 18.0


@dataclass
class Entry:
    label: str
    marks: list[Mark]
    rect: QRectF = field(default_factory=QRectF)


class Legend:
    """Entries in the order of the marks."""

    def __init__(self, marks: Iterable[Mark]) -> None:
        entries: dict[str, Entry] = {}
        for mark in marks:
            if mark.label and not isinstance(mark, Image):
                entry = entries.setdefault(mark.label, Entry(mark.label, []))
                if type(mark) not in map(type, entry.marks):
                    entry.marks.append(mark)
        self.entries = list(entries.values())

    def arrange(self, place: QRectF, metrics: QFontMetricsF) -> float:
        """Lay out the entries in lines from the top left of `place`; return their total height."""
        line = metrics.height() + 4
        x, y = place.left(), place.top()
        for entry in self.entries:
            width = min(SWATCH + GAP + metrics.horizontalAdvance(entry.label) + 2, place.width())
            if x + width > place.right() and x > place.left():
                x, y = place.left(), y + line
            entry.rect = QRectF(x, y, width, line)
            x += width + BETWEEN
        return y + line - place.top() if self.entries else 0.0

    def label_at(self, point: QPointF) -> str | None:
        """Return the label of the entry under `point`."""
        return next((e.label for e in self.entries if e.rect.contains(point)), None)

    def paint(self, painter: QPainter, dark: bool, hidden: set[str]) -> None:
        metrics = QFontMetricsF(painter.font())
        for entry in self.entries:
            shown = entry.label not in hidden
            painter.setOpacity(1.0 if shown else 0.4)
            swatch = QRectF(entry.rect.left(), entry.rect.top(), SWATCH, entry.rect.height())
            for mark in sorted(entry.marks, key=lambda m: not isinstance(m, Band | Span | Steps | Boxes)):
                _swatch(painter, mark, swatch, dark)
            painter.setPen(QColor(theme.resolve("ink", dark)))
            text = entry.rect.adjusted(SWATCH + GAP, 0, 0, 0)
            label = metrics.elidedText(entry.label, Qt.TextElideMode.ElideRight, text.width())
            painter.drawText(text, Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter, label)
            if not shown:
                y = text.center().y()
                painter.drawLine(QPointF(text.left(), y), QPointF(text.right(), y))
        painter.setOpacity(1.0)


def _swatch(painter: QPainter, mark: Mark, rect: QRectF, dark: bool) -> None:
    assert not isinstance(mark, Image)
    painter.save()
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    color = QColor(theme.resolve(mark.color, dark))
    if isinstance(mark, Points) and mark.values is not None:
        color = QColor(*theme.table("sequential", 3)[1].tolist())
    middle = rect.center()
    pale = QColor(color)
    pale.setAlpha(70)
    if isinstance(mark, Band | Span):
        painter.fillRect(rect.adjusted(0, 4, 0, -4), pale)
    elif isinstance(mark, Steps | Boxes):
        painter.setPen(QPen(color, 1))
        painter.setBrush(pale)
        painter.drawRect(rect.adjusted(5.5, 4.5, -5.5, -4.5))
        if isinstance(mark, Boxes):
            painter.setPen(QPen(color, 2))
            painter.drawLine(QPointF(rect.left() + 6, middle.y()), QPointF(rect.right() - 6, middle.y()))
    elif isinstance(mark, Points):
        painter.setPen(Qt.PenStyle.NoPen if mark.filled else QPen(color, 1.6))
        painter.setBrush(color if mark.filled else Qt.BrushStyle.NoBrush)
        painter.drawEllipse(middle, *([3.5, 3.5] if mark.filled else [5.0, 5.0]))
    else:
        pen = QPen(color, mark.width if isinstance(mark, Line) else 1.2)
        pen.setCapStyle(Qt.PenCapStyle.FlatCap)
        if not isinstance(mark, Segments) and mark.dash:
            pen.setDashPattern([4, 3])
        painter.setPen(pen)
        painter.drawLine(QPointF(rect.left(), middle.y()), QPointF(rect.right(), middle.y()))
        if isinstance(mark, Line) and mark.markers:
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(color)
            painter.drawEllipse(middle, 3, 3)
    painter.restore()
