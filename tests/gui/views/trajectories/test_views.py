"""Views over training on a dataset whose every number is known."""

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from session_examples import models_attr
from trajectory_parts import EXAMPLE, LAYERS, ORDER, STEPS, TAU, TRAINING, info, make

from engine.analyses.registry import ANALYSES
from engine.resources import RESOURCES
from gui.plots.figure import Figure, Line, Points, Rule
from gui.plots.selection import Pick, Selection
from gui.views.trajectories.data import Trajectory, spectra, statistics
from gui.views.trajectories.views import trajectory_views

VIEW = {view.name: view for view in trajectory_views("x")}


@pytest.fixture(autouse=True)
def _declared(monkeypatch):
    monkeypatch.setitem(ANALYSES, "x", EXAMPLE)


def draw(name: str, dataset: xr.Dataset = TRAINING, selection: Selection | None = None, **options: object) -> Figure:
    view = VIEW[name]
    made = view.options_of(dataset)(**options)
    figure = view.draw(dataset, selection or Selection(model=2, layer=1, head=1), made)
    assert isinstance(figure, Figure)
    return figure


def marks(figure: Figure, kind: type, label: str = "", panel: tuple[int, int] = (0, 0)) -> list:
    found = figure.rows[panel[0]][panel[1]].marks
    return [m for m in found if isinstance(m, kind) and (not label or m.label == label)]


def test_what_can_be_followed_is_found_in_the_dataset_itself():
    assert tuple(statistics(TRAINING)) == ("npr", "rho")
    assert tuple(spectra(TRAINING)) == ("cloud", "eigenvalues")
    fields = VIEW["training"].options_of(TRAINING).model_fields
    assert list(fields) == ["statistic", "component", "curves", "change_points", "axis"]
    assert VIEW["training"].options_of(TRAINING) is VIEW["training"].options_of(make([info(0), info(1)]))


def test_views_are_offered_for_several_models_and_have_their_help_page():
    assert all(view.offered(TRAINING) for view in VIEW.values())
    assert not any(view.offered(TRAINING.isel(model=[0])) for view in VIEW.values())
    without = TRAINING.drop_vars(list(spectra(TRAINING)))
    assert [name for name, view in VIEW.items() if view.offered(without)] == ["training", "training_loss"]
    assert {view.help for view in VIEW.values()} == {"trajectories"}
    assert (RESOURCES / "help" / "trajectories.md").is_file()


def test_a_curve_goes_through_the_checkpoints_in_the_order_of_their_steps():
    figure = draw("training", statistic="npr")
    line = marks(figure, Line, "layer 1")[0]
    np.testing.assert_array_equal(line.x, [5, *STEPS[1:]])  # step 0 half a step before the first
    values = TRAINING.npr.values[np.argsort([STEPS[i] for i in ORDER]), 1].mean(-1)
    np.testing.assert_allclose(line.y, values)
    assert line.width > marks(figure, Line, "layer 0")[0].width
    assert line.picks[0] == Pick(model=ORDER.index(0), layer=1)
    assert marks(figure, Rule, "selected checkpoint")[0].at == 640
    at = marks(figure, Rule, "change point")
    assert [rule.at for rule in at] == [pytest.approx(np.sqrt(20 * 40))]
    assert "phases early, late" in figure.note


def test_heads_of_the_selected_layer_and_other_axes():
    figure = draw("training", statistic="npr", curves="heads", axis="linear")
    line = marks(figure, Line, "head 1")[0]
    np.testing.assert_array_equal(line.x, STEPS)
    assert line.picks[1] == Pick(model=ORDER.index(1), layer=1, head=1)
    assert draw("training", statistic="npr", axis="order").rows[0][0].x.ticks[0] == (0.0, "step0")


def test_of_samples_the_median_is_taken():
    line = marks(draw("training", statistic="rho", component="mlp"), Line, "layer 0")[0]
    np.testing.assert_array_equal(line.y, STEPS)


def test_labels_scale_and_reductions_are_those_of_the_declaration(monkeypatch):
    variables = tuple(
        replace(v, heads="sum") if v.name == "npr" else replace(v, samples="mean") if v.name == "rho" else v
        for v in EXAMPLE.variables
    )
    monkeypatch.setitem(ANALYSES, "x", replace(EXAMPLE, variables=variables))
    figure = draw("training", statistic="npr")
    expected = TRAINING.npr.values[np.argsort([STEPS[i] for i in ORDER]), 0].sum(-1)
    np.testing.assert_allclose(marks(figure, Line, "layer 0")[0].y, expected)
    assert figure.title == "NPR over training, sum over heads"
    finite = TRAINING.assign(rho=TRAINING.rho.where(np.isfinite(TRAINING.rho), 0.0))
    figure = draw("training", finite, statistic="rho", component="mlp")
    np.testing.assert_allclose(marks(figure, Line, "layer 0")[0].y, 0.8 * np.array(STEPS))
    axis = figure.rows[0][0].y
    assert (axis.label, axis.log) == ("spectral norm σ₁", True)


