"""The inspector's numbers and its sentence, on heads whose answer is known."""

import numpy as np
import pytest
import xarray as xr
from session_examples import INFO, models_attr

from gui.panes.inspector import Inspector, number, probability
from gui.plots.selection import Selection
from gui.views.weights.inspection import inspect_head

D_HEAD = 16


def dataset(law: float, naive: float, q: float, *, arrived: bool = True) -> xr.Dataset:
    """One layer of one head, in an array padded to two heads."""
    head = ("model", "layer", "head")
    value = lambda v: (head, np.array([[[v, np.nan]]]))  # noqa: E731
    ds = xr.Dataset({"leading": value(6.0 if arrived else np.nan), "unit_scale": value(2.0)})
    for name in ("npr", "entropy", "kappa"):
        ds[name] = value(0.5)
    for name in ("leading", "npr", "entropy", "kappa"):
        ds[f"null_{name}"] = (("model", "quantile"), np.array([[0.1, 0.7, 0.9]]))
        ds[f"p_{name}"] = value(q / 2)
        ds[f"q_{name}"] = value(q)
    ds["outside_law"], ds["outside_naive"] = value(law), value(naive)
    info = INFO.model_copy(update={"label": "tiny", "n_layers": 1, "n_heads": 1, "d_head": D_HEAD})
    return ds.assign_attrs(models=models_attr([info]))


@pytest.mark.parametrize(
    ("law", "naive", "q", "says", "outside"),
    [
        (3, 5, 0.001, "Leaves the product law: 3 of 16 eigenvalues outside the product law’s edges, 5 outside", True),
        (0, 0, 0.01, "unlike random weights in shape", True),
        (1, 4, 0.6, "Like random weights (smallest q 0.6): 1 of 16", False),
        (0, 4, 0.6, "Leaves only the naive law: 4 of 16", False),
        (0, 0, 0.6, "Inside both laws: all 16", False),
        (1, 4, np.nan, "The null is still being drawn", None),
    ],
)
def test_the_sentence_counts_the_laws_and_asks_the_null(law, naive, q, says, outside):
    inspection = inspect_head(dataset(law, naive, q), Selection())
    assert says in inspection.verdict
    assert inspection.outside is outside


def test_the_numbers_stand_in_the_units_of_the_head():
    leading, npr, *_ = inspect_head(dataset(0, 0, 0.6), Selection()).rows
    assert (leading.value, leading.null, leading.p, leading.q) == (6.0, 0.7 * 2.0, 0.3, 0.6)
    assert (npr.value, npr.null) == (0.5, 0.7)


def test_a_selection_beyond_a_smaller_model_reads_its_last_head():
    assert inspect_head(dataset(0, 0, 0.6), Selection(layer=9, head=1)).title == "Layer 0, head 0"


def test_what_has_not_arrived_says_so():
    inspection = inspect_head(dataset(0, 0, 0.6, arrived=False), Selection())
    assert inspection.rows == ()
    assert "not been computed yet" in inspection.verdict


def test_the_inspector_shows_and_copies_what_it_was_given(qtbot, qapp):
    pane = Inspector()
    qtbot.addWidget(pane)
    inspection = inspect_head(dataset(3, 5, 0.0001), Selection())
    pane.show_inspection(inspection)
    shown = [[cell.text() for cell in row] for row in pane._cells]
    assert shown[0] == ["", "value", "null", "p", "q"]
    assert shown[1] == ["λ₁", "6", "1.4", "< 0.001", "< 0.001"]
    assert pane.verdict.property("role") == "outside"
    pane.copy()
    assert qapp.clipboard().text().splitlines()[2].split("\t") == ["λ₁", "6.0", "1.4", "5e-05", "0.0001"]
    pane.show_inspection(None)
    assert pane.title.text() == "Nothing selected"
    assert pane.verdict.isHidden()


@pytest.mark.parametrize(
    ("value", "text"), [(float("nan"), "–"), (0.0, "0"), (1.23456, "1.235"), (1e-7, "1e-07"), (123456.7, "1.23e+05")]
)
def test_numbers(value, text):
    assert number(value) == text


def test_probabilities():
    assert [probability(p) for p in (0.0001, 0.04567, 1.0, float("nan"))] == ["< 0.001", "0.046", "1.000", "–"]
