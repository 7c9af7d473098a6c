"""The communities views draw what a real run of a small model found, for every layer, and while it goes on."""

import itertools
import json
from typing import get_args

import numpy as np
import pytest
import torch
from window_parts import save_model

from engine.analyses.header import assemble
from engine.analyses.parameters import validate
from engine.analyses.registry import get_analysis
from engine.request import DataSpec, ModelSpec, Request
from engine.runs.loop import execute, start
from engine.sessions.store import Session
from gui.plots.figure import Band, Image, Line, Points, Rule, Segments
from gui.plots.selection import Selection
from gui.views.communities.views import INSPECT, NAVIGATOR, VIEWS

VIEW = {view.name: view for view in (*VIEWS, NAVIGATOR)}
LAYERS, D, SAMPLES = 4, 32, 60
PARAMS = {"samples": "windows", "top_k": 5, "restarts": 2, "permutations": 199, "partitions": 20, "k": 8}


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """The run's request, models and committed units."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("communities")
    model = save_model(folder / "m", LAYERS, D)
    np.save(folder / "ids.npy", np.random.default_rng(0).integers(0, 64, (SAMPLES, 9)))
    specs = ModelSpec(source=str(model)), ModelSpec(source=str(model), twin=True)
    data = DataSpec(source=str(folder / "ids.npy"), samples=SAMPLES, length=9)
    request = Request(analysis="communities", params=PARAMS, models=specs, data=data, device="cpu")
    with Session.create(folder / "s.eigenscope") as session:
        run = start(session, request)
        seen = []
        execute(session, run, seen.append, lambda: False)
        assert run.finished, seen[-1]
        return run.request, run.models, {key: run.read_unit(key).load() for key in run.plan}


def assembled(parts, layers=LAYERS, model=1):
    """The result with the first `layers` layers of the models up to `model`."""
    request, models, units = parts
    analysis = get_analysis("communities")
    arrived = {k: u for k, u in units.items() if int(k[1]) <= model and ("layer" not in k or int(k[-3:]) < layers)}
    return assemble(analysis, request, validate(analysis, request.params), models, arrived)


@pytest.fixture(scope="module")
def dataset(parts):
    return assembled(parts)


def draw(name, dataset, selection=Selection(), **options):  # noqa: B008 - frozen
    return VIEW[name].draw(dataset, selection, VIEW[name].options(**options))


def marks(figure, kind):
    return [mark for row in figure.rows for panel in row for mark in panel.marks if isinstance(mark, kind)]


def choices(view):
    """Every combination of a view's options that are chosen from a few."""
    fields = {
        n: get_args(f.annotation) or (False, True)
        for n, f in view.options.model_fields.items()
        if f.annotation is not int
    }
    return [dict(zip(fields, values, strict=True)) for values in itertools.product(*fields.values())]


@pytest.mark.parametrize("name", VIEW)
def test_every_view_draws_every_model_with_every_option(dataset, name):
    for model, layer in ((0, 0), (1, LAYERS - 1)):
        for options in choices(VIEW[name]):
            figure = draw(name, dataset, Selection(model, layer, unit=D - 1), **options)
            assert not figure.empty
            assert figure.rows or figure.table is not None
            for mark in marks(figure, Line | Points):
                assert len(mark.x) == len(mark.y)
                assert len(mark.picks) in (0, 1, len(mark.x))
                assert len(mark.hover) in (0, len(mark.x))


@pytest.mark.parametrize("name", VIEW)
def test_every_view_draws_or_explains_what_has_not_arrived(parts, name):
    partial = assembled(parts, layers=2, model=0)
    for selection in (Selection(0, 1), Selection(0, 3), Selection(1, 0)):
        figure = draw(name, partial, selection)
        assert bool(figure.empty) != bool(figure.rows or figure.table)
    nothing = assembled(parts, layers=0, model=-1)
    assert draw(name, nothing).empty


def test_the_graph_has_every_unit_and_every_edge_once_each_sign_apart(dataset):
    figure = draw("graph", dataset, Selection(0, 2, unit=5), site="mlp", boundary=True)
    one = dataset.isel(model=0, layer=2).sel(site="mlp")
    edges = {mark.label.split()[0]: len(mark.x) for mark in marks(figure, Segments)}
    weight = one.edge_weight.values
    assert edges == {"positive": int((weight > 0).sum()), "negative": int((weight < 0).sum())}
    nodes = [mark for mark in marks(figure, Points) if mark.filled]
    assert sorted(pick.unit for mark in nodes for pick in mark.picks) == list(range(D))
    for mark in nodes:
        at = [pick.unit for pick in mark.picks]
        np.testing.assert_array_equal(np.stack([mark.x, mark.y], 1), one.position.values[at].astype(float))
    ringed = next(mark for mark in marks(figure, Points) if "boundary" in mark.label)
    assert len(ringed.x) == int(one.tail_top)
    low = np.sort(one.participation.values)[-len(ringed.x)]
    top = np.flatnonzero(one.participation.values >= low)
    np.testing.assert_allclose(np.sort(ringed.x), np.sort(one.position.values[top, 0].astype(float)))


