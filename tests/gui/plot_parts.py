"""What the tests of the renderer share: short figures, and the way from data to pixels and clicks."""

import numpy as np
from PySide6.QtCore import QEvent, QPoint, QPointF, Qt
from PySide6.QtGui import QMouseEvent
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication

from gui.plots.figure import Axis, Figure, Panel


def one(*marks, x=None, y=None, **panel):
    return Figure(((Panel(x or Axis("x"), y or Axis("y"), marks, **panel),),))


def panel(widget, row=0, column=0):
    return widget.canvas._panels[row, column]


def place(widget, x, y, row=0, column=0):
    """The pixel of the canvas where a panel shows data coordinates."""
    item = panel(widget, row, column)
    drawn = [np.log10(v) if item.axis(s).log else v for s, v in (("x", x), ("y", y))]
    point = item.view.mapViewToScene(QPointF(*drawn))
    return QPoint(round(point.x()), round(point.y()))


def color_at(widget, x, y, **where):
    return widget.canvas.grab().toImage().pixelColor(place(widget, x, y, **where)).name()


def click(widget, at):
    QTest.mouseClick(widget.canvas.viewport(), Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, at)


def hover(widget, at):
    widget.canvas._mouse_moved(QPointF(at))
    return widget.readout.text()


def drag(widget, start, *stops):
    """Press at `start`, move through `stops` with the left button down, and let go at the last."""
    viewport = widget.canvas.viewport()
    left, none = Qt.MouseButton.LeftButton, Qt.MouseButton.NoButton

    def send(kind, at, button, buttons):
        at = QPointF(at)
        QApplication.sendEvent(
            viewport, QMouseEvent(kind, at, viewport.mapToGlobal(at), button, buttons, Qt.KeyboardModifier.NoModifier)
        )

    send(QEvent.Type.MouseMove, start, none, none)
    send(QEvent.Type.MouseButtonPress, start, left, left)
    for stop in stops:
        send(QEvent.Type.MouseMove, stop, none, left)
        QTest.qWait(15)  # the scene passes over moves that come faster than a screen shows
    send(QEvent.Type.MouseButtonRelease, stops[-1], left, none)
