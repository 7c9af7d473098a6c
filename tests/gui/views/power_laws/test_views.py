"""The views of activation and gradient spectra draw what the datasets hold, and refit where the window is dragged."""

import itertools
from typing import get_args

import numpy as np
import pytest
from fits_parts import LAYERS, SAMPLES, SPECS, activations, gradients, slope
from plot_parts import click, drag, place

from engine.spectra import power_law, student
from engine.spectra.trends import trend
from gui.panes.workspace import ViewPanel
from gui.plots.figure import Band, Image, Line, Points, Rule, Span
from gui.plots.figure_widget import FigureWidget
from gui.plots.selection import Pick, Selection
from gui.state.selection import SelectionModel
from gui.views.activations import views as of_activations
from gui.views.gradients import views as of_gradients

MODULES = {"activations": of_activations, "gradients": of_gradients}
VIEW = {(a, v.name): v for a, module in MODULES.items() for v in (*module.VIEWS, module.NAVIGATOR)}
LABELS = ["m, train", "m, test", "m (fine-tuned), train", "m (fine-tuned), test", "m (random twin), test"]


def dataset_of(analysis):
    return activations() if analysis == "activations" else gradients()


def draw(analysis, name, dataset=None, selection=Selection(), **options):  # noqa: B008 - frozen
    view = VIEW[analysis, name]
    return view.draw(dataset_of(analysis) if dataset is None else dataset, selection, view.options(**options))


def marks(figure, kind):
    return [mark for row in figure.rows for panel in row for mark in panel.marks if isinstance(mark, kind)]


def lines(figure, panel=0):
    return {m.label: m for m in figure.rows[0][panel].marks if isinstance(m, Line)}


def choices(view):
    """Every combination of a view's options; numbers keep their default or become 5."""
    fields = {
        n: (f.default, max(5, f.default)) if f.annotation is int else get_args(f.annotation) or (False, True)
        for n, f in view.options.model_fields.items()
    }
    return [dict(zip(fields, values, strict=True)) for values in itertools.product(*fields.values())]


@pytest.mark.parametrize(("analysis", "name"), VIEW)
def test_every_view_draws_every_layer_with_every_option(analysis, name):
    dataset = dataset_of(analysis)
    for selection in (Selection(), Selection(4, LAYERS - 1, site=3), Selection(1, 2, site=1, sample=SAMPLES - 1)):
        for options in choices(VIEW[analysis, name]):
            figure = draw(analysis, name, dataset, selection, **options)
            assert figure.rows or figure.table
            assert not figure.empty
            for mark in marks(figure, Line | Points):
                assert len(mark.picks) in (0, 1, len(mark.x))
                assert len(mark.hover) in (0, len(mark.x))
                assert len(mark.x) == len(mark.y)


@pytest.mark.parametrize(("analysis", "name"), VIEW)
@pytest.mark.parametrize("units", [0, 1, 4])
def test_every_view_draws_or_explains_what_has_not_arrived(analysis, name, units):
    partial = activations(units=units) if analysis == "activations" else gradients(units)
    for selection in (Selection(), Selection(5, 3)):
        figure = draw(analysis, name, partial, selection)
        assert bool(figure.rows) != bool(figure.empty)
        if figure.empty:
            assert len(figure.empty.split()) > 6


@pytest.mark.parametrize("analysis", MODULES)
def test_alpha_by_layer_is_the_mean_over_seeds_with_its_interval(analysis):
    dataset = dataset_of(analysis)
    figure = draw(analysis, "layers")
    assert list(dict.fromkeys(m.label for m in marks(figure, Line))) == ["noise control", *LABELS]
    alpha = dataset["alpha_rank"]
    values = (alpha.sel(site="block") if analysis == "activations" else alpha).values[2:4, 1]
    line = lines(figure)["m (fine-tuned), test"]
    band = next(m for m in marks(figure, Band) if m.label == line.label)
    dots = next(m for m in marks(figure, Points) if m.label == line.label)
    np.testing.assert_allclose(line.y, values.mean(0))
    np.testing.assert_allclose(band.high - line.y, 12.7062 * np.abs(values[0] - values[1]) / 2, rtol=1e-3)
    np.testing.assert_allclose(dots.y, values.ravel())
    assert line.picks[2] == Pick(model=2, layer=2, site=3 if analysis == "activations" else None)
    assert "N/" in figure.note
    expected = (0.7 + 0.1 * np.arange(LAYERS)) if analysis == "activations" else 2 - 0.7 - 0.1 * np.arange(LAYERS)
    np.testing.assert_allclose(lines(figure)["m, test"].y, expected, atol=0.2)


