"""The weights views draw what the dataset holds, for every head, also while layers are still missing."""

import json
from typing import get_args

import numpy as np
import pytest
import torch
import xarray as xr

from engine.analyses.header import assemble
from engine.analyses.registry import variables_of
from engine.analyses.weights.analysis import WEIGHTS
from engine.analyses.weights.plan import WeightsParams
from engine.analyses.weights.variables import TESTED
from engine.models.adapters.block import Block, Heads
from engine.models.info import ModelInfo
from engine.request import ModelSpec, Request
from gui.plots.figure import Band, Image, Line, Points, Steps
from gui.plots.selection import Pick, Selection
from gui.views.weights.head import DensityOptions, SpectrumOptions
from gui.views.weights.inspection import inspect_head
from gui.views.weights.model import CompareOptions, HeatmapOptions, LayersOptions
from gui.views.weights.views import NAVIGATOR, VIEWS

LAYERS, HEADS, KV, D_HEAD, D = 3, 4, 2, 6, 24
# The table of claims, the same for every analysis, has tests of its own.
VIEW = {view.name: view for view in (*VIEWS, NAVIGATOR) if view.name != "claims"}


class RandomModel:
    """An open model of random weights; head 0 of layer 0 has one planted strong direction."""

    def __init__(self, info: ModelInfo, seed: int, planted: bool) -> None:
        self.info = info
        self._generator = torch.Generator().manual_seed(seed)
        self._planted = planted

    def block(self, layer: int) -> Block:
        def draw(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, generator=self._generator)

        w_q, w_k = draw(HEADS, D_HEAD, D), draw(KV, D_HEAD, D)
        if layer == 0 and self._planted:
            w_q[0] += 6 * torch.outer(draw(D_HEAD), draw(D))
            w_k[0] += 6 * torch.outer(draw(D_HEAD), draw(D))
        heads = Heads(w_q, w_k, draw(KV, D_HEAD, D), draw(HEADS, D, D_HEAD))
        return Block(layer, heads, attn_norm=None, rotary=None, qk_norm=False, softcap=None)


def model_info(label: str, twin: bool, layers: int = LAYERS) -> ModelInfo:
    return ModelInfo(
        label=label, source=label.split(" ")[0], revision=None, twin=twin, architecture="T", family="llama",
        causal=True, n_layers=layers, d_model=D, n_heads=HEADS, n_kv_heads=KV, d_head=D_HEAD, vocab_size=10,
        context=8, n_parameters=1, storage_dtype="float32", norm="rmsnorm", rotary=False, qk_norm=False,
        identity=label, load_bytes=1,
    )  # fmt: skip


def measured(keep: slice = slice(None)) -> xr.Dataset:
    """The dataset of a model, its twin and a shallower model, from the units in `keep` alone."""
    infos = (model_info("m", False), model_info("m (random twin)", True), model_info("small", False, layers=2))
    params = WeightsParams(null_draws=400)
    specs = (ModelSpec(source="m"), ModelSpec(source="m", twin=True), ModelSpec(source="small"))
    request = Request(analysis="weights", params=params.model_dump(), models=specs)
    compute = WEIGHTS.compute()
    models = [RandomModel(info, seed, planted=seed == 0) for seed, info in enumerate(infos)]
    units = {
        unit.key: compute(unit, request, params, models[unit.model], np.random.default_rng(1), {})
        for unit in WEIGHTS.units(request, params, infos)[keep]
    }
    return assemble(WEIGHTS, request, params, infos, units)


@pytest.fixture(scope="module")
def dataset() -> xr.Dataset:
    return measured()


def marks(figure, kind):
    return [mark for row in figure.rows for panel in row for mark in panel.marks if isinstance(mark, kind)]


@pytest.mark.parametrize("name", VIEW)
def test_every_view_draws_every_head_of_every_model(dataset, name):
    for model in range(3):
        for layer in range(LAYERS):
            for head in range(HEADS):
                figure = VIEW[name].draw(dataset, Selection(model, layer, head), VIEW[name].options())
                assert figure.rows
                assert not figure.empty
                for mark in marks(figure, Line | Points):
                    assert len(mark.x) == len(mark.y) > 0
                    assert len(mark.picks) in (0, 1, len(mark.x))
                    assert len(mark.hover) in (0, len(mark.x))


@pytest.mark.parametrize("name", VIEW)
@pytest.mark.parametrize("units", [1, 2, 4])
def test_every_view_draws_or_explains_what_has_not_arrived(name, units):
    partial = measured(slice(units))
    for layer in range(LAYERS):
        figure = VIEW[name].draw(partial, Selection(0, layer, 0), VIEW[name].options())
        assert bool(figure.rows) != bool(figure.empty)
        if not figure.rows:
            assert "arrived" in figure.empty