def test_a_selected_unit_is_marked_in_every_view_of_units(dataset):
    selection = Selection(0, 2, unit=9)
    one = dataset.isel(model=0, layer=2, unit=9).sel(site="attn")
    places = {}
    for name in ("graph", "units", "matrix"):
        mark = next(m for m in marks(draw(name, dataset, selection), Points | Rule) if m.label == "unit 9")
        places[name] = mark.at if isinstance(mark, Rule) else (float(mark.x[0]), float(mark.y[0]))
    assert places["graph"] == tuple(one.position.values.astype(float))
    assert places["units"] == (float(one.participation), float(one.column_norm))
    assert dataset.order.values[0, 0, 2, int(places["matrix"])] == 9
    assert INSPECT(dataset, selection).title == "Layer 2, unit 9"


def test_a_community_keeps_its_colour_in_the_next_layer(dataset):
    from gui.views.communities.data import CommunitiesSlice

    of = CommunitiesSlice.of(dataset, Selection())
    here, there = of.colors("attn", 0), of.colors("attn", 1)
    lineage = dataset.lineage.isel(model=0).sel(site="attn").values
    kept = set(lineage[0][np.isfinite(lineage[0])]) & set(lineage[1][np.isfinite(lineage[1])])
    assert kept, "a community that lives on"
    for line in kept:
        member = [dataset.membership.values[0, 0, i] == list(lineage[i]).index(line) for i in (0, 1)]
        assert set(here[member[0]]) == set(there[member[1]]) == {int(line) % 8}


def test_the_matrix_is_the_correlation_of_units_in_the_order_of_communities(dataset):
    one = dataset.isel(model=0, layer=1).sel(site="attn")
    image = marks(draw("matrix", dataset, Selection(0, 1)), Image)[0]
    off = ~np.eye(D, dtype=bool)
    np.testing.assert_allclose(image.z[off], one.correlation_tiles.values[off])
    assert np.isnan(np.diag(image.z)).all()


def test_stars_stand_where_the_test_is_significant(dataset):
    some = dataset.copy()
    some["q_value"] = some.q_value.copy(data=np.where(np.arange(LAYERS) % 2 == 0, 0.01, 0.5) + 0 * some.q_value.values)
    figure = draw("effect", some, Selection())
    star = next(mark for mark in figure.rows[0][0].marks if isinstance(mark, Points))
    assert star.symbol == "star"
    assert set(star.x) <= {0.0, 2.0}
    np.testing.assert_array_equal(star.y, some.cohens_d.values[0, 0][star.x.astype(int)])


def test_flows_leave_and_enter_every_bar_in_full(dataset):
    figure = draw("flow", dataset, Selection(0, 1))
    bands = marks(figure, Band)
    heights = dict.fromkeys((0.3, 0.95), 0.0)
    for band in bands:
        at = np.flatnonzero(np.isfinite(band.x) & np.isnan(np.concatenate([[np.nan], band.x[:-1]])))
        heights[band.opacity] += float((band.high[at] - band.low[at]).sum())
    placed = np.isfinite(dataset.membership.values[0, 0]).sum(-1)
    assert heights[0.95] == placed.sum()
    assert heights[0.3] == placed[:-1].sum()


def test_a_reading_and_the_navigator(dataset):
    image = draw("navigator", dataset, Selection(layer=3)).rows[0][0].marks[0]
    np.testing.assert_array_equal(image.z, dataset.cohens_d.values[0])
    assert image.marked == ((0, 3), (1, 3))
    inspection = INSPECT(dataset, Selection(layer=1, unit=4))
    found = {row.symbol: (row.value, row.null) for row in inspection.rows}
    assert found["participation"] == tuple(dataset.participation.values[0, :, 1, 4])


def test_every_revision_stands_beside_the_one_twin_there_is(dataset):
    infos = json.loads(dataset.attrs["models"])
    other = dataset.copy()
    other.attrs["models"] = json.dumps([infos[0] | {"revision": "earlier"}, infos[1]])
    assert [panel.title for panel in draw("units", other).rows[0]] == [infos[0]["label"], infos[1]["label"]]
    assert len(draw("units", other, twin=False).rows[0]) == 1
    assert len(draw("units", other, Selection(1)).rows[0]) == 1


def test_the_table_has_every_detector_on_every_model_and_site(dataset):
    table = draw("detectors", dataset).table
    assert len(table.rows) == 2 * 2 * 3
    row = next(row for row in table.rows if row[:3] == (str(dataset.model.values[1]), "before the MLP", "Infomap"))
    one = dataset.isel(model=1).sel(site="mlp", detector="infomap")
    expected = np.median(one.detector_n_communities), one.detector_significant_share, one.detector_mean_d
    np.testing.assert_array_equal(row[3:6], np.array(expected, float))