@pytest.mark.parametrize("analysis", MODULES)
def test_the_band_of_one_seed_is_that_of_the_fit(analysis):
    dataset = dataset_of(analysis).isel(model=[0])
    figure = draw(analysis, "layers", dataset)
    of_block = {"site": "block"} if analysis == "activations" else {}
    se = dataset["alpha_rank_se"].sel(split="test", **of_block).values[0]
    band, line = next(m for m in marks(figure, Band) if m.label == "m, test"), lines(figure)["m, test"]
    np.testing.assert_allclose(band.high - line.y, 2.0595 * se, rtol=1e-3)  # Student's t, 27 ranks
    assert "of the fit itself" in figure.note
    assert "over 2 seeds" in draw(analysis, "layers").note


@pytest.mark.parametrize("analysis", MODULES)
def test_a_spectrum_stands_beside_its_fit_its_noise_and_its_numbers(analysis):
    dataset = dataset_of(analysis)
    figure = draw(analysis, "spectrum", selection=Selection(layer=3), fit_start=6, fit_stop=20)
    name, power = ("eigenvalues", 1) if analysis == "activations" else ("singular_values", 2)
    values = dataset[name].sel(site="block") if analysis == "activations" else dataset[name]
    twin = values.values[4:6, 1, 3]
    line = lines(figure)["m (random twin), test"]
    np.testing.assert_allclose(line.y[:20], np.exp(np.log(twin[:, :20]).mean(0)))
    law = power_law.fit(twin**power, 6, 20)
    row = next(r for r in figure.table.rows if r[0] == line.label)
    assert row[1] == pytest.approx(law.alpha.mean())
    low, _, high = student.interval(law.alpha)
    assert row[2:4] == pytest.approx((low, high))
    assert row[4:6] == pytest.approx((law.se.mean(), law.r2.mean()))
    fits = [m for m in figure.rows[0][0].marks if isinstance(m, Line) and m.label == "power law"]
    assert len(fits) == 5
    assert -power * np.polyfit(np.log(fits[-1].x), np.log(fits[-1].y), 1)[0] == pytest.approx(row[1])
    (span,) = marks(figure, Span)
    assert (span.low, span.high, span.start, span.stop) == (6, 20, "fit_start", "fit_stop")
    assert len([m for m in figure.rows[0][0].marks if m.label == "noise control"]) == 5
    assert any("floor" in rule.label for rule in marks(figure, Rule)) == (analysis == "gradients")


def test_one_window_or_all_of_them():
    dataset = activations()
    run = dataset["alpha_rank"].sel(site="block").values[:2, 0].mean(0)
    one = lines(draw("activations", "spectrum", selection=Selection(layer=3), fit_start=2, fit_stop=12), 1)["m, train"]
    every = lines(
        draw("activations", "spectrum", selection=Selection(layer=3), fit_start=2, fit_stop=12, scope="all"), 1
    )["m, train"]
    again = power_law.fit(dataset["eigenvalues"].sel(site="block").values[:2, 0], 2, 12).alpha.mean(0)
    np.testing.assert_allclose(every.y, again)
    assert one.y[3] == pytest.approx(again[3])
    np.testing.assert_allclose(np.delete(one.y, 3), np.delete(run, 3))


def test_what_is_below_the_floor_is_not_drawn_or_fitted():
    figure = draw("gradients", "spectrum", fit_start=2, fit_stop=60)
    for line in lines(figure).values():
        if line.label in LABELS:
            assert len(line.x) == 50
    assert {row[8] for row in figure.table.rows} == {49}


def test_a_window_of_too_few_ranks_is_explained():
    for name in ("spectrum", "residuals"):
        figure = draw("activations", name, fit_start=20, fit_stop=22)
        assert "at least 5 ranks" in figure.note
        assert marks(figure, Span)
        assert not figure.table


def test_residuals_are_what_the_fit_leaves():
    figure = draw("activations", "residuals", fit_start=4, fit_stop=30)
    values = np.exp(np.log(activations()["eigenvalues"].sel(site="block").values[:2, 0, 0]).mean(0))
    law = power_law.fit(values, 4, 30)
    expected = np.log(values[3:30]) - np.log(law.line())
    np.testing.assert_allclose(lines(figure)["m, train"].y[3:30], expected, atol=1e-9)
    row = figure.table.rows[0]
    assert row[2] == pytest.approx(expected.std())
    assert row[3] == pytest.approx(np.corrcoef(expected[1:], expected[:-1])[0, 1])