def test_a_twin_is_a_level_and_no_checkpoint():
    dataset = make([info(step) for step in STEPS] + [info(None, twin=True)])
    figure = draw("training", dataset, Selection(model=8, layer=2), statistic="npr")
    assert len(marks(figure, Line, "layer 2")[0].x) == len(STEPS)
    level = marks(figure, Rule, "random twin, layer 2")[0].at
    assert level == pytest.approx(dataset.npr.values[8, 2].mean())


def test_evolution_has_s2s_quantities_and_the_phase():
    figure = draw("training_spectrum", spectrum="cloud")
    now = marks(figure, Points, "selected checkpoint")[0]
    expected = TRAINING.cloud.values[2, 1, 1]
    np.testing.assert_allclose(now.x + 1j * now.y, expected)
    size = np.abs(expected)
    for place, value in (
        ((0, 1), size.max()), ((1, 0), size.sum() ** 2 / (size**2).sum()), ((1, 1), size.max() ** 2 / (size**2).sum()),
    ):  # fmt: skip
        assert marks(figure, Line, panel=place)[0].y[-1] == pytest.approx(value)
    assert "Phase by the change points of concentration: " in figure.note
    assert "m@step640" in figure.title
    ranks = draw("training_spectrum", spectrum="eigenvalues", trail=False)
    np.testing.assert_allclose(marks(ranks, Line)[0].y, size)


def test_relaxation_finds_the_times_that_are_in_the_data():
    figure = draw("training_relaxation", spectrum="eigenvalues", modes=3)
    points = marks(figure, Points, "τ", panel=(0, 1))[0]
    np.testing.assert_allclose(points.y, TAU, rtol=1e-3)
    assert "between 2 of 2 neighbours" in figure.note
    fit = next(m for m in marks(figure, Line) if m.color == "c2")
    inside = np.interp(5.0 * 2**3, fit.x, fit.y)  # step 40
    assert inside == pytest.approx(2 - np.exp(-40 / 120), rel=1e-2)


def test_unsure_times_are_rings_and_said():
    flat = TRAINING.assign(eigenvalues=TRAINING.eigenvalues * 0 + np.array([3.0, 2.0, 1.0]))
    note = draw("training_relaxation", flat, spectrum="eigenvalues", modes=3).note
    assert "No sure τ for modes 1, 2, 3: it does not change" in note


def test_against_loss_has_a_point_for_each_checkpoint():
    figure = draw("training_loss", statistic="npr")
    points = marks(figure, Points, "layer 1, head 1")[0]
    np.testing.assert_allclose(points.x, 8 - np.log1p(np.array(STEPS, float)))
    np.testing.assert_allclose(points.y, TRAINING.npr.values[np.argsort([STEPS[i] for i in ORDER]), 1, 1])
    assert points.picks[-1] == Pick(model=ORDER.index(7))
    unknown = TRAINING.assign_coords(held_out_loss=("model", np.full(8, np.nan)))
    assert "No loss of these checkpoints is known" in draw("training_loss", unknown, statistic="npr").empty
    measured = unknown.assign(loss=("model", np.arange(8.0)))
    assert np.isfinite(marks(draw("training_loss", measured, statistic="npr"), Points)[0].x).all()


def test_models_that_are_not_connected_are_named():
    mixed = make([info(0), info(10), info(20, layers=2), info(20, source="other")])
    note = draw("training", mixed, Selection(model=0), statistic="npr").note
    assert "another architecture: m@step20" in note
    assert "another training: other@step20" in note
    alone = draw("training", make([info(0), info(20, layers=2)]), Selection(model=0), statistic="npr")
    assert "stands alone" in alone.empty
    assert "another architecture" in alone.empty


def test_a_missing_checkpoint_leaves_a_gap_and_no_phases():
    values = TRAINING.npr.values.copy()
    values[2] = np.nan
    figure = draw("training", TRAINING.assign(npr=(TRAINING.npr.dims, values)), Selection(model=0), statistic="npr")
    assert np.isnan(marks(figure, Line, "layer 0")[0].y[-1])
    assert "phases" not in figure.note


def test_without_steps_there_is_an_order_but_no_relaxation():
    infos = [info(step).model_copy(update={"step": None}) for step in STEPS]
    dataset = make([info(step) for step in STEPS]).assign_attrs(models=models_attr(infos))
    assert draw("training", dataset, statistic="npr").rows[0][0].x.label == "checkpoint"
    assert "needs training steps" in draw("training_relaxation", dataset, spectrum="eigenvalues").empty


@pytest.mark.parametrize("name", VIEW)
def test_nothing_to_follow_is_said(name):
    empty = xr.Dataset(attrs=TRAINING.attrs, coords={"model": TRAINING.model})
    figure = VIEW[name].draw(empty, Selection(), VIEW[name].options_of(empty)())
    assert "nothing of the kind" in figure.empty


def test_one_checkpoint_of_many_draws_at_once():
    assert Trajectory(TRAINING, Selection(model=99, layer=99, head=99), {}).layer == LAYERS - 1
