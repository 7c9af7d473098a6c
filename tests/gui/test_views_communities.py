"""Views of communities drawn from a small made-up result: what is drawn is what the dataset says."""

import numpy as np
import pytest
import xarray as xr

from gui.figure import Line, Points
from gui.selection import Selection
from gui.views.communities import NAVIGATOR, READ, VIEWS

MODELS, LAYERS, UNITS = ("a", "a (random twin)"), 4, 10


@pytest.fixture
def dataset() -> xr.Dataset:
    rng = np.random.default_rng(0)
    head, by_unit = ("model", "site", "layer"), ("model", "site", "layer", "unit")
    scalars = ("cohens_d", "q_value", "variance_z", "variance_q", "n_communities", "nmi_next", "self_alignment")
    units = ("membership", "participation", "within_degree_z", "column_norm")
    ds = xr.Dataset({name: (head, rng.random((2, 2, LAYERS))) for name in scalars})
    ds = ds.assign({name: (by_unit, rng.random((2, 2, LAYERS, UNITS))) for name in units})
    ds["q_value"].values[0, 0] = [0.01, 0.5, 0.04, 0.9]
    for name in (*scalars, *units):
        ds[name].values[1, :, 2:] = np.nan  # the twin's last layers have not arrived
    return ds.assign_coords(model=list(MODELS), site=["attn", "mlp"], layer=np.arange(LAYERS))


def test_effects_by_layer_with_dots_where_significant(dataset):
    (view,) = VIEWS
    figure = view.draw(dataset, Selection(), view.options())
    marks = figure.rows[0][0].marks
    lines = [mark for mark in marks if isinstance(mark, Line)]
    assert [line.label for line in lines] == list(MODELS)
    np.testing.assert_array_equal(lines[0].y, dataset.cohens_d.values[0, 0])
    dots = next(mark for mark in marks if isinstance(mark, Points))
    np.testing.assert_array_equal(dots.x, [0, 2])
    assert lines[1].picks[3].layer == 3
    assert lines[1].picks[3].model == 1
    other = view.draw(dataset, Selection(), view.options(statistic="nmi_next", site="mlp"))
    np.testing.assert_array_equal(other.rows[0][0].marks[0].y, dataset.nmi_next.values[0, 1])


def test_the_navigator_and_a_reading(dataset):
    figure = NAVIGATOR.draw(dataset, Selection(layer=3), NAVIGATOR.options())
    image = figure.rows[0][0].marks[0]
    np.testing.assert_array_equal(image.z, dataset.cohens_d.values[0])
    assert image.marked == ((0, 3), (1, 3))
    reading = READ(dataset, Selection(layer=1, unit=4))
    found = {row.symbol: (row.value, row.null) for row in reading.rows}
    assert found["participation"] == tuple(dataset.participation.values[0, :, 1, 4])
    assert "not been computed" in READ(dataset, Selection(model=1, layer=3)).verdict


def test_nothing_yet_says_so(dataset):
    nothing = dataset.where(False)
    for view in (*VIEWS, NAVIGATOR):
        assert "has been computed" in view.draw(nothing, Selection(), view.options()).empty