def test_the_grid_has_a_panel_for_each_sublayer_with_its_slopes(qtbot):
    figure = draw("activations", "grid")
    panels = [panel for row in figure.rows for panel in row]
    assert [p.title.split(":")[0] for p in panels] == [
        "embedding", "attention output", "MLP activation", "block output", "final norm",
    ]  # fmt: skip
    alpha = activations()["alpha_rank"].sel(site="mlp_act").values[:2, 0].mean(0)
    assert panels[2].title.endswith(f"α {alpha.min():.2f}–{alpha.max():.2f}")
    cloud = panels[2].marks[0]
    assert set(cloud.values) == set(range(LAYERS))
    assert [p.current for p in panels].index(True) == 3
    widget = FigureWidget()
    qtbot.addWidget(widget)
    widget.resize(1000, 700)
    widget.show()
    widget.show_figure(figure)
    picked = []
    widget.picked.connect(picked.append)
    last = np.flatnonzero(cloud.values == 5)[-1]
    click(widget, place(widget, cloud.x[last], cloud.y[last], 0, 2))
    assert picked == [Pick(model=0, layer=5, site=2)]


def test_the_path_goes_through_every_sublayer_in_order():
    line = lines(draw("activations", "path"))["m, train"]
    assert len(line.x) == 2 + 3 * LAYERS
    assert [(p.layer, p.site) for p in line.picks[:5]] == [(0, 0), (0, 1), (0, 2), (0, 3), (1, 1)]
    alpha = activations()["alpha_rank"].values[:2, 0].mean(0)
    np.testing.assert_allclose(line.y[1:4], alpha[1:4, 0])
    assert "attention output" in line.hover[1]
    assert "Sites" in draw("activations", "path", activations(sublayers=False, density=False)).empty


@pytest.mark.parametrize("analysis", MODULES)
def test_alpha_against_the_loss_of_every_model(analysis):
    figure = draw(analysis, "loss", take="this layer", selection=Selection(layer=1))
    dataset = dataset_of(analysis)
    dots = {m.label: m for m in marks(figure, Points)}
    assert list(dots) == LABELS
    loss = dataset["loss" if analysis == "activations" else "mean_loss"].values
    np.testing.assert_allclose(dots["m, test"].x, loss[:2, 1])
    # Four of the six models on test are trained ones: twins are no witnesses.
    assert "Fewer than five independent trained models on test" in figure.note
    assert "Fewer than five independent trained models on train" in figure.note


@pytest.mark.parametrize("analysis", MODULES)
def test_trends_are_told_in_numbers(analysis):
    figure = draw(analysis, "trends")
    rows = {row[0]: row for row in figure.table.rows}
    curve = lines(figure)["m, test"].y
    found = trend(curve)
    assert rows["m, test"][1] == ("rising" if analysis == "activations" else "falling") == found.shape()
    assert rows["m, test"][2:5] == pytest.approx((found.spearman, found.trend_p, found.slope))


def test_the_density_fit_has_its_own_name():
    figure = draw("activations", "density", selection=Selection(layer=4))
    row = figure.table.rows[2]
    one = activations().sel(site="block").isel(split=0, layer=4)
    assert row[1] == pytest.approx(one["alpha_esd"].values[2:4].mean())
    assert row[-1] == pytest.approx(1 + 1 / one["alpha_rank"].values[2:4].mean())
    assert figure.rows[0][1].y.label.startswith("α_ESD")
    tail = next(m for m in figure.rows[0][0].marks if m.label == "fitted tail")
    steepness = np.polyfit(np.log(tail.x), np.log(tail.y), 1)[0]
    assert 1 - steepness == pytest.approx(float(activations()["alpha_esd"].sel(site="block")[0, 0, 4]))
    assert "Density fit" in draw("activations", "density", activations(sublayers=False, density=False)).empty


@pytest.mark.parametrize("analysis", MODULES)
def test_claims_are_a_table_with_verdicts(analysis):
    figure = draw(analysis, "claims")
    verdicts = {row[1]: row[2] for row in figure.table.rows}
    says = {
        "activations": "α of block outputs rises from layer to layer in trained models",
        "gradients": "Without fine-tuning, α of gradients falls almost monotonically with depth",
    }
    assert verdicts[says[analysis]] == "holds"
    assert all(row[0].startswith("Liu, Paquette and Sous 2025, §") for row in figure.table.rows)
    assert set(verdicts.values()) <= {"holds", "fails", "cannot say"}
    assert "hold" in figure.title


