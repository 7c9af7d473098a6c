"""Results of models whose layers differ: absent heads are absent, and what rests on rows that sum to one says so."""

from collections.abc import Iterator
from copy import deepcopy

import numpy as np
import pytest
import transformers as hf
import xarray as xr
from subjects import FAMILIES, VOCAB, Subject, Workshop, constants
from uneven_models import UNEVEN

from engine.analyses.header import Header
from engine.models.opening import describe
from engine.models.sites import sites
from engine.request import ModelSpec

HYBRID, SINKS = "jamba", "gpt_oss"


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    def maker(name: str) -> hf.PreTrainedModel:
        config = deepcopy(UNEVEN[name])
        config.update({"vocab_size": VOCAB, "bos_token_id": 0, "eos_token_id": 0, "initializer_range": 0.3})
        return hf.AutoModelForCausalLM.from_config(config)

    with pytest.MonkeyPatch.context() as patch, constants():
        for name in (HYBRID, SINKS):
            patch.setitem(FAMILIES, name, lambda name=name: maker(name))
        shop = Workshop(tmp_path_factory.mktemp("uneven"))
        with shop.session:
            yield shop


def result(workshop: Workshop, analysis: str, family: str, **params: object) -> xr.Dataset:
    return Subject(workshop, analysis, (family,)).computed(**params)


def test_layers_without_heads_stay_empty(workshop: Workshop) -> None:
    for analysis, name in (("weights", "leading"), ("attention", "entropy")):
        ds = result(workshop, analysis, HYBRID)
        there = np.isfinite(ds[name].values[0]).reshape(2, -1).any(1)
        assert there.tolist() == [False, True]
        assert any("1 of its" in note for note in Header.of(ds).notes)
    ds = result(workshop, "gradients", HYBRID)
    assert np.isfinite(ds["alpha_rank"].values[0, 0]).tolist() == [False, True]
    assert "layers.1." in str(ds["weight"].values[0, 1])


def test_a_hybrid_says_what_each_layer_has(workshop: Workshop) -> None:
    info = describe(ModelSpec(source=str(workshop.model(HYBRID))))
    assert [info.head_count(layer) for layer in range(2)] == [0, 6]
    assert (info.total_heads, info.headed_layers) == (6, (1,))
    assert any("1 of its 2 layers have softmax heads" in notice for notice in info.notices)
    model = workshop.opened(ModelSpec(source=str(workshop.model(HYBRID)), dtype="float64"))
    assert model.layer_hash(0) != model.layer_hash(1)
    names = {
        layer: {site.name for site in sites(model.module(), "sublayers") if site.layer == layer} for layer in (0, 1)
    }
    assert names[1] - names[0] >= {"attn_out", "final_norm"}
    assert {"ln1", "ln2", "block"} <= names[0]


def test_rows_with_a_sink_sum_to_less_than_one(workshop: Workshop) -> None:
    ds = result(workshop, "attention", SINKS)
    matrices = ds["matrices"].values[0]
    rows = matrices.sum(-1)[np.isfinite(matrices).all(-1)]
    assert rows.max() < 1
    header = Header.of(ds)
    assert any("rows do not sum to 1" in note for note in header.notes)
    claim = next(claim for claim in header.claims if "unit disk" in claim.statement)
    assert claim.verdict == "cannot say"
    assert "learned sinks" in claim.measurement


def test_a_layer_of_a_hybrid_has_a_jacobian(workshop: Workshop) -> None:
    ds = result(workshop, "jacobians", HYBRID, components=["block", "residual"], kappa=False)
    assert np.isfinite(ds["rho"].values).any(-1).all()
    assert any("Mamba mixer" in note for note in Header.of(ds).notes)
