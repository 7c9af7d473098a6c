"""A figure's table can be read, sorted, selected, clicked, copied and exported, under panels or without any."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest
from plot_parts import one
from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtSvg import QSvgRenderer

from gui.plots.export.pictures import render, save
from gui.plots.figure import Figure, Line, Table
from gui.plots.figure_widget import FigureWidget
from gui.plots.selection import Pick

LONG = "Apart from the embedding and the final residuals, the exponents lie in a tight interval of 0.65 to 0.90."
TABLE = Table(
    ("layer", "α", "says"),
    ((2, 0.71234567, LONG), (10, float("nan"), "nothing"), (1, -0.9, 'a "quoted", text')),
    title="Claims",
    picks=(Pick(layer=2), Pick(layer=10), Pick(layer=1)),
)
LINE = Line(np.arange(3.0), np.arange(3.0))


@pytest.fixture
def widget(qtbot):
    widget = FigureWidget()
    qtbot.addWidget(widget)
    widget.resize(800, 500)
    widget.show()
    return widget


def with_panel(table=TABLE):
    return Figure(one(LINE).rows, title="Both", table=table)


def shown(widget):
    model = widget.table.model()
    return [[model.index(r, c).data() for c in range(model.columnCount())] for r in range(model.rowCount())]


def test_a_table_stands_under_the_panels_or_alone(widget):
    widget.show_figure(with_panel())
    assert widget.table.isVisible()
    assert widget.table.geometry().top() > widget.canvas.geometry().bottom() - 1
    assert widget.canvas.height() > 150
    assert shown(widget)[0] == ["2", "0.7123", LONG]
    assert shown(widget)[1][1] == "–"
    widget.show_figure(Figure(title="Alone", note="a note", table=TABLE))
    assert widget.canvas.height() < 80 < widget.table.height()
    widget.show_figure(one(LINE))
    assert not widget.table.isVisible()
    assert widget.canvas.height() > 400
    widget.show_figure(Figure(empty="nothing yet"))
    assert not widget.table.isVisible()


def test_columns_sort_by_value_and_exports_follow_the_screen(qtbot, widget, tmp_path):
    widget.show_figure(Figure(table=TABLE))
    header = widget.table.horizontalHeader()
    at = header.sectionViewportPosition(0) + 10
    qtbot.mouseClick(header.viewport(), Qt.MouseButton.LeftButton, pos=header.rect().center().__class__(at, 5))
    assert [row[0] for row in shown(widget)] == ["1", "2", "10"]
    assert [row[0] for row in widget.shown_figure().table.rows] == [1, 2, 10]
    widget.show_figure(Figure(table=Table(TABLE.columns, (*TABLE.rows, (7, 1.0, "new")))))
    assert [row[0] for row in shown(widget)] == ["1", "2", "7", "10"]
    save(widget, tmp_path / "t.csv")
    rows = list(csv.reader((tmp_path / "t.csv").read_text().splitlines()[1:]))
    assert rows[0] == ["layer", "α", "says"]
    assert rows[1] == ["1", "-0.9", 'a "quoted", text']
    assert rows[2][1] == "0.71234567"


def test_a_click_on_a_row_picks_it_also_when_sorted(qtbot, widget):
    picked = []
    widget.picked.connect(picked.append)
    widget.show_figure(Figure(table=TABLE))
    widget.table.sortByColumn(0, Qt.SortOrder.AscendingOrder)
    at = widget.table.visualRect(widget.table.model().index(0, 0)).center()
    qtbot.mouseClick(widget.table.viewport(), Qt.MouseButton.LeftButton, pos=at)
    assert picked == [Pick(layer=1)]
    qtbot.keyClick(widget.table, Qt.Key.Key_C, Qt.KeyboardModifier.ControlModifier)
    assert QGuiApplication.clipboard().text() == 'layer\tα\tsays\n1\t-0.9\ta "quoted", text'


def test_numbers_and_texts_are_in_the_npz(widget, tmp_path):
    widget.show_figure(with_panel())
    save(widget, tmp_path / "t.npz")
    with np.load(tmp_path / "t.npz") as archive:
        about = json.loads(str(archive["about"]))
        np.testing.assert_array_equal(archive["table_1"], [0.71234567, np.nan, -0.9])
        assert archive["table_2"][0] == LONG
    assert about["table"] == {"table_0": "layer", "table_1": "α", "table_2": "says"}


def test_a_csv_of_both_is_two_files(widget, tmp_path):
    widget.show_figure(with_panel())
    save(widget, tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text().splitlines()[-1].startswith("r0c0,,0,line,")
    assert (tmp_path / "t-table.csv").read_text().splitlines()[-1].startswith("1,-0.9,")


def test_the_whole_table_is_in_every_picture(widget, tmp_path):
    many = Table(("layer", "says"), tuple((i, f"row number {i}. {LONG}") for i in range(40)), "Many rows")
    widget.show_figure(with_panel(many))
    for suffix in ("pdf", "svg", "png"):
        save(widget, tmp_path / f"t.{suffix}")
    svg = (tmp_path / "t.svg").read_text()
    assert "Many rows" in svg
    assert "row number 39." in svg
    size = QSvgRenderer(str(tmp_path / "t.svg")).defaultSize()
    assert size.height() > widget.canvas.height() + 40 * 18
    picture = render(widget, 1)
    assert picture.height() / picture.width() == pytest.approx(size.height() / size.width(), rel=0.01)
    bottom = picture.copy(0, picture.height() - 60, picture.width(), 60)
    assert len({bottom.pixelColor(x, y).name() for x in range(0, 600, 3) for y in range(0, 60, 3)}) > 3
    assert (tmp_path / "t.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize("panels", [True, False])
def test_the_script_tells_the_table(widget, tmp_path, panels):
    widget.show_figure(with_panel() if panels else Figure(title="Alone", table=TABLE))
    save(widget, tmp_path / "t.py")
    done = subprocess.run(
        [sys.executable, "t.py", "t.png"], cwd=tmp_path, capture_output=True, text=True, env={"MPLBACKEND": "Agg"}
    )
    assert done.returncode == 0, done.stderr
    assert "0.7123" in done.stdout
    assert (tmp_path / "t.png").stat().st_size > 5000


def test_text_of_a_table_folds_long_cells():
    lines = TABLE.text(width=40).splitlines()
    assert lines[0] == "Claims"
    assert lines[1].split() == ["layer", "α", "says"]
    assert max(map(len, lines)) < 60
    assert lines[-1] == '1      −0.9    a "quoted", text'
