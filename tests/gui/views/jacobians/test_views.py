"""The jacobians views draw what the dataset holds, for every layer and sample, also while layers are missing."""

import itertools
import json
from typing import get_args

import numpy as np
import pytest
from jacobians_parts import (
    COMPONENTS,
    DOSES,
    INFOS,
    LAYERS,
    OUTLIER,
    SAMPLES,
    TEXTS,
    VIEW,
    D,
    K,
    draw,
    jacobians_dataset,
    labelled,
    marks,
)
from plot_parts import click, place

from gui.plots.figure import Band, Boxes, Image, Line, Points, Rule
from gui.plots.figure_widget import FigureWidget
from gui.plots.selection import Pick, Selection
from gui.views.jacobians.views import INSPECT, VIEWS


@pytest.fixture(scope="module")
def dataset():
    return jacobians_dataset()


def choices(view):
    """Every combination of a view's options."""
    fields = {n: get_args(f.annotation) or (False, True) for n, f in view.options.model_fields.items()}
    return [dict(zip(fields, values, strict=True)) for values in itertools.product(*fields.values())]


@pytest.mark.parametrize("name", VIEW)
def test_every_view_draws_every_layer_of_every_model_with_every_option(dataset, name):
    for model, layer in ((0, 0), (1, 3), (2, LAYERS - 1)):
        for options in choices(VIEW[name]):
            figure = draw(name, dataset, Selection(model, layer, sample=SAMPLES - 1), **options)
            assert figure.rows
            assert not figure.empty
            for mark in marks(figure, Line | Points | Boxes):
                assert len(mark.picks) in (0, 1, len(mark.x))
                assert len(mark.hover) in (0, len(mark.x))
                assert len(mark.x) == len(mark.median if isinstance(mark, Boxes) else mark.y)


@pytest.mark.parametrize("name", VIEW)
@pytest.mark.parametrize("arrived", [1, 3])
def test_every_view_draws_or_explains_what_has_not_arrived(name, arrived):
    partial = jacobians_dataset(arrived)
    for layer in range(LAYERS):
        figure = draw(name, partial, Selection(0, layer))
        assert bool(figure.rows) != bool(figure.empty)
        if figure.empty:
            assert any(word in figure.empty for word in ("arrived", "belongs to runs", "Schur surgery"))


@pytest.mark.parametrize("name", VIEW)
def test_a_model_of_which_nothing_has_come_says_so(name):
    figure = draw(name, jacobians_dataset(2), Selection(model=1))
    assert bool(figure.rows) != bool(figure.empty)


@pytest.mark.parametrize("name", VIEW)
def test_a_run_of_two_components_draws_them_and_names_what_it_lacks(name):
    partial = jacobians_dataset(components=("attn", "mlp"))
    figure = draw(name, partial)
    if figure.empty:
        assert "attention and MLP" in figure.empty or "belongs to runs" in figure.empty or "surgery" in figure.empty
    else:
        assert name in ("boxes", "sample", "navigator")
    if "component" in VIEW[name].options.model_fields:
        assert draw(name, partial, component="mlp").rows


def test_every_title_names_the_context_and_every_note_the_verification(dataset):
    for view in (view for view in VIEWS if view.name in VIEW):
        for context, words in (("in_context", "in context"), ("isolated", "isolated token")):
            figure = draw(view.name, dataset.assign_attrs(context=context))
            assert words in figure.title
            assert "3.1e-15" in figure.note


# Samples


