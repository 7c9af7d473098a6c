"""The renderer: where and in which colour things are drawn, what is kept between figures, what the mouse gets."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from demo_figures import RANK, grid, head, heatmap, mixed, spectrum
from plot_parts import click, color_at, one, panel, place
from PySide6.QtCore import QPoint, QRectF, Qt
from PySide6.QtGui import QColor, QFontMetricsF
from PySide6.QtWidgets import QApplication

from gui.plots import theme
from gui.plots.drawing.scale import scales_of
from gui.plots.figure import Axis, Band, Figure, Image, Line, Points, Rule, Steps
from gui.plots.figure_widget import FigureWidget

BLANK = ("#ffffff", theme.resolve("grid", False))


@pytest.fixture
def widget(qtbot):
    widget = FigureWidget()
    qtbot.addWidget(widget)
    widget.resize(900, 600)
    widget.show()
    widget.set_theme(False)
    return widget


# Drawing


@pytest.mark.parametrize("inverted", [False, True])
def test_log_axes_put_points_where_the_logarithm_says(widget, inverted):
    x = Axis("x", log=True, limits=(1, 1000), inverted=inverted)
    point = Points(np.array([10.0]), np.array([0.01]), color="c1", size=9)
    widget.show_figure(one(point, x=x, y=Axis("y", log=True, limits=(1e-3, 1))))
    item = panel(widget)
    plot = item.mapRectToScene(item.plot)
    third = 2 / 3 if inverted else 1 / 3
    at = QPoint(round(plot.left() + third * plot.width()), round(plot.bottom() - plot.height() / 3))
    image = widget.canvas.grab().toImage()
    color = image.pixelColor(at)
    expected = QColor(theme.resolve("c1", False))
    assert abs(color.red() - expected.red()) < 45
    assert color.blue() < 80
    assert image.pixelColor(at + QPoint(20, 0)).name() in BLANK


def test_heatmap_cells_have_the_colours_of_their_values(widget):
    figure = heatmap()
    widget.show_figure(figure)
    image = figure.rows[0][0].marks[0]
    colors = scales_of(figure)[id(image)].colors(False)
    assert color_at(widget, 2, 1) == color_at(widget, 3, 2) == theme.resolve("neutral", False)
    logs = np.log(np.where(image.z > 0, image.z, np.nan))
    low, high = np.nanmin(logs), np.nanmax(logs)
    for row, column in ((0, 0), (23, 19), (10, 4), np.unravel_index(np.nanargmax(logs), logs.shape)):
        step = round(1 + 254 * (logs[row, column] - low) / (high - low))
        assert color_at(widget, column, row) in colors[max(1, step - 1) : step + 2]
    # row 0 stands at the top of an inverted axis
    assert place(widget, 0, 0).y() < place(widget, 0, 23).y()
    # the outline of the marked cell runs along its edge
    picture, edge = widget.canvas.grab().toImage(), place(widget, 6, 4.5)
    across = [picture.pixelColor(edge + QPoint(0, dy)).lightness() for dy in range(-4, 5)]
    assert min(across) < 30


def test_uneven_edges_and_cells_without_a_place(widget):
    """On a log axis the first bin, which reaches down to zero, is not drawn; the others have their true widths."""
    z = np.array([[1.0, 2.0, 3.0]])
    image = Image(z, np.array([0.0, 1.0, 10.0, 1000.0]), np.array([0.0, 1.0]))
    figure = one(image, x=Axis("λ", log=True, limits=(0.1, 1000)))
    widget.show_figure(figure)
    scale = scales_of(figure)[id(image)]
    expected = {
        0.3: "#ffffff",
        3: scale.colors(False)[128],
        30: scale.colors(False)[255],
        900: scale.colors(False)[255],
    }
    for x, color in expected.items():
        assert color_at(widget, x, 0.5) == color


def test_bands_and_bars_fill_what_they_say(widget):
    band = Band(np.array([0.0, 1, 2, 3, 4]), np.array([1.0, 1, np.nan, 1, 1]), np.array([2.0, 2, 2, 2, 2]))
    bars = Steps(np.array([5.0, 6, 7, 8]), np.array([3.0, 0, 1]))
    widget.show_figure(one(band, bars, y=Axis("y", limits=(0, 4)), x=Axis("x", limits=(0, 9))))
    filled = {(0.5, 1.5): True, (1.5, 1.5): False, (3.5, 1.5): True, (0.5, 2.5): False, (0.5, 0.5): False}
    filled |= {(5.5, 2.1): True, (6.5, 0.45): False, (7.5, 0.45): True, (7.5, 1.45): False}
    for (x, y), expected in filled.items():
        assert (color_at(widget, x, y) not in BLANK) == expected, (x, y)


def test_bars_on_a_log_axis_reach_the_bottom_however_far_one_looks(widget):
    bars = Steps(np.array([0.0, 1, 2]), np.array([10.0, 0.0]))
    widget.show_figure(one(bars, y=Axis("y", log=True, limits=(1e-9, 100))))
    assert color_at(widget, 0.52, 3e-9) != "#ffffff"
    assert color_at(widget, 1.52, 3e-9) == "#ffffff"


def test_rules_stand_at_their_value(widget):
    widget.show_figure(
        one(Rule("x", 10.0, dash=False, color="c1"), x=Axis("x", log=True, limits=(1, 100)), y=Axis("y", limits=(0, 1)))
    )
    near = widget.canvas.grab().toImage()
    at = place(widget, 10, 0.55)
    assert min(near.pixelColor(at + QPoint(dx, 0)).name() for dx in (-1, 0, 1)) != "#ffffff"
    assert near.pixelColor(at + QPoint(6, 0)).name() == "#ffffff"


def test_a_rule_turns_where_the_next_figure_has_one_across_at_the_same_value(widget):
    for axis, angle in (("y", 0), ("x", 90), ("y", 0)):
        widget.show_figure(one(Rule(axis, 0.0), x=Axis("x", limits=(-1, 1)), y=Axis("y", limits=(-1, 1))))
        assert panel(widget).marks[0].line.angle == angle


def test_equal_axes_have_equal_units(widget):
    circle = np.linspace(0, 6.3, 90)
    widget.show_figure(one(Line(np.cos(circle), np.sin(circle)), equal=True))
    origin, right, up = place(widget, 0, 0), place(widget, 1, 0), place(widget, 0, 1)
    assert abs((right.x() - origin.x()) - (origin.y() - up.y())) <= 1


def test_a_large_cloud_becomes_an_image_of_counts_and_says_so(widget):
    rng = np.random.default_rng(0)
    cloud = Points(rng.normal(size=50_000), rng.normal(size=50_000), "entries")
    widget.show_figure(one(cloud))
    drawn = panel(widget).marks[0]
    assert len(drawn.dots.data) == 0
    total = np.bincount(drawn.counts._steps.ravel(), minlength=256)
    assert 0.2 < total[1:].sum() / total.sum() < 0.8
    assert "image of their counts" in widget.canvas._note_text()
    centre, corner = place(widget, 0, 0), panel(widget).mapRectToScene(panel(widget).plot).topLeft().toPoint()
    image = widget.canvas.grab().toImage()
    assert image.pixelColor(centre).lightness() < image.pixelColor(corner + QPoint(8, 8)).lightness() - 80
    widget.show_figure(one(replace(cloud, x=cloud.x[:100], y=cloud.y[:100])))
    assert len(drawn.dots.data) == 100
    assert not drawn.counts._steps.size


def test_an_empty_figure_shows_its_text_and_nothing_else(widget):
    widget.show_figure(grid(4, 2))
    widget.show_figure(Figure(empty="Press Run."))
    assert widget.canvas._panels == {}
    picture = widget.canvas.grab().toImage()
    middle = [picture.pixelColor(x, y).name() for x in range(350, 550, 2) for y in range(250, 320, 2)]
    assert any(name != "#ffffff" for name in middle)
    widget.show_figure(grid(4, 2))
    assert len(widget.canvas._panels) == 4


@pytest.mark.parametrize(
    "figure",
    [
        one(Line(np.zeros(0), np.zeros(0), "nothing")),
        one(Line(np.array([np.nan]), np.array([1.0]))),
        one(Points(np.array([5.0]), np.array([5.0]))),
        one(Line(np.array([0.0, -1]), np.array([0.0, 0]), "negative"), x=Axis("x", log=True), y=Axis("y", log=True)),
        one(Image(np.full((2, 2), np.nan), np.arange(3.0), np.arange(3.0), log=True)),
        one(Image(np.ones((2, 2)), np.arange(3.0), np.arange(3.0))),
        one(),
        Figure(),
    ],
    ids=["no points", "NaN", "one point", "no logarithm", "all NaN", "all alike", "no marks", "no panels"],
)
def test_degenerate_figures_are_drawn(widget, figure):
    widget.show_figure(figure)
    assert not widget.canvas.grab().isNull()


# Layout


@pytest.mark.parametrize("size", [(900, 600), (1800, 1100)])
@pytest.mark.parametrize("figure", [grid(12, 5), grid(40, 8), mixed(), heatmap()], ids=["12", "40", "mixed", "heatmap"])
def test_nothing_overlaps_and_nothing_is_cut_off(widget, size, figure):
    widget.resize(*size)
    QApplication.processEvents()
    widget.show_figure(figure)
    canvas = widget.canvas
    whole = QRectF(canvas.rect())
    outer = [item.mapRectToScene(item.boundingRect()) for item in canvas._panels.values()]
    plots = [item.mapRectToScene(item.plot) for item in canvas._panels.values()]
    legend = [entry.rect for entry in canvas._legend.entries]
    notes = [canvas._note] if figure.note else []
    for box in [*outer, *legend, *notes]:
        assert whole.contains(box)
    for a, b in combinations([*outer, *legend, *notes], 2):
        assert not a.intersects(b)
    assert len({(p.width(), p.height()) for p in plots}) == 1
    assert min(p.width() for p in plots) > 60
    for item in canvas._panels.values():
        metrics = QFontMetricsF(item.font())
        for side in ("x", "y"):
            named = [
                (item.to_pixels(side, t.at), metrics.horizontalAdvance(t.text) if side == "x" else metrics.height())
                for t in item.ticks(side)
                if t.text
            ]
            assert 1 <= len(named) <= 12
            for (p, a), (q, b) in combinations(named, 2):
                assert abs(p - q) >= (a + b) / 2
        widest = max(metrics.horizontalAdvance(t.text) for t in item.ticks("y"))
        if item.tick_labels["y"]:
            assert widest < item.plot.left()


def test_equal_axes_are_shared_and_labelled_once(widget):
    widget.show_figure(grid(11, 4))
    shown = {place: item.tick_labels for place, item in widget.canvas._panels.items()}
    assert all(labels["y"] == (column == 0) for (_, column), labels in shown.items())
    # the last row has three panels: the fourth column is labelled in the row above
    assert {place for place, labels in shown.items() if labels["x"]} == {(2, 0), (2, 1), (2, 2), (1, 3)}
    assert not any(item.labels["x"] or item.labels["y"] for item in widget.canvas._panels.values())
    ranges = {tuple(map(tuple, item.view.viewRange())) for item in widget.canvas._panels.values()}
    assert len(ranges) == 1
    (_, (low, high)) = ranges.pop()
    everything = [spectrum(i) for i in range(11)]
    assert low < np.log10(np.min(everything))
    assert high > np.log10(np.max(everything))


def test_a_shared_range_moves_together_and_a_reset_brings_it_back(qtbot, widget):
    widget.show_figure(grid(6, 3))
    before = panel(widget, 1, 1).view.viewRange()
    moved = panel(widget)
    moved.view.translateBy(x=5)
    moved.view.sigRangeChangedManually.emit([True, False])
    assert panel(widget, 1, 1).view.viewRange()[0] == pytest.approx([v + 5 for v in before[0]])
    widget.show_figure(grid(6, 3, seed=1))
    assert panel(widget, 1, 1).view.viewRange()[0] == pytest.approx([v + 5 for v in before[0]]), "a zoom is kept"
    qtbot.keyClick(widget.canvas, Qt.Key.Key_A)
    assert panel(widget, 1, 1).view.viewRange()[0] == pytest.approx(before[0])


def test_panels_of_different_axes_keep_to_themselves(widget):
    widget.show_figure(mixed())
    before = panel(widget, 1, 1).view.viewRange()
    panel(widget).view.translateBy(x=1)
    panel(widget).view.sigRangeChangedManually.emit([True, False])
    assert panel(widget, 1, 1).view.viewRange() == before


# What is kept between figures


def test_walking_reuses_every_item_and_skips_unchanged_arrays(widget, monkeypatch):
    null = spectrum(1000)

    def figure(seed):
        marks = (Line(RANK, null, "null", "null"), Line(RANK, spectrum(seed), "head"))
        return one(*marks, y=Axis("λ", log=True))

    widget.show_figure(figure(0))
    items = list(widget.canvas.scene().items())
    first, second = panel(widget).marks
    drawn = []
    monkeypatch.setattr(first.curve, "setData", lambda *_, **__: drawn.append("null"))
    monkeypatch.setattr(second.curve, "setData", lambda x, y: drawn.append(np.array(y)))
    widget.show_figure(figure(1))
    assert set(widget.canvas.scene().items()) == set(items)
    assert len(drawn) == 1
    np.testing.assert_allclose(drawn[0], np.log10(spectrum(1)))


def test_other_marks_and_other_grids_replace_what_was_there(widget):
    widget.show_figure(grid(6, 3))
    widget.show_figure(one(Points(RANK, RANK, "points")))
    assert list(widget.canvas._panels) == [(0, 0)]
    assert len(panel(widget).view.childGroup.childItems()) == 1
    assert not panel(widget).spec.title


def test_a_change_from_linear_to_log_draws_again(widget):
    line = Line(RANK, RANK, "same arrays")
    widget.show_figure(one(line))
    widget.show_figure(one(line, y=Axis("y", log=True)))
    np.testing.assert_allclose(panel(widget).marks[0].curve.getData()[1], np.log10(RANK))


def test_the_legend_hides_marks_and_remembers_it(qtbot, widget):
    widget.show_figure(grid(4, 2))
    entry = next(e for e in widget.canvas._legend.entries if e.label == "null, 95 %")
    click(widget, entry.rect.center().toPoint())
    assert not panel(widget).marks[0].area.isVisible()
    widget.show_figure(grid(4, 2, seed=1))
    widget.show_figure(grid(6, 3, seed=1))
    assert not panel(widget, 1, 2).marks[0].area.isVisible()
    assert [type(m) for m in widget.shown_figure().rows[0][0].marks] == [Line, Line]
    entry = next(e for e in widget.canvas._legend.entries if e.label == "null, 95 %")
    click(widget, entry.rect.center().toPoint())
    assert panel(widget, 1, 2).marks[0].area.isVisible()
    assert len(widget.shown_figure().rows[0][0].marks) == 3


def test_one_legend_entry_for_each_label(widget):
    widget.show_figure(grid(12, 4))
    assert [e.label for e in widget.canvas._legend.entries] == ["null, 95 %", "null, median", "head"]
    widget.show_figure(heatmap())
    assert widget.canvas._legend.entries == []


# Themes


def test_colours_follow_the_palette(qtbot, widget):
    widget.show_figure(one(Rule("y", 0.5, dash=False), Band(RANK, RANK * 0, RANK * 0 + 1)))
    corner = QPoint(3, widget.canvas.height() - 3)
    for dark in (True, False):
        widget.setPalette(theme.palette(dark))
        assert widget.canvas.look.dark == dark
        assert widget.canvas.grab().toImage().pixelColor(corner).name() == theme.resolve("background", dark)
        assert panel(widget).marks[0].line.pen.color().name() == theme.resolve("null", dark)


def test_the_current_panel_is_framed(widget):
    widget.show_figure(Figure(((head(2), head(3)),)))
    image = widget.canvas.grab().toImage()
    for column, framed in ((0, False), (1, True)):
        item = panel(widget, 0, column)
        edge = item.mapRectToScene(item.plot).topLeft().toPoint() + QPoint(0, 30)
        reds = [image.pixelColor(edge + QPoint(dx, 0)).name() for dx in (-2, -1, 0, 1)]
        assert (theme.resolve("accent", False) in reds) == framed
