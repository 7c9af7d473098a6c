"""Views over training in a panel: their tabs come and go with the dataset, and their choices are its own."""

import json

import pytest
import xarray as xr
from trajectory_parts import EXAMPLE, TRAINING

from engine.analyses.registry import ANALYSES
from gui.panes.workspace import ViewPanel, views_of
from gui.plots.figure import Figure
from gui.plots.selection import Pick, Selection
from gui.state.selection import SelectionModel
from gui.views.base import Options, View
from gui.views.trajectories.views import trajectory_views

PLAIN = View("plain", "Plain", "x", "weights", Options, lambda *_: Figure(empty="plain"))


@pytest.fixture(autouse=True)
def _declared(monkeypatch):
    monkeypatch.setitem(ANALYSES, "x", EXAMPLE)


@pytest.fixture
def panel(qtbot):
    made = ViewPanel((PLAIN, *trajectory_views("x")), SelectionModel())
    qtbot.addWidget(made)
    made.figure_area.load()
    made.resize(900, 600)
    made.show()
    return made


def shown_tabs(panel: ViewPanel) -> list[str]:
    return [panel.tabs.tabText(i) for i in range(panel.tabs.count()) if panel.tabs.isTabVisible(i)]


def one_model() -> xr.Dataset:
    infos = json.loads(TRAINING.attrs["models"])[:1]
    return TRAINING.isel(model=[0]).assign_attrs(models=json.dumps(infos))


def test_every_analysis_has_them_last():
    assert [view.title for view in views_of("weights")[-4:]] == ["Training", "Evolution", "Relaxation", "Against loss"]
    assert {view.analysis for view in views_of("jacobians")} == {"jacobians"}


def test_tabs_are_there_for_several_models_only(panel):
    assert shown_tabs(panel) == ["Plain"]
    panel.step(1)
    assert panel.view.name == "plain"
    panel.show_dataset(TRAINING)
    assert shown_tabs(panel) == ["Plain", "Training", "Evolution", "Relaxation", "Against loss"]
    panel.step(1)
    assert panel.view.name == "training"
    panel.show_dataset(one_model())
    assert shown_tabs(panel) == ["Plain"]
    assert panel.view.name == "plain"


def test_choices_are_those_of_the_dataset_and_outlive_it(panel):
    panel.show_dataset(TRAINING)
    panel.set_view("training")
    form = panel.forms["training"]
    form.set_value(form.model(statistic="rho", component="mlp"))
    panel.show_dataset(TRAINING.copy())
    assert panel.forms["training"] is form, "the same choices, the same form"
    panel.show_dataset(TRAINING.assign(extra=TRAINING.npr))
    assert panel.forms["training"] is not form
    assert panel.options().statistic == "rho"
    assert "extra" in str(panel.forms["training"].model.model_fields["statistic"])
    panel.show_dataset(TRAINING.drop_vars("rho"))
    assert panel.options().statistic == "npr"
    panel.show_dataset(TRAINING)
    assert panel.options().component == "mlp", "what there was no choice of is remembered"


def test_what_a_session_kept_waits_for_its_dataset(panel):
    panel.restore({"view": "training", "options": {"training": {"statistic": "rho", "component": "mlp"}}})
    assert panel.state()["options"]["training"] == {"statistic": "rho", "component": "mlp"}
    panel.show_dataset(TRAINING)
    assert panel.view.name == "training"
    assert (panel.options().statistic, panel.options().component) == ("rho", "mlp")
    assert "over training" in panel.figure_area.figure.title


def test_the_selection_moves_every_view(panel):
    panel.show_dataset(TRAINING)
    panel.selection.set(Selection(model=0, layer=1))
    for name in ("training", "training_spectrum", "training_relaxation", "training_loss"):
        panel.set_view(name)
        panel.selection.pick(Pick(model=2))
        assert panel.figure_area.figure.rows, name
