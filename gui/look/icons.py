"""The program's own icons: SVG outlines that take the colour of the text."""

from functools import cache

from PySide6.QtCore import QByteArray, Qt
from PySide6.QtGui import QIcon, QPainter, QPixmap
from PySide6.QtSvg import QSvgRenderer

from engine.resources import RESOURCES

SIZE = 48


@cache
def icon(name: str, color: str = "#5b626b") -> QIcon:
    """Return the icon ``resources/icons/<name>.svg`` with its outline in `color`."""
    svg = (RESOURCES / "icons" / f"{name}.svg").read_text("utf-8").replace("currentColor", color)
    pixmap = QPixmap(SIZE, SIZE)
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    QSvgRenderer(QByteArray(svg.encode())).render(painter)
    painter.end()
    return QIcon(pixmap)
