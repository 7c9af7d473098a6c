"""Colour scales from values to colours, and the colour bar."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QColor, QFontMetricsF, QImage, QPainter, QPen

from gui.plots import theme
from gui.plots.drawing.axes import Tick, ticks, to_drawn
from gui.plots.figure import Axis, Colormap, Figure, Image, Mark, Points

STEPS = 255


@dataclass(frozen=True)
class Scale:
    """A mapping from values to colours; `low` and `high` are drawn coordinates (log₁₀ with `log`)."""

    label: str
    low: float
    high: float
    colormap: Colormap = "sequential"
    log: bool = False

    def steps(self, values: npt.ArrayLike) -> npt.NDArray[np.uint8]:
        """Return colour steps 1 … 255 of values in data units; 0, the neutral colour, where undefined."""
        share = (to_drawn(values, self.log) - self.low) / ((self.high - self.low) or 1.0)
        finite = np.isfinite(share)
        steps = 1 + np.round(np.clip(np.where(finite, share, 0), 0, 1) * (STEPS - 1))
        return np.where(finite, steps, 0).astype(np.uint8)

    def colors(self, dark: bool) -> list[str]:
        """Return the 256 colours of the steps, the neutral one first."""
        rgb = theme.table(self.colormap, STEPS)
        return [theme.resolve("neutral", dark), *(f"#{r:02x}{g:02x}{b:02x}" for r, g, b in rgb.tolist())]


def _range(values: npt.NDArray[np.float64], diverging: bool) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    if not finite.size:
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    if diverging:
        high = max(abs(low), abs(high))
        low = -high
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def coloured(marks: Sequence[Mark]) -> list[Image | Points]:
    """Return the marks that need a colour scale."""
    return [m for m in marks if isinstance(m, Image) or (isinstance(m, Points) and m.values is not None)]


def scales_of(figure: Figure) -> dict[int, Scale]:
    """Return the colour scale of every coloured mark, by its id.

    That of a heatmap spans its limits or the range of its values, symmetric about zero if diverging; points coloured by
    the same quantity share one across the figure.
    """
    scales: dict[int, Scale] = {}
    clouds: dict[str, list[Points]] = {}
    for mark in (m for row in figure.rows for panel in row for m in coloured(panel.marks)):
        if isinstance(mark, Points):
            clouds.setdefault(mark.values_label, []).append(mark)
        elif mark.limits is not None:
            low, high = (float(v) for v in to_drawn(mark.limits, mark.log))
            scales[id(mark)] = Scale(mark.label, low, high, mark.colormap, mark.log)
        else:
            limits = _range(to_drawn(mark.z, mark.log), mark.colormap == "diverging" and not mark.log)
            scales[id(mark)] = Scale(mark.label, *limits, mark.colormap, mark.log)
    for label, group in clouds.items():
        values = np.concatenate([np.asarray(cloud.values, float) for cloud in group])
        scales.update({id(cloud): Scale(label, *_range(values, diverging=False)) for cloud in group})
    return scales


class ColorBar:
    """A vertical bar with ticks and the label on its right."""

    GAP, WIDTH = 12.0, 12.0

    def __init__(self, scale: Scale) -> None:
        self.scale = scale
        self.axis = Axis(scale.label, log=scale.log)

    def _ticks(self, height: float, metrics: QFontMetricsF) -> list[Tick]:
        return ticks(self.axis, self.scale.low, self.scale.high, int(height / (2.5 * metrics.height())))

    def width(self, height: float, metrics: QFontMetricsF) -> float:
        text = max((metrics.horizontalAdvance(t.text) for t in self._ticks(height, metrics)), default=0.0)
        label = metrics.height() + 4 if self.scale.label else 0.0
        return self.GAP + self.WIDTH + 6 + text + label

    def paint(self, painter: QPainter, rect: QRectF, dark: bool) -> None:
        """Paint into `rect`, which has the height of the panel and the width returned by `width`."""
        bar = QRectF(rect.left() + self.GAP, rect.top(), self.WIDTH, rect.height())
        colors = self.scale.colors(dark)[:0:-1]
        strip = QImage(1, STEPS, QImage.Format.Format_RGB32)
        for row, color in enumerate(colors):
            strip.setPixelColor(0, row, QColor(color))
        painter.drawImage(bar, strip)
        line, ink = QPen(QColor(theme.resolve("axis", dark)), 1), QColor(theme.resolve("ink", dark))
        painter.setPen(line)
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawRect(bar)
        metrics = QFontMetricsF(painter.font())
        span = (self.scale.high - self.scale.low) or 1.0
        for tick in self._ticks(rect.height(), metrics):
            y = bar.bottom() - (tick.at - self.scale.low) / span * bar.height()
            painter.setPen(line)
            painter.drawLine(QPointF(bar.right(), y), QPointF(bar.right() + (4 if tick.text else 2), y))
            painter.setPen(ink)
            painter.drawText(
                QRectF(bar.right() + 6, y - 10, 200, 20),
                Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter,
                tick.text,
            )
        if self.scale.label:
            painter.save()
            painter.translate(rect.right() - metrics.height(), rect.bottom())
            painter.rotate(-90)
            text = metrics.elidedText(self.scale.label, Qt.TextElideMode.ElideRight, rect.height())
            painter.drawText(QRectF(0, 0, rect.height(), metrics.height()), Qt.AlignmentFlag.AlignCenter, text)
            painter.restore()
