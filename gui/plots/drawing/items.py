"""Two graphics items for which pyqtgraph has no lean equivalent: a filled path, and a heatmap with any edges."""

from collections.abc import Sequence
from math import isfinite

import numpy as np
import numpy.typing as npt
import pyqtgraph as pg
from PySide6.QtCore import QRectF
from PySide6.QtGui import QBrush, QColor, QImage, QPainter, QPainterPath, QPen

EXPORT_PIXELS = 2000
"""Exported heatmaps are enlarged to about this many pixels, because viewers blur small images."""


class PathItem(pg.GraphicsObject):
    """A path with one pen and one brush."""

    def __init__(self) -> None:
        super().__init__()
        self.path = QPainterPath()
        self.pen: QPen | None = None
        self.brush: QBrush | None = None
        self.outline = QPainterPath()

    def set_path(self, fill: QPainterPath, outline: QPainterPath | None = None) -> None:
        """Set the path filled by the brush and, if given, the one stroked by the pen."""
        self.prepareGeometryChange()
        self.path, self.outline = fill, outline or QPainterPath()
        self.update()

    def set_look(self, pen: QPen | None, brush: QBrush | None) -> None:
        self.pen, self.brush = pen, brush
        self.update()

    def boundingRect(self) -> QRectF:
        return self.path.boundingRect().united(self.outline.boundingRect())

    def paint(self, painter: QPainter, *_: object) -> None:
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        if self.brush is not None:
            painter.fillPath(self.path, self.brush)
        if self.pen is not None:
            painter.strokePath(self.outline, self.pen)


class HeatItem(pg.GraphicsObject):
    """An image of colour steps between edges in drawn coordinates; cells with a non-finite edge are not drawn."""

    def __init__(self) -> None:
        super().__init__()
        self._steps = np.zeros((0, 0), np.uint8)
        self._x = self._y = np.zeros(0)
        self._tiles: list[tuple[slice, slice]] = []
        self._colors: list[int] = []
        self._image: QImage | None = None

    def set_steps(self, steps: npt.NDArray[np.uint8], x_edges: np.ndarray, y_edges: np.ndarray) -> None:
        """Set the colour steps (rows, columns) with the edges of columns and rows."""
        self.prepareGeometryChange()
        self._steps, self._x, self._y = np.ascontiguousarray(steps), x_edges, y_edges
        self._tiles = [(rows, columns) for rows in _even_runs(y_edges) for columns in _even_runs(x_edges)]
        self._image = None
        self.update()

    def set_colors(self, colors: Sequence[QColor]) -> None:
        """Set the colours of steps 0 … 255."""
        self._colors = [color.rgba() for color in colors]
        self._image = None
        self.update()

    def boundingRect(self) -> QRectF:
        x, y = self._x[np.isfinite(self._x)], self._y[np.isfinite(self._y)]
        if not (x.size and y.size):
            return QRectF()
        return QRectF(x.min(), y.min(), np.ptp(x), np.ptp(y))

    def _render(self, enlarge: int) -> QImage:
        steps = self._steps.repeat(enlarge, 0).repeat(enlarge, 1) if enlarge > 1 else self._steps
        rows, columns = steps.shape
        indexed = QImage(steps.data, columns, rows, columns, QImage.Format.Format_Indexed8)
        indexed.setColorTable(self._colors)
        opaque = all(color >> 24 == 255 for color in self._colors)
        return indexed.convertToFormat(
            QImage.Format.Format_RGB32 if opaque else QImage.Format.Format_ARGB32_Premultiplied
        )

    def paint(self, painter: QPainter, *_: object) -> None:
        if not (self._steps.size and self._colors):
            return
        exporting = self._exportOpts is not False
        enlarge = min(8, max(1, EXPORT_PIXELS // max(self._steps.shape))) if exporting else 1
        if exporting or self._image is None:
            self._image = self._render(enlarge)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing, False)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform, False)
        for rows, columns in self._tiles:
            x0, x1 = self._x[columns.start], self._x[columns.stop]
            y0, y1 = self._y[rows.start], self._y[rows.stop]
            image = self._image
            if len(self._tiles) > 1:  # a copy, because the SVG generator ignores the source rectangle
                image = image.copy(
                    enlarge * columns.start,
                    enlarge * rows.start,
                    enlarge * (columns.stop - columns.start),
                    enlarge * (rows.stop - rows.start),
                )
            painter.drawImage(QRectF(x0, y0, x1 - x0, y1 - y0), image)
        if exporting:
            self._image = None


def _even_runs(edges: np.ndarray) -> list[slice]:
    """Return runs of cells of equal size, each drawn as one image."""
    size = np.diff(edges).tolist()
    runs: list[slice] = []
    start = 0
    for cell in range(1, len(size) + 1):
        if cell == len(size) or not abs(size[cell] - size[start]) <= 1e-6 * abs(size[start]):
            if isfinite(size[start]):
                runs.append(slice(start, cell))
            start = cell
    return runs
