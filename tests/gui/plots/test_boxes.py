"""Box plots: where they are drawn, what the mouse gets from them, and the same numbers in every export."""

import csv
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from demo_figures import boxes
from plot_parts import click, color_at, hover, panel, place
from PySide6.QtWidgets import QApplication

from gui.plots.export.numbers import COLUMNS, write_csv, write_npz
from gui.plots.export.script import write_script
from gui.plots.figure_widget import FigureWidget
from gui.plots.selection import Pick

BLANK = "#ffffff"


@pytest.fixture
def widget(qtbot):
    widget = FigureWidget()
    qtbot.addWidget(widget)
    widget.resize(800, 600)
    widget.show()
    widget.set_theme(False)
    QApplication.processEvents()
    return widget


@pytest.mark.parametrize("log", [False, True])
def test_a_box_is_filled_between_its_quartiles_and_nowhere_else(widget, log):
    widget.show_figure(boxes(log))
    off = 0.12  # beside the whiskers, inside the box
    filled = {(off, 3.0): True, (off, 6.5): True, (off, 1.4): False, (off, 11.0): False, (0.37, 3.0): False}
    filled |= {(2 + off, 4.1): True, (2 + off, 6.5): False, (1 + off, 4.1): False}
    for (x, y), expected in filled.items():
        colour = color_at(widget, x, y)
        pale = colour != BLANK and int(colour[1:3], 16) < 0xD0
        assert pale == expected, (x, y, colour)


def test_whiskers_and_medians_are_lines(widget):
    widget.show_figure(boxes())
    picture = widget.canvas.grab().toImage()
    for x, y in ((0.0, 12.0), (0.0, 1.5), (0.1, 16.0), (0.2, 4.0)):
        at = place(widget, x, y)
        near = [picture.pixelColor(at.x() + dx, at.y() + dy) for dx in (-1, 0, 1) for dy in (-1, 0, 1)]
        assert min(c.red() for c in near) < 130, (x, y)
    assert picture.pixelColor(place(widget, 0.0, 25.0)).red() > 200, "nothing beyond a whisker but the grid"


def test_the_view_shows_all_of_every_box(widget):
    widget.show_figure(boxes())
    (x0, x1), (y0, y1) = panel(widget).view.viewRange()
    assert x0 < -0.25
    assert x1 > 2.25
    assert y0 < 1
    assert y1 > 40


def test_the_mouse_reads_and_picks_boxes_and_prefers_points(qtbot, widget):
    widget.show_figure(boxes())
    text = hover(widget, place(widget, 2.1, 4.0))
    for part in ("groups", "layer = 2", "median 5", "3 … 6", "2 … 7"):
        assert part in text
    with qtbot.waitSignal(widget.picked) as caught:
        click(widget, place(widget, 2.1, 4.0))
    assert caught.args == [Pick(layer=2)]
    with qtbot.waitSignal(widget.picked) as caught:
        click(widget, place(widget, 0.0, 40.0))
    assert caught.args == [Pick(layer=0, sample=7)]


def test_the_legend_hides_a_box_plot(widget):
    widget.show_figure(boxes())
    assert [e.label for e in widget.canvas._legend.entries] == ["groups", "beyond"]
    widget.canvas.toggle("groups")
    assert color_at(widget, 0.12, 6.5) == BLANK


def test_exported_numbers_are_those_of_the_mark(tmp_path):
    figure = boxes()
    mark = figure.rows[0][0].marks[0]
    write_npz(figure, tmp_path / "boxes.npz")
    with np.load(tmp_path / "boxes.npz") as read:
        for name in ("x", "low", "q1", "median", "q3", "high"):
            np.testing.assert_array_equal(read[f"r0c0_0_boxes_{name}"], getattr(mark, name))
    write_csv(figure, tmp_path / "boxes.csv")
    lines = [line for line in (tmp_path / "boxes.csv").read_text().splitlines() if not line.startswith("# ")]
    rows = list(csv.DictReader(lines))
    assert tuple(rows[0]) == COLUMNS
    assert all(None not in row and None not in row.values() for row in rows), "every line has every column"
    first = {name: float(rows[0][name]) for name in ("x", "x_end", "y", "low", "q1", "q3", "high")}
    assert first == {"x": -0.25, "x_end": 0.25, "y": 4, "low": 1, "q1": 2, "q3": 8, "high": 16}


def test_the_script_draws_the_boxes(tmp_path):
    write_script(boxes(log=True), tmp_path / "boxes.py")
    code = (
        "import json, runpy\n"
        "fig = runpy.run_path('boxes.py')\n"
        "ax = (drawn := fig['draw'](fig['load']())).axes[0]\n"
        "corners = [p.get_path().vertices[:4].tolist() for p in ax.patches]\n"
        "heights = sorted(float(v) for line in ax.lines for v in line.get_ydata())\n"
        "print(json.dumps([corners, heights, ax.get_yscale(), len(drawn.legends)]))\n"
    )
    env = os.environ | {"MPLBACKEND": "Agg"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    corners, heights, scale, legends = json.loads(done.stdout)
    assert corners == [
        [[-0.25, 2], [0.25, 2], [0.25, 8], [-0.25, 8]],
        [[1.75, 3], [2.25, 3], [2.25, 6], [1.75, 6]],
    ]
    assert {1, 2, 4, 8, 16, 3, 5, 6, 7} == set(heights)
    assert scale == "log"
    assert legends == 1