def test_the_spectrum_drawn_is_the_spectrum_stored(dataset):
    figure = VIEW["spectrum"].draw(dataset, Selection(0, 1, 2), SpectrumOptions())
    line = next(m for m in marks(figure, Line) if m.label == "this head")
    np.testing.assert_array_equal(line.y, dataset["qk_eigenvalues"].values[0, 1, 2])
    band = marks(figure, Band)[0]
    scale = dataset["unit_scale"].values[0, 1, 2]
    np.testing.assert_allclose(band.high, dataset["null_quantiles"].values[0, 2] * scale)
    assert (band.low < band.high).all()


def test_relative_units_bring_model_and_twin_to_one_scale(dataset):
    figure = VIEW["spectrum"].draw(dataset, Selection(0, 1, 2), SpectrumOptions(units="relative"))
    for line in marks(figure, Line):
        if line.label in ("this head", "random-init twin"):
            assert line.y.sum() == pytest.approx(D_HEAD, rel=0.5)


@pytest.mark.parametrize("axis", ["log", "linear"])
@pytest.mark.parametrize("pool", ["head", "layer", "model"])
def test_densities_integrate_to_one(dataset, axis, pool):
    figure = VIEW["density"].draw(dataset, Selection(0, 1, 0), DensityOptions(axis=axis, pool=pool))
    steps = marks(figure, Steps)[0]
    widths = np.diff(np.log(steps.edges)) if axis == "log" else np.diff(steps.edges)
    assert (steps.height * widths).sum() == pytest.approx(1)
    for law in marks(figure, Line):
        x = np.log(law.x) if axis == "log" else law.x
        assert np.trapezoid(law.y, x) == pytest.approx(1, abs=0.01)


def test_a_planted_head_is_told_from_heads_that_only_leave_the_naive_law(dataset):
    figure = VIEW["layers"].draw(dataset, Selection(), LayersOptions(statistic="npr"))
    classes = {mark.label: mark for mark in marks(figure, Points)}
    outside = next(mark for label, mark in classes.items() if label.startswith("leaves the product null"))
    assert outside.picks == (Pick(model=0, layer=0, head=0), Pick(model=0, layer=0, head=1)) or outside.picks == (
        Pick(model=0, layer=0, head=0),
    )
    assert len(classes["leaves only the naive law"].picks) > 0


def test_the_zero_bin_is_outside_the_colour_scale(dataset):
    figure = VIEW["heatmap"].draw(dataset, Selection(), HeatmapOptions(show="densities"))
    image = marks(figure, Image)[0]
    positive = image.z[:, 1:][image.z[:, 1:] > 0]
    assert image.limits == (positive.min(), positive.max())
    assert image.z[:, 0].min() > 0
    assert image.z.shape[0] == LAYERS * HEADS


def test_clicking_a_heatmap_row_selects_its_head(dataset):
    image = marks(VIEW["heatmap"].draw(dataset, Selection(), HeatmapOptions()), Image)[0]
    assert image.picks[1 * HEADS + 3][0] == Pick(model=0, layer=1, head=3)


def test_models_are_compared_over_relative_depth(dataset):
    lines = marks(VIEW["compare"].draw(dataset, Selection(), CompareOptions()), Line)
    npr = [line for line in lines if line.label == "small"][1]
    np.testing.assert_allclose(npr.x, [0, 1])
    np.testing.assert_allclose(npr.y, dataset["npr"].values[2, :2].mean(-1))
    twin = next(line for line in lines if line.label == "m (random twin)")
    own = next(line for line in lines if line.label == "m")
    assert twin.dash
    assert twin.color == own.color
    assert own.markers


def test_lines_of_many_models_are_drawn_without_dots(dataset):
    infos = [model_info(f"m{number}", False) for number in range(100)]
    facts = json.dumps([info.model_dump(mode="json") for info in infos])
    many = dataset.isel(model=[0] * 100).assign_attrs(models=facts)
    lines = marks(VIEW["compare"].draw(many, Selection(), CompareOptions()), Line)
    assert len(lines) == 400
    assert not any(line.markers for line in lines)


@pytest.mark.parametrize("matrix", ["QK", "OV"])
def test_labels_and_choices_are_those_of_the_declaration(dataset, matrix):
    declared = variables_of("weights")
    choices = get_args(LayersOptions.model_fields["statistic"].annotation)
    assert set(choices) == {n for n, v in declared.items() if v.role == "statistic" and not n.startswith("ov_")}
    for name in choices:
        variable = declared.get(f"ov_{name}", declared[name]) if matrix == "OV" else declared[name]
        options = LayersOptions(statistic=name, matrix=matrix)
        axis = VIEW["layers"].draw(dataset, Selection(), options).rows[0][0].y
        assert (axis.label, axis.log) == (variable.label, variable.log)
    rows = inspect_head(dataset, Selection(), matrix).rows
    assert [row.symbol for row in rows] == [declared[name].symbol for name in TESTED]


def test_every_view_is_listed_by_its_analysis(dataset):
    assert {view.analysis for view in VIEWS} == {"weights"}
    assert [info["label"] for info in json.loads(dataset.attrs["models"])] == list(dataset["model"].values)