def test_the_navigator_shows_sites_or_conditions_and_picks_them():
    (image,) = marks(draw("activations", "navigator", selection=Selection(layer=2, site=1)), Image)
    assert image.z.shape == (5, LAYERS)
    assert image.marked == ((1, 2),)
    assert image.picks[2][4] == Pick(model=0, layer=4, site=2)
    (image,) = marks(draw("gradients", "navigator", selection=Selection(model=3, layer=2)), Image)
    assert image.z.shape == (len(LABELS), LAYERS)
    assert image.marked == ((2, 2),)
    assert image.picks[4][1] == Pick(model=4, layer=1)


def test_the_reading_tells_what_is_selected():
    inspection = of_activations.INSPECT(activations(), Selection(model=2, layer=3))
    values = {row.symbol: row for row in inspection.rows}
    assert inspection.title == "Layer 3, block output"
    assert "2 seeds" in inspection.subtitle
    one = activations().sel(site="block").isel(split=0, layer=3)
    assert values["α (train)"].value == pytest.approx(one["alpha_rank"].values[2:4].mean())
    assert values["α (train)"].null == pytest.approx(one["noise_alpha_rank"].values[2:4].mean())
    assert "times as fast" in inspection.verdict
    inspection = of_gradients.INSPECT(gradients(), Selection(model=5, layer=0))
    assert {row.symbol for row in inspection.rows} >= {"α (test)", "PR (test)", "N/p (test)", "loss (test)"}
    assert not of_activations.INSPECT(activations(units=1), Selection(model=5)).rows


def test_sequences_of_the_largest_loss_stand_in_a_table():
    figure = draw("gradients", "samples", rows=10)
    loss = gradients()["loss"].values[0, 0]
    assert [row[0] for row in figure.table.rows] == np.argsort(-loss)[:10].tolist()
    assert figure.table.rows[0][2].startswith("Text ")
    assert figure.table.picks[0] == Pick(sample=int(loss.argmax()))


@pytest.mark.parametrize("analysis", MODULES)
def test_dragging_the_window_fits_again_at_once(qtbot, analysis):
    """A real drag with the mouse: options, fits, table and α by layer follow while it goes on."""
    view = VIEW[analysis, "spectrum"]
    panel = ViewPanel((view,), SelectionModel())
    qtbot.addWidget(panel)
    panel.resize(1000, 700)
    panel.figure_area.load()
    panel.show()
    panel.show_dataset(dataset_of(analysis))
    plot = panel.figure_area.plot
    before = panel.figure_area.figure.table.rows[0][1]
    y = float(np.median(lines(panel.figure_area.figure)["m, test"].y))
    drag(plot, place(plot, 30, y), *(place(plot, x, y) for x in (27, 24, 21, 18, 15)))
    qtbot.waitUntil(lambda: panel.options().fit_stop in (14, 15, 16))
    assert panel.options().fit_start == 4
    after = panel.figure_area.figure.table.rows[0]
    assert after[1] != before
    assert after[8] == panel.options().fit_stop - 3
    (span,) = marks(panel.figure_area.figure, Span)
    assert span.high == panel.options().fit_stop
    qtbot.waitUntil(lambda: not panel._throttle.isActive())


def test_the_slopes_are_those_of_the_population():
    """The datasets of these tests are what they say: a slope of large samples is near the one that was asked for."""
    found = activations()["alpha_rank"].sel(site="block").values[0, 0]
    np.testing.assert_allclose(found, [slope(SPECS[0], layer) for layer in range(LAYERS)], atol=0.2)


def test_the_window_goes_along_to_the_residuals_and_back(qtbot):
    views = tuple(view for view in of_activations.VIEWS if view.name in ("spectrum", "residuals", "trends"))
    panel = ViewPanel(views, SelectionModel())
    qtbot.addWidget(panel)
    panel.set_view("spectrum")
    form = panel.forms["spectrum"]
    form.set_value(form.value().model_copy(update={"fit_start": 6, "fit_stop": 20, "noise": False}))
    panel.set_view("trends")
    panel.set_view("residuals")
    value = panel.options()
    assert (value.fit_start, value.fit_stop, value.noise) == (6, 20, True)
    panel.forms["residuals"].set_value(value.model_copy(update={"fit_stop": 25}))
    panel.set_view("spectrum")
    assert panel.options().fit_stop == 25
    panel.restore({"view": "spectrum", "options": {"residuals": {"fit_stop": 12}}})
    panel.set_view("trends")
    assert panel.state()["options"]["residuals"]["fit_stop"] == 12
