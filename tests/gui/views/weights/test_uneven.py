"""Views of a model whose layers differ: two widths of heads, and one layer without any."""

import numpy as np
import pytest
import torch
import xarray as xr

from engine.analyses.header import assemble
from engine.analyses.weights.analysis import WEIGHTS
from engine.analyses.weights.plan import WeightsParams
from engine.models.adapters import Block, Heads
from engine.models.info import HeadShape, ModelInfo
from engine.request import ModelSpec, Request
from gui.plots.figure import Band, Image, Line
from gui.plots.selection import Selection
from gui.views.weights.data import WeightsSlice
from gui.views.weights.head import DensityOptions, SpectrumOptions
from gui.views.weights.inspection import inspect_head
from gui.views.weights.model import NavigatorOptions, navigator
from gui.views.weights.views import VIEWS

D = 24
SHAPES = tuple(
    None if width is None else HeadShape(n_heads=count, n_kv_heads=2, d_head=width)
    for count, width in ((4, 6), (0, None), (2, 10), (4, 6))
)
INFO = ModelInfo(
    label="m", source="m", revision=None, twin=False, architecture="T", family="gemma4", causal=True, n_layers=4,
    d_model=D, n_heads=4, n_kv_heads=2, d_head=10, vocab_size=10, context=8, n_parameters=1, storage_dtype="float32",
    norm="rmsnorm", rotary=False, qk_norm=False, identity="m", load_bytes=1, head_shapes=SHAPES,
)  # fmt: skip
# The table of claims has no layers.
VIEW = {view.name: view for view in VIEWS if view.name != "claims"}


class RandomModel:
    info = INFO

    def block(self, layer: int) -> Block:
        shape, generator = INFO.heads_at(layer), torch.Generator().manual_seed(10 + layer)
        assert shape is not None

        def draw(*size: int) -> torch.Tensor:
            return torch.randn(*size, generator=generator)

        width = shape.d_head
        w_q = draw(shape.n_heads, width, D)
        if layer == 2:
            w_q[0] += 9 * torch.outer(draw(width), draw(D))
        heads = Heads(w_q, draw(2, width, D), draw(2, width, D), draw(shape.n_heads, D, width))
        return Block(layer, heads, attn_norm=None, rotary=None, qk_norm=False, softcap=None)


@pytest.fixture(scope="module")
def dataset() -> xr.Dataset:
    params = WeightsParams(null_draws=2000)
    request = Request(analysis="weights", params=params.model_dump(), models=(ModelSpec(source="m"),))
    compute, planned = WEIGHTS.compute(), WEIGHTS.units(request, params, [INFO])
    assert [unit.layer for unit in planned if unit.layer is not None] == [0, 2, 3]
    assert {unit.key.rsplit("-", 1)[0] for unit in planned if unit.layer is None} == {"null-6x24", "null-10x24"}
    units = {unit.key: compute(unit, request, params, RandomModel(), np.random.default_rng(1), {}) for unit in planned}
    return assemble(WEIGHTS, request, params, [INFO], units)


def test_each_head_is_tested_against_the_null_of_its_own_width(dataset: xr.Dataset) -> None:
    heads = np.isfinite(dataset["p_npr"].values[0])
    assert heads.sum(1).tolist() == [4, 0, 2, 4]
    assert dataset["width"].values.tolist() == [6, 10]
    weights = WeightsSlice.of(dataset, Selection())
    for layer, width in ((0, 6), (2, 10)):
        middle = weights.null("quantiles", layer)[1]
        assert middle.shape == (width,)
        ratio = weights.spectrum(layer, 1) / weights.scale(layer, 1) / middle
        assert np.all((ratio > 0.3) & (ratio < 3))
    # npr → 1/(1 + 2c), so the null of one width would not do for the other.
    levels = dataset["null_npr_by_width"].values[0, :, 1]
    np.testing.assert_allclose(levels, [1 / (1 + 2 * width / D) for width in (6, 10)], rtol=0.05)
    q = dataset["q_leading"].values[0]
    assert q[2, 0] < 0.05
    assert np.nanmin(np.delete(q.ravel(), 2 * 4)) > 0.05
    # Benjamini–Hochberg over the ten heads that there are.
    assert q[2, 0] == pytest.approx(10 * dataset["p_leading"].values[0, 2, 0])


@pytest.mark.parametrize("name", VIEW)
def test_every_view_draws_every_layer_or_says_that_it_has_no_heads(dataset: xr.Dataset, name: str) -> None:
    for layer in range(4):
        for head in (0, 3):
            figure = VIEW[name].draw(dataset, Selection(0, layer, head), VIEW[name].options())
            assert figure.rows or (layer == 1 and "Layer 1 has no softmax heads" in figure.empty)


def test_the_grid_of_heads_has_no_cell_to_click_where_there_is_no_head(dataset: xr.Dataset) -> None:
    image = next(
        m for m in navigator(dataset, Selection(), NavigatorOptions()).rows[0][0].marks if isinstance(m, Image)
    )
    clickable = np.array([[pick is not None for pick in row] for row in image.picks])
    np.testing.assert_array_equal(clickable, np.isfinite(image.z))
    assert clickable.sum(0).tolist() == [4, 0, 2, 4]


def test_bands_and_laws_are_those_of_the_selected_heads(dataset: xr.Dataset) -> None:
    ends = []
    for layer, width in ((0, 6), (2, 10)):
        marks = VIEW["spectrum"].draw(dataset, Selection(0, layer, 1), SpectrumOptions()).rows[0][0].marks
        band = next(mark for mark in marks if isinstance(mark, Band))
        assert len(band.x) == width
        density = VIEW["density"].draw(dataset, Selection(0, layer, 0), DensityOptions(pool="model"))
        law = next(m for m in density.rows[0][0].marks if isinstance(m, Line) and "product law" in m.label)
        ends.append(law.x[-1])
        assert f"all heads of width {width}" in density.title
    assert ends[0] < ends[1]


def test_the_inspector_counts_the_eigenvalues_of_the_head(dataset: xr.Dataset) -> None:
    assert "of 6 eigenvalues" in inspect_head(dataset, Selection(0, 0, 0)).verdict.replace("all 6", "of 6")
    assert "of 10 eigenvalues" in inspect_head(dataset, Selection(0, 2, 0)).verdict
    assert "Layer 1 has no softmax heads" in inspect_head(dataset, Selection(0, 1, 2)).verdict
