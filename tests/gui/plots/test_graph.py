"""Graphs: pieces between nodes of their own sizes on axes without numbers, on the screen and in every export."""

import csv
import subprocess
import sys

import numpy as np
import pytest
from plot_parts import color_at, one, panel
from PySide6.QtWidgets import QApplication

from gui.plots.export.numbers import write_csv
from gui.plots.export.script import write_script
from gui.plots.figure import Axis, Points, Segments
from gui.plots.figure_widget import FigureWidget

EDGES = Segments(np.array([[0.0, 4.0], [np.nan, 2.0]]), np.array([[0.0, 0.0], [0.0, 3.0]]), "edges", "ink")
NODES = Points(np.array([0.0, 4.0, 2.0]), np.array([0.0, 0.0, 3.0]), "nodes", "c1", size=np.array([30.0, 8.0, 8.0]))
BARE = {"x": Axis("", bare=True), "y": Axis("", bare=True)}


@pytest.fixture
def widget(qtbot):
    widget = FigureWidget()
    qtbot.addWidget(widget)
    widget.resize(800, 600)
    widget.show()
    widget.set_theme(False)
    widget.show_figure(one(EDGES, NODES, **BARE))
    QApplication.processEvents()
    return widget


def test_a_piece_is_drawn_between_its_ends_and_one_without_an_end_is_not(widget):
    picture = widget.canvas.grab().toImage()
    item = panel(widget)
    row = round(item.view.mapViewToScene(item.view.viewRect().center()).y())
    assert color_at(widget, 1.0, 1.5) == "#ffffff"
    dark = [y for y in range(row, picture.height()) if picture.pixelColor(picture.width() // 2, y).value() < 100]
    assert len(dark) in (1, 2)


def test_nodes_have_their_own_size_and_axes_without_meaning_no_numbers(widget):
    inside = panel(widget).view.viewPixelSize()[0] * 11  # within 15 pixels of a node, not within 4
    assert color_at(widget, 0.0, inside * 0.7) != "#ffffff"
    assert color_at(widget, 4.0, inside * 0.7) == "#ffffff"
    assert panel(widget).ticks("x") == panel(widget).ticks("y") == []


def test_thousands_of_sizes_make_few_pictures(widget):
    many = np.linspace(3, 13, 500)
    widget.show_figure(one(Points(many, many, size=many), **BARE))
    sizes = panel(widget).marks[0].dots.data["size"]
    assert len(np.unique(sizes)) == 21
    np.testing.assert_allclose(sizes, many, atol=0.25)


def test_every_piece_is_a_row_of_the_csv(tmp_path):
    write_csv(one(EDGES, NODES), tmp_path / "graph.csv")
    lines = [line for line in (tmp_path / "graph.csv").read_text().splitlines() if not line.startswith("#")]
    rows = [row for row in csv.DictReader(lines) if row["kind"] == "segments"]
    assert [(r["x"], r["x_end"], r["y"], r["y_end"]) for r in rows] == [
        ("0.0", "4.0", "0.0", "0.0"),
        ("nan", "2.0", "0.0", "3.0"),
    ]


def test_the_script_draws_it(tmp_path):
    write_script(one(EDGES, NODES, **BARE), tmp_path / "graph.py")
    subprocess.run([sys.executable, "graph.py", "graph.svg"], cwd=tmp_path, check=True, env={"MPLBACKEND": "svg"})
    assert "LineCollection" in (tmp_path / "graph.svg").read_text()
