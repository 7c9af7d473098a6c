"""The views of attention, on a dataset whose numbers are made by numpy."""

import json

import numpy as np
import pytest
import xarray as xr

from engine.models.info import ModelInfo
from gui.figure import Image, Points
from gui.selection import Pick, Selection
from gui.views.attention import NAVIGATOR, READ, STATISTICS, VIEWS, LayerOptions, NavigatorOptions

LAYERS, HEADS, SAMPLES, TOKENS = 3, 4, 6, 25


def info(label: str, twin: bool) -> ModelInfo:
    return ModelInfo(
        label=label, source="m", revision=None, twin=twin, architecture="T", family="llama", causal=True,
        n_layers=LAYERS, d_model=8, n_heads=HEADS, n_kv_heads=4, d_head=2, vocab_size=10, context=32, n_parameters=1,
        storage_dtype="float32", norm="rmsnorm", rotary=False, qk_norm=False, identity=label, load_bytes=1,
    )  # fmt: skip


@pytest.fixture
def dataset() -> xr.Dataset:
    rng = np.random.default_rng(0)
    infos = [info("m", False), info("m (random twin)", True)]
    shape = (2, LAYERS, HEADS, SAMPLES)
    ds = xr.Dataset({name: (("model", "layer", "head", "sample"), rng.uniform(1, 4, shape)) for name in STATISTICS})
    ds["sink"] = ds["sink"] / 10
    ds["sink"][0, 2, 1] = 0.9
    ds["tokens"] = ("model", "sample"), np.full((2, SAMPLES), TOKENS)
    ds.attrs = {"models": json.dumps([one.model_dump() for one in infos]), "notes": json.dumps(["one note"])}
    return ds


def test_every_head_stands_in_its_layer_at_its_mean(dataset):
    dataset["entropy"][0, 1, 2, 3:] = np.nan  # samples that have not arrived
    (view,) = VIEWS
    figure = view.draw(dataset, Selection(layer=1, head=2), LayerOptions(statistic="entropy"))
    (panel,) = figure.rows[0]
    heads = next(mark for mark in panel.marks if isinstance(mark, Points) and mark.label == "heads")
    at = heads.picks.index(Pick(model=0, layer=1, head=2))
    assert heads.y[at] == pytest.approx(dataset["entropy"].values[0, 1, 2, :3].mean())
    assert round(float(heads.x[at])) == 1
    assert {mark.label for mark in panel.marks} >= {"mean over heads", "random-init twin, mean over heads", "selected"}
    assert figure.note == "one note"


def test_the_navigator_outlines_the_selected_head(dataset):
    figure = NAVIGATOR.draw(dataset, Selection(layer=2, head=1), NavigatorOptions(statistic="sink"))
    (image,) = figure.rows[0][0].marks
    assert isinstance(image, Image)
    assert image.marked == ((1, 2),)
    assert image.z[1, 2] == pytest.approx(0.9)
    assert image.picks[1][2] == Pick(model=0, layer=2, head=1)


def test_the_reading_says_what_kind_of_head_it_is(dataset):
    reading = READ(dataset, Selection(layer=2, head=1))
    share = dataset["spectral_norm"].values[0, 2, 1].mean() / TOKENS**0.5
    assert reading.verdict.startswith("A sink head: its tokens put 90%")
    assert f"{share:.0%} of the bound" in reading.verdict
    row = next(row for row in reading.rows if row.symbol == "‖A‖₂")
    assert row.null == pytest.approx(dataset["spectral_norm"].values[1, 2, 1].mean())
    assert READ(dataset, Selection(layer=0, head=0)).verdict.startswith("Its tokens")


def test_what_is_not_there_says_what_to_do(dataset):
    (view,) = VIEWS
    without = dataset.drop_vars("erank")
    assert "Ask for them in a new run" in view.draw(without, Selection(), LayerOptions(statistic="erank")).empty
    nothing = dataset.where(False)
    nothing.attrs = dataset.attrs
    assert "arrived" in view.draw(nothing, Selection(), LayerOptions()).empty
    assert "arrived" in NAVIGATOR.draw(nothing, Selection(), NavigatorOptions()).empty
    assert "arrived" in READ(nothing, Selection()).verdict
