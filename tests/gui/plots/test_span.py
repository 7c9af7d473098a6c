"""A window on the plot is dragged with the mouse: it sets the view's options, in data units, and the view is drawn."""

import numpy as np
import pytest
from plot_parts import drag, hover, one, panel, place
from pydantic import Field
from PySide6.QtCore import QPoint, Qt

from gui.panes.workspace import ViewPanel
from gui.plots.drawing.areas import DrawnSpan
from gui.plots.export.numbers import arrays, write_csv
from gui.plots.export.script import write_script
from gui.plots.figure import Axis, Figure, Line, Panel, Span
from gui.plots.figure_widget import FigureWidget
from gui.state.selection import SelectionModel
from gui.views.base import Options, View

RANK = np.arange(1.0, 201)
SPECTRUM = RANK**-0.8


def figure(low=10, high=100, log=True, line=True):
    window = Span(low, high, "fit_start", "fit_stop", (1, 200), "fit window")
    marks = (window, *([Line(RANK, SPECTRUM)] if line else []))
    return one(*marks, x=Axis("rank", log=log, limits=(1, 200)), y=Axis("λ", log=log, limits=(0.01, 1)))


@pytest.fixture
def widget(qtbot):
    widget = FigureWidget()
    qtbot.addWidget(widget)
    widget.resize(900, 600)
    widget.show()
    return widget


@pytest.mark.parametrize("log", [True, False])
def test_an_edge_follows_the_mouse_in_data_units(widget, log):
    settings = []
    widget.dragged.connect(lambda setting: settings.append(dict(setting.options)))
    widget.show_figure(figure(log=log))
    drag(widget, place(widget, 100, 0.05), place(widget, 80, 0.05), place(widget, 60, 0.05), place(widget, 40, 0.05))
    assert settings[-1]["fit_start"] == 10
    assert settings[-1]["fit_stop"] == pytest.approx(40, abs=1)
    assert len(settings) >= 2  # on the way, not only at the end
    assert all(isinstance(v, int) for setting in settings for v in setting.values())
    view = panel(widget).view.viewRange()
    widget.show_figure(figure(log=log))
    assert panel(widget).view.viewRange() == view  # the panel was not panned


def test_all_of_it_moves_and_stays_inside_its_limits(widget):
    settings = []
    widget.dragged.connect(lambda setting: settings.append(setting.options))
    widget.show_figure(figure(20, 40, log=False))
    drag(widget, place(widget, 30, 0.5), place(widget, 60, 0.5), place(widget, 90, 0.5))
    assert [v for _, v in settings[-1]] == pytest.approx([80, 100], abs=1)
    drag(widget, place(widget, 40, 0.5), place(widget, -40, 0.5), place(widget, -90, 0.5))
    assert min(v for setting in settings for _, v in setting) >= 1


def test_a_window_survives_that_other_marks_come_and_go_while_it_is_held(widget):
    widget.show_figure(figure())
    region = panel(widget).marks[0].region
    widget.dragged.connect(lambda setting: widget.show_figure(figure(*(v for _, v in setting.options), line=False)))
    drag(widget, place(widget, 100, 0.05), place(widget, 80, 0.05), place(widget, 50, 0.05))
    (span,) = panel(widget).marks
    assert isinstance(span, DrawnSpan)
    assert span.region is region
    assert widget.canvas.figure.rows[0][0].marks[0].high == pytest.approx(50, abs=1)
    assert not span.dragged
    np.testing.assert_allclose(region.getRegion(), np.log10([10, span.mark.high]))
    widget.show_figure(one(Line(RANK, SPECTRUM)))
    assert region.scene() is None


def test_its_edges_say_that_they_can_be_dragged(widget):
    widget.show_figure(figure(line=False))
    assert "fit window: 10 … 100" in hover(widget, place(widget, 100, 0.5))
    assert widget.canvas.cursor().shape() == Qt.CursorShape.SplitHCursor
    assert "rank" in hover(widget, place(widget, 100, 0.5) - QPoint(40, 0))
    assert widget.canvas.cursor().shape() == Qt.CursorShape.ArrowCursor


def test_it_is_exported(tmp_path):
    assert arrays(figure())["r0c0_0_span_high"] == 100
    write_csv(figure(), tmp_path / "f.csv")
    assert "r0c0,,0,span,fit window,10,100," in (tmp_path / "f.csv").read_text()
    write_script(figure(), tmp_path / "f.py")
    assert "axvspan" in (tmp_path / "f.py").read_text()


class FitOptions(Options):
    fit_start: int = Field(10, ge=1, title="From rank")
    fit_stop: int = Field(100, ge=2, title="to")


def draw(dataset, selection, options):
    return Figure(figure(options.fit_start, options.fit_stop).rows, title=f"{options.fit_start}–{options.fit_stop}")


def test_a_drag_sets_the_options_in_the_form_and_draws_again(qtbot):
    import xarray as xr

    shown = ViewPanel((View("fit", "Fit", "weights", "weights", FitOptions, draw),), SelectionModel())
    qtbot.addWidget(shown)
    shown.resize(900, 600)
    shown.figure_area.load()
    shown.show()
    shown.show_dataset(xr.Dataset(attrs={"analysis": "weights"}))
    plot = shown.figure_area.plot
    drag(plot, place(plot, 10, 0.05), place(plot, 14, 0.05), place(plot, 20, 0.05), place(plot, 30, 0.05))
    qtbot.waitUntil(lambda: shown.options().fit_start >= 29)
    assert shown.options().fit_stop == 100
    assert shown.figure_area.figure.title == f"{shown.options().fit_start}–100"
    assert isinstance(shown.figure_area.figure.rows[0][0], Panel)
    qtbot.waitUntil(lambda: not shown._throttle.isActive())