def test_boxes_are_quartiles_and_whiskers_stop_at_one_and_a_half_boxes(dataset):
    figure = draw("boxes", dataset)
    box = labelled(figure, "MLP", Boxes)
    values = dataset["rho"].values[0, COMPONENTS.index("mlp")]
    for layer, row in enumerate(values):
        row = np.sort(row)
        # the linear rule by hand: position p·(n − 1) between the sorted values
        at = 0.25 * (len(row) - 1)
        q1 = row[int(at)] + (at % 1) * (row[int(at) + 1] - row[int(at)])
        assert box.q1[layer] == pytest.approx(q1)
        assert box.median[layer] == pytest.approx((row[SAMPLES // 2 - 1] + row[SAMPLES // 2]) / 2)
        reach = 1.5 * (box.q3[layer] - box.q1[layer])
        assert box.high[layer] == max(v for v in row if v <= box.q3[layer] + reach)
        assert box.low[layer] == min(v for v in row if v >= box.q1[layer] - reach)


def test_points_beyond_the_whiskers_are_the_outliers_and_lead_to_their_sample(dataset):
    figure = draw("boxes", dataset, twin=False)
    outliers = marks(figure, Points)[1]
    values = dataset["rho"].values[0, COMPONENTS.index("mlp")]
    box = labelled(figure, "MLP", Boxes)
    expected = {
        (i, s)
        for i, s in itertools.product(range(LAYERS), range(SAMPLES))
        if not box.low[i] <= values[i, s] <= box.high[i]
    }
    assert {(p.layer, p.sample) for p in outliers.picks} == expected
    assert (2, OUTLIER) in expected
    assert all(y == values[p.layer, p.sample] for y, p in zip(outliers.y, outliers.picks, strict=True))


def test_a_click_on_an_outlier_reads_its_sentence(qtbot, dataset):
    widget = FigureWidget()
    qtbot.addWidget(widget)
    widget.resize(900, 600)
    widget.show()
    widget.show_figure(draw("boxes", dataset))
    value = dataset["rho"].values[0, COMPONENTS.index("mlp"), 2, OUTLIER]
    box = labelled(widget.canvas.figure, "MLP", Boxes)
    with qtbot.waitSignal(widget.picked) as caught:
        click(widget, place(widget, box.x[2], value))
    selection = caught.args[0].applied_to(Selection())
    assert (selection.layer, selection.sample) == (2, OUTLIER)
    figure = draw("boxes", dataset, selection)
    assert TEXTS[OUTLIER] in figure.note
    ring = labelled(figure, f"sample {OUTLIER}", Points)
    assert value in ring.y
    assert TEXTS[OUTLIER] in INSPECT(dataset, selection).verdict


def test_all_points_are_every_finite_sample_inside_the_width_of_its_box(dataset):
    figure = draw("boxes", dataset, points="all", statistic="kappa", twin=False)
    points = marks(figure, Points)[0]
    box = marks(figure, Boxes)[0]
    assert len(points.x) == LAYERS * (SAMPLES - 1), "one κ is infinite"
    centre = np.array([box.x[p.layer] for p in points.picks])
    assert np.abs(points.x - centre).max() < box.width / 2
    assert np.isfinite(box.q3).all()


def test_what_is_said_of_kappa_is_said_where_it_is_shown(dataset):
    told = dataset.assign_attrs(kappa=json.dumps({"attn": ["infinite: a LayerNorm"], "block": ["at least 1e+13"]}))
    assert "κ of the attention is infinite: a LayerNorm" in draw("boxes", told, statistic="kappa").note
    assert "κ of the attention" in draw("sample", told, statistic="kappa").note
    assert "κ of" not in draw("boxes", told, statistic="rho").note
    note = draw("compare", told, component="block").note
    assert "κ of the block is at least 1e+13" in note
    assert "LayerNorm" not in note


def test_too_many_points_are_left_out_and_the_note_says_so(dataset, monkeypatch):
    monkeypatch.setattr("gui.views.jacobians.samples.MOST", 4 * LAYERS * SAMPLES - 1)
    figure = draw("boxes", dataset, points="all")
    assert "only outliers are drawn" in figure.note
    assert len(marks(figure, Points)[0].x) < SAMPLES
    assert len(marks(draw("boxes", dataset, points="all", twin=False), Points)[0].x) == LAYERS * SAMPLES


def test_an_outlier_of_the_twin_selects_its_sample_and_keeps_the_model(dataset):
    figure = draw("boxes", dataset)
    twin = [m for m in marks(figure, Points) if m.color == "twin" and m.picks]
    assert twin
    assert {p.model for m in twin for p in m.picks} == {None}


def test_delta_says_how_it_is_read(dataset):
    assert "one direction dominates" in draw("boxes", dataset, statistic="delta").note
    figure = draw("boxes", dataset)
    assert figure.rows[0][0].y.label == "spectral norm σ₁ (ρ in Vo and Tong 2025, eq. 7)"


def test_one_sample_is_followed_through_all_layers(dataset):
    figure = draw("sample", dataset, Selection(0, 2, sample=OUTLIER), statistic="frobenius")
    own = [m for m in marks(figure, Line) if m.label == "this sample"]
    for line, component in zip(own, ("attn", "mlp"), strict=True):
        values = dataset["frobenius"].sel(component=component).values[0]
        np.testing.assert_array_equal(line.y, values[:, OUTLIER])
    band = marks(figure, Band)[1]
    assert own[1].y[2] > 5 * band.high[2]
    assert f"“ {OUTLIER}.”" in figure.title
    assert TEXTS[OUTLIER] in figure.note


def test_a_long_text_keeps_its_end_where_the_jacobian_is(dataset):
    long = dataset["sample_text"].values.astype(object)
    long[0, 0] = "start " + "x" * 5000 + "\n end"
    figure = draw("sample", dataset.assign(sample_text=(("model", "sample"), long)))
    assert "xx end”" in figure.note
    assert len(figure.note) < 500
    assert "start" not in figure.note


# Mean operators


def test_the_cloud_is_the_eigenvalues_and_the_unit_circle(dataset):
    for density in (True, False):
        figure = draw("cloud", dataset, Selection(0, 3), component="mlp", density=density)
        points = labelled(figure, "eigenvalues", Points)
        values = dataset["mean_eigenvalues"].sel(component="mlp").values[0, 3]
        np.testing.assert_array_equal(points.x + 1j * points.y, values)
        circle = labelled(figure, "unit circle")
        np.testing.assert_allclose(np.hypot(circle.x, circle.y), 1)
        assert figure.rows[0][0].equal
        assert f"{(np.abs(values) > 1).sum()} of {D} eigenvalues outside" in figure.note


def test_density_is_higher_where_eigenvalues_are_closer_and_is_in_their_units(dataset):
    rng = np.random.default_rng(0)
    close, far = 0.01 * rng.normal(size=(2, 200)), rng.uniform(-1, 1, size=(2, 800))
    values = np.concatenate([close, far], axis=1)
    wide = dataset.isel(model=[0]).drop_vars("mean_eigenvalues")
    wide["mean_eigenvalues"] = (
        ("model", "component", "layer", "wide"),
        np.broadcast_to(values[0] + 1j * values[1], (1, len(COMPONENTS), LAYERS, 1000)),
    )
    infos = INFOS[0].model_copy(update={"d_model": 1000}).model_dump_json()
    figure = draw("cloud", wide.assign_attrs(models=f"[{infos}]"))
    level = 10 ** labelled(figure, "eigenvalues", Points).values
    # 800 on an area of 4 have density 200; each also counts itself, on nine cells of 1/48 of the side
    assert level[200:].mean() == pytest.approx(200 + 1 / (9 * (2 / 48) ** 2), rel=0.15)
    assert np.median(level[:200]) > 10 * np.median(level[200:])


def test_small_multiples_show_every_layer_and_lead_to_it(dataset):
    figure = draw("clouds", dataset, Selection(0, 4))
    panels = [panel for row in figure.rows for panel in row]
    assert [p.pick for p in panels] == [Pick(model=0, layer=i) for i in range(LAYERS)]
    assert [p.current for p in panels] == [i == 4 for i in range(LAYERS)]
    own = [p.x.limits[1] for row in draw("clouds", dataset, range="own").rows for p in row]
    radii = dataset["spectral_radius"].sel(component="block").values[0]
    np.testing.assert_allclose(own, 1.08 * np.maximum(1, radii))


def test_profiles_are_the_statistics_with_baselines_and_condition_number(dataset):
    figure = draw("depth", dataset, component="residual")
    lines = {p.y.label: m for row in figure.rows for p in row for m in p.marks if m.label == "mean Jacobian"}
    of = dataset.sel(component="residual").isel(model=0)
    np.testing.assert_array_equal(lines["Henrici departure"].y, of["henrici"].values)
    sigma = of["mean_singular_values"].values
    np.testing.assert_allclose(lines["condition number σ₁/σ_d"].y, sigma[:, 0] / sigma[:, -1])
    rules = [m for m in marks(figure, Rule) if m.axis == "y"]
    assert [rule.at for rule in rules] == [K / D] * 2


def test_regimes_are_found_where_a_statistic_steps(dataset):
    layers = 16
    steps = np.where(np.arange(layers) < 5, 0.2, 0.7) + 0.01 * np.sin(np.arange(layers) * 2.3)
    head = ("model", "component", "layer")
    deep = dataset[["component"]].assign(henrici=(head, np.broadcast_to(steps, (1, 4, layers))))
    infos = INFOS[0].model_copy(update={"n_layers": layers}).model_dump_json()
    figure = draw("depth", deep.assign_attrs(models=f"[{infos}]"))
    change = [m for m in marks(figure, Rule) if m.label == "change point"]
    assert [rule.at for rule in change] == [4.5]
    level = labelled(figure, "regimes")
    np.testing.assert_allclose(level.y[[0, 3]], [steps[:5].mean(), steps[5:].mean()])
    np.testing.assert_array_equal(level.x[[0, 1, 3, 4]], [-0.5, 4.5, 4.5, 15.5])
    thirds = labelled(draw("depth", deep.assign_attrs(models=f"[{infos}]"), regimes="thirds"), "mean of each third")
    np.testing.assert_allclose(thirds.y[[0, 3, 6]], [steps[:5].mean(), steps[5:11].mean(), steps[11:].mean()])


def test_the_fitted_slope_is_that_of_least_squares(dataset):
    figure = draw("spectrum", dataset, Selection(0, 1), component="attn")
    line = next(m for m in marks(figure, Line) if m.label.startswith("fit"))
    sigma = dataset["mean_singular_values"].sel(component="attn").values[0, 1]
    rank = np.arange(10, D + 1)
    slope, intercept = np.polyfit(np.log(rank), np.log(sigma[9:]), 1)
    np.testing.assert_allclose(line.y, np.exp(intercept + slope * np.log(rank)), rtol=1e-10)
    np.testing.assert_array_equal(line.x, rank)
    without = draw("spectrum", dataset.drop_vars("mean_alpha_rank"), Selection(0, 1))
    assert not [m for m in marks(without, Line) if m.label.startswith("fit")]


def test_columns_and_navigator_are_heatmaps_that_lead_to_layers(dataset):
    norms = dataset["column_norm"].sel(component="block").values[0]
    image = marks(draw("columns", dataset, relative=False), Image)[0]
    np.testing.assert_array_equal(image.z, norms)
    np.testing.assert_allclose(marks(draw("columns", dataset), Image)[0].z[2] * np.median(norms[2]), norms[2])
    assert image.picks[3][7] == Pick(model=0, layer=3, unit=7)
    assert [rule.at for rule in marks(draw("columns", dataset, Selection(unit=7)), Rule)] == [7.0]
    image = marks(draw("navigator", dataset, Selection(0, 5), statistic="delta"), Image)[0]
    order = ["block", "residual", "attn", "mlp"]
    np.testing.assert_allclose(image.z, np.median(dataset["delta"].sel(component=order).values[0], axis=-1))
    assert image.picks[1][4] == Pick(model=0, layer=4)
    assert image.marked == tuple((row, 5) for row in range(4))


# Products and models


def test_the_funnel_shows_every_model_and_the_product_of_the_selected_layer(dataset):
    figure = draw("funnel", dataset, Selection(0, 3))
    ranks, spectra, exponents = figure.rows[0]
    lines = [m for m in ranks.marks if isinstance(m, Line)]
    assert [m.label for m in lines] == [info.label for info in INFOS]
    for m, line in enumerate(lines):
        expected = dataset["cumulative_effective_rank"].values[m, : INFOS[m].n_layers]
        np.testing.assert_array_equal(line.y, expected)
    sigma = dataset["cumulative_singular_values"].values[0, 3]
    np.testing.assert_allclose(spectra.marks[0].y, sigma / sigma[0])
    np.testing.assert_array_equal(exponents.marks[0].y, dataset["cumulative_exponents"].values[0, 3])
    assert len(marks(draw("funnel", dataset, others=False), Line)) == 3


def test_surgery_draws_the_mean_over_draws_and_every_draw(dataset):
    figure = draw("surgery", dataset, Selection(0, 2), start="selected")
    ranks = dataset["surgery_effective_rank"].values[0]
    control = labelled(figure, "control A: random instead of triangular")
    np.testing.assert_array_equal(control.x, DOSES)
    np.testing.assert_allclose(control.y, ranks[1, :, 2].mean(-1))
    points = labelled(figure, control.label, Points)
    assert sorted(points.y) == sorted(ranks[1, :, 2].ravel())
    ratio = ranks[0, 0, 2].mean() / ranks[0, 2, 2].mean()
    assert f"{ratio:.3g} times the model’s" in figure.note
    assert "12%" in figure.note
    by_layer = labelled(figure, "dose 0.5")
    np.testing.assert_allclose(by_layer.y, ranks[0, 1].mean(-1))


def test_models_are_compared_over_relative_depth_with_intervals(dataset):
    figure = draw("compare", dataset)
    lines = [m for m in marks(figure, Line) if m.label == "m, step 0"]
    np.testing.assert_allclose(lines[0].x, np.arange(5) / 4)
    at = COMPONENTS.index("block")
    np.testing.assert_array_equal(lines[0].y, dataset["rho_interval"].values[2, at, :5, 1])
    band = next(m for m in marks(figure, Band) if m.label == "m")
    np.testing.assert_array_equal(band.low, dataset["rho_interval"].values[0, at, :, 0])
    twin, own = (next(m for m in marks(figure, Line) if m.label == info.label) for info in (INFOS[1], INFOS[0]))
    assert twin.dash
    assert twin.color == own.color != lines[0].color


# The inspector


def test_the_reading_sets_the_sample_beside_the_twin(dataset):
    inspection = INSPECT(dataset, Selection(0, 2, sample=OUTLIER))
    rows = {row.symbol: row for row in inspection.rows}
    rho = dataset["rho"].sel(component="mlp").values
    assert (rows["σ₁ MLP"].value, rows["σ₁ MLP"].null) == (rho[0, 2, OUTLIER], rho[1, 2, OUTLIER])
    henrici = dataset["henrici"].sel(component="block").values
    assert (rows["Henrici block"].value, rows["Henrici block"].null) == (henrici[0, 2], henrici[1, 2])
    assert inspection.title == f"Layer 2, sample {OUTLIER}"
    assert "in context" in inspection.subtitle
    assert "MLP 100%" in inspection.verdict


def test_the_inspector_shows_three_columns_and_goes_back_to_five(qtbot, dataset):
    from gui.panes.inspector import Inspector
    from gui.views.inspection import Inspection, Row

    inspector = Inspector()
    qtbot.addWidget(inspector)
    inspector.show_inspection(INSPECT(dataset, Selection()))
    assert [not cell.isHidden() for cell in inspector._cells[1]] == [True] * 3 + [False] * 2
    assert inspector.text().splitlines()[1] == "\tvalue\ttwin"
    assert all(line.count("\t") == 2 for line in inspector.text().splitlines()[2:-1])
    inspector.show_inspection(Inspection("x", rows=(Row("λ", "", 1.0, 2.0, 0.5, 0.5),)))
    assert [not cell.isHidden() for cell in inspector._cells[1]] == [True] * 5


def test_a_sample_that_was_left_out_and_a_layer_on_its_way_say_so(dataset):
    rho = dataset["rho"].values.copy()
    rho[..., 4] = np.nan
    lost = dataset.assign(rho=(dataset["rho"].dims, rho))
    assert "left out" in INSPECT(lost, Selection(0, 1, sample=4)).verdict
    assert "not been computed" in INSPECT(jacobians_dataset(2), Selection(0, 5)).verdict


def test_every_view_is_listed_by_its_analysis():
    assert {view.analysis for view in VIEWS} == {"jacobians"}
    assert len({view.name for view in VIEWS}) == len(VIEWS)
