"""What the mouse and the keys do on a plot: picks, readings, zoom and reset."""

import numpy as np
import pytest
from demo_figures import RANK, grid, heatmap, mixed
from plot_parts import click, hover, one, panel, place
from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtGui import QWheelEvent
from PySide6.QtWidgets import QApplication

from gui.plots.figure import Axis, Line, Points
from gui.plots.figure_widget import FigureWidget
from gui.plots.selection import Pick


@pytest.fixture
def widget(qtbot):
    widget = FigureWidget()
    qtbot.addWidget(widget)
    widget.resize(900, 600)
    widget.show()
    widget.set_theme(False)
    return widget


def test_clicks_pick_points_cells_lines_and_panels(qtbot, widget):
    picked = []
    widget.picked.connect(picked.append)
    figure = mixed()
    widget.show_figure(figure)
    points = figure.rows[0][0].marks[0]
    click(widget, place(widget, points.x[20], points.y[20]))
    click(widget, place(widget, 1.5, 10, column=1))
    assert picked == [points.picks[20], Pick(model=1)]
    picked.clear()
    widget.show_figure(heatmap())
    click(widget, place(widget, 7, 11))
    assert picked == [Pick(layer=11, head=7)]
    picked.clear()
    widget.show_figure(grid(4, 2))
    item = panel(widget, 1, 0)
    click(widget, item.mapRectToScene(item.plot).topRight().toPoint() + QPoint(-8, 8))
    title = item.mapRectToScene(item.plot).topLeft().toPoint() + QPoint(40, -8)
    click(widget, title)
    assert picked == [Pick(head=2), Pick(head=2)]


def test_what_cannot_be_clicked_does_not_stand_in_the_way(qtbot, widget):
    picked = []
    widget.picked.connect(picked.append)
    heads = Points(np.array([1.0, 2.0]), np.array([1.0, 1.0]), picks=(Pick(head=0), Pick(head=1)), hover=("a", "b"))
    ring = Points(np.array([2.0]), np.array([1.0]), "selected", "ink", size=15, filled=False)
    mean = Line(np.array([0.0, 1.01, 3]), np.array([1.0, 1.001, 1]), "mean")
    widget.show_figure(one(heads, mean, ring, y=Axis("y", limits=(0, 2))))
    assert hover(widget, place(widget, 2, 1)) == "b"
    click(widget, place(widget, 2, 1))
    click(widget, place(widget, 1.01, 1.001))
    assert picked == [Pick(head=1), Pick(head=0)]


def test_hover_reads_values_in_data_units(widget):
    told = []
    widget.hovered.connect(told.append)
    line = Line(np.array([1.0, 2, 3]), np.array([1e-3, 10.0, 1e5]), "this head", hover=("a", "b", "λ₃ = 1e5"))
    plain = Points(np.array([1.5]), np.array([100.0]), "points", values=np.array([7.0]), values_label="layer")
    widget.show_figure(one(line, plain, x=Axis("index k"), y=Axis("λ", log=True)))
    assert hover(widget, place(widget, 3, 1e5)) == "this head  ·  λ₃ = 1e5"
    assert widget.canvas._ring.isVisible()
    assert hover(widget, place(widget, 1.5, 100)) == "points  ·  index k = 1.5  ·  λ = 100  ·  layer = 7"
    text = hover(widget, place(widget, 2.5, 0.1))
    assert text.startswith("index k = 2.")
    assert float(text.split("λ = ")[1]) == pytest.approx(0.1, rel=0.1)
    assert not widget.canvas._ring.isVisible()
    assert hover(widget, QPoint(1, 1)) == ""
    assert told[-1] == ""


def test_hover_reads_cells(widget):
    figure = heatmap()
    widget.show_figure(figure)
    z = figure.rows[0][0].marks[0].z
    assert hover(widget, place(widget, 4, 9)) == f"head = 4  ·  layer = 9  ·  λₖ = {z[9, 4]:.4g}"
    assert hover(widget, place(widget, 2, 1)).endswith("λₖ = no value")


def test_the_wheel_zooms_and_a_double_click_resets(qtbot, widget):
    widget.show_figure(one(Line(RANK, RANK)))
    view = panel(widget).view
    before = view.viewRange()
    at = QPointF(place(widget, 32, 32))
    wheel = QWheelEvent(
        at,
        widget.canvas.mapToGlobal(at),
        QPoint(),
        QPoint(0, 240),
        Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier,
        Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    QApplication.sendEvent(widget.canvas.viewport(), wheel)
    after = view.viewRange()
    assert all(b[1] - b[0] < a[1] - a[0] for a, b in zip(before, after, strict=True))
    assert widget.canvas.zoomed
    viewport = widget.canvas.viewport()
    for event in (qtbot.mouseClick, qtbot.mouseDClick, qtbot.mouseRelease):
        event(viewport, Qt.MouseButton.LeftButton, pos=at.toPoint())
    np.testing.assert_allclose(view.viewRange(), before)
    assert not widget.canvas.zoomed


def test_arrow_keys_are_left_to_the_window(qtbot, widget):
    widget.show_figure(one(Line(RANK, RANK)))
    pressed = []
    widget.keyPressEvent = lambda event: pressed.append(event.key())
    before = panel(widget).view.viewRange()
    qtbot.keyClick(widget.canvas, Qt.Key.Key_Right)
    assert pressed == [Qt.Key.Key_Right]
    assert panel(widget).view.viewRange() == before


def test_help_is_asked_for(qtbot, widget):
    with qtbot.waitSignal(widget.help_requested):
        qtbot.mouseClick(widget._buttons["help"], Qt.MouseButton.LeftButton)
