"""Claims about W_QK: spectra made to order get the verdict that they deserve, with the numbers in it."""

import json
from collections.abc import Callable

import numpy as np
import pytest
import xarray as xr
from session_examples import INFO

from engine.analyses.claims import Claim
from engine.analyses.weights.claims import claims
from engine.analyses.weights.plan import WeightsParams
from engine.spectra import serial
from engine.spectra.summaries import entropy, participation_ratio

LAYERS, HEADS, MODES, WIDTH = 12, 8, 16, 192
NULL_NPR, NULL_KAPPA = 0.86, 5.0
SHAPE = WeightsParams()
Array = np.ndarray


def dataset(
    spectra: Array,
    sizes: tuple[int, ...] = (1000,),
    factors: Callable[[Array], Array] = np.zeros_like,
    **changes: Array,
) -> xr.Dataset:
    """Heads with these λ (model, layer, head, mode); σ of W_QK follows from Σλ, kurtosis of the factors from NPR."""
    infos = [
        INFO.model_copy(
            update={
                "label": f"m{i}", "source": f"m{i}", "n_layers": spectra.shape[1], "n_heads": spectra.shape[2],
                "d_model": WIDTH, "d_head": MODES, "n_parameters": size,
            }
        ).model_dump(mode="json")
        for i, size in enumerate(sizes)
    ]  # fmt: skip
    dims = ("model", "layer", "head")
    npr = participation_ratio(spectra) / MODES
    values = {
        "leading": spectra.max(-1), "npr": npr, "entropy": entropy(spectra),
        "kappa": spectra.max(-1) / spectra.min(-1), "q_npr": np.full(npr.shape, 0.5),
        "lambda_sum": spectra.sum(-1), "lambda_sq_sum": np.square(spectra).sum(-1),
        "wqk_mean": np.zeros(npr.shape), "wqk_std": np.sqrt(spectra.sum(-1)) / WIDTH,
        "wqk_kurtosis": 6 / (npr * MODES), "wq_kurtosis": factors(npr), "wk_kurtosis": factors(npr), **changes,
    }  # fmt: skip
    nulls = {
        f"null_{name}": (("model", "quantile"), np.full((len(sizes), 1), level))
        for name, level in (("npr", NULL_NPR), ("kappa", NULL_KAPPA))
    }
    return xr.Dataset(
        {name: (dims, array) for name, array in values.items()}
        | {"shuffled_qk_eigenvalues": ((*dims, "mode"), spectra)}
        | nulls,
        coords={"model": [info["label"] for info in infos], "quantile": [0.5]},
        attrs={"models": json.dumps(infos)},
    )


def heads(steepness: Array | float, scale: Array | float = 1.0, models: int = 1) -> Array:
    """λ that fall geometrically: κ = exp(steepness), for each (layer, head), at a scale."""
    shape = (models, LAYERS, HEADS, 1)
    steep, size = (np.broadcast_to(np.asarray(v, float)[..., None], shape) for v in (steepness, scale))
    return size * np.exp(-steep * np.linspace(0, 1, MODES))


def by_statement(judged: list[Claim], part: str) -> Claim:
    return next(claim for claim in judged if part in claim.statement)


RNG = np.random.default_rng(0)
STEEP = 1.4 + 0.3 * RNG.random((LAYERS, HEADS))
EARLY = np.where(np.arange(LAYERS) < 4, 20.0, 1.0)[:, None] * np.exp(0.1 * RNG.standard_normal((LAYERS, HEADS)))


def test_what_s4_found_holds_where_it_is_so() -> None:
    judged = claims(dataset(heads(STEEP, EARLY), factors=lambda npr: 1 - npr), SHAPE)
    for part in ("earliest layers", "near that of random", "redundant", "is about 4", "least Gaussian"):
        assert by_statement(judged, part).verdict == "holds", part
    assert "12 correlated layers" in by_statement(judged, "is about 4").measurement


def test_and_fails_where_it_is_not() -> None:
    judged = claims(dataset(heads(6.0 + STEEP, 1 / EARLY), factors=lambda npr: npr), SHAPE)
    for part in ("earliest layers", "near that of random", "is about 4", "least Gaussian"):
        assert by_statement(judged, part).verdict == "fails", part


def test_few_layers_or_noise_prove_nothing() -> None:
    noise = np.exp(0.3 * np.random.default_rng(1).standard_normal((LAYERS, HEADS)))
    judged = claims(dataset(heads(STEEP, noise)), SHAPE)
    assert by_statement(judged, "earliest layers").verdict == "cannot say"
    assert "p = " in by_statement(judged, "earliest layers").measurement
    few = claims(dataset(heads(STEEP, EARLY)[:, :3]), SHAPE)
    assert {claim.verdict for claim in few if not claim.theorem} == {"cannot say"}


def test_scale_alone_gives_the_fourth_power_of_sigma() -> None:
    spread = np.exp(RNG.standard_normal((LAYERS, HEADS)))
    judged = claims(dataset(heads(1.4, spread)), SHAPE)
    claim = by_statement(judged, "grows with the square")
    assert claim.verdict == "fails"
    assert "b = 4 " in claim.measurement
    apart = np.array([4, 0, 3, 7, 6, 2, 1, 5]) + np.zeros((LAYERS, 1))  # its Spearman's ρ with the order is 0.10
    mixed = heads(1.4 + 0.1 * np.arange(HEADS), np.exp(apart))
    assert by_statement(claims(dataset(mixed), SHAPE), "does not depend").verdict == "holds"
    tied = np.sort(RNG.random((LAYERS, HEADS)), axis=1)
    assert by_statement(claims(dataset(heads(tied, np.exp(9 * tied))), SHAPE), "does not depend").verdict == "fails"


def test_the_printed_identity_is_refuted_by_mathematics_alone() -> None:
    claim = by_statement(claims(dataset(heads(STEEP, EARLY)), SHAPE), "Σλ² = ")
    assert claim.theorem
    assert claim.verdict == "fails"
    assert "Σλ/‖W_QK‖_F² is 1 to within" in claim.measurement


def test_kappa_compares_heads_of_like_shape_only() -> None:
    ds = dataset(heads(STEEP))
    infos = json.loads(ds.attrs["models"])
    ds.attrs["models"] = json.dumps([info | {"d_model": 4 * MODES} for info in infos])
    claim = by_statement(claims(ds, SHAPE), "is about 4")
    assert claim.verdict == "cannot say"
    assert "not comparable" in claim.measurement


def test_heads_are_set_beside_the_null_of_their_own_width() -> None:
    ds = dataset(heads(STEEP))
    assert by_statement(claims(ds, SHAPE), "near that of random").verdict == "holds"
    narrow = np.arange(LAYERS) % 2 == 0
    shapes = [{"n_heads": HEADS, "n_kv_heads": HEADS, "d_head": 8 if low else MODES} for low in narrow]
    ds.attrs["models"] = json.dumps([info | {"head_shapes": shapes} for info in json.loads(ds.attrs["models"])])
    levels = np.array([NULL_NPR / 2, NULL_NPR])[None, :, None]
    ds = ds.assign_coords(width=[8, MODES]).assign(null_npr_by_width=(("model", "width", "quantile"), levels))
    assert by_statement(claims(ds, SHAPE), "near that of random").verdict == "cannot say"
    ds["npr"] = ds["npr"] * xr.where(xr.DataArray(narrow, dims="layer"), 0.5, 1.0)
    assert (
        by_statement(claims(ds.transpose("model", "layer", "head", ...), SHAPE), "near that of random").verdict
        == "holds"
    )


@pytest.mark.parametrize("params", [WeightsParams(fold_norm=True), WeightsParams(offset=-8)])
def test_another_matrix_than_the_studys_gets_no_verdict(params: WeightsParams) -> None:
    judged = claims(dataset(heads(STEEP, EARLY)), params)
    assert {claim.verdict for claim in judged if not claim.theorem} == {"cannot say"}


@pytest.mark.parametrize(("slope", "verdict"), [(0.5, "holds"), (-0.5, "fails")])
def test_sizes_are_compared_over_models(slope: float, verdict: str) -> None:
    steep = 3.0 + slope * np.arange(7)[:, None, None] + np.zeros((7, LAYERS, HEADS))
    judged = claims(dataset(heads(steep, models=7), tuple(10**power for power in range(3, 10))), SHAPE)
    assert by_statement(judged, "Larger models").verdict == verdict
    lone = claims(dataset(heads(STEEP)), SHAPE)
    assert "at least 5 trained models" in by_statement(lone, "Larger models").measurement


@pytest.mark.parametrize("phi", [0.0, 0.8, 1.0])
def test_layers_that_resemble_each_other_seldom_have_an_early_peak(phi: float) -> None:
    series = serial.noise(phi, LAYERS, 200, np.random.default_rng(5))
    rate = np.mean([serial.p_value(serial.first_third_over_rest, x) < 0.05 for x in series])
    assert rate <= 0.05 + 3 * (0.05 * 0.95 / 200) ** 0.5
    peak = series + np.where(np.arange(LAYERS) < 4, 20.0, 0.0)
    assert np.mean([serial.p_value(serial.first_third_over_rest, x) < 0.05 for x in peak[:50]]) > 0.9


def test_heads_that_are_alike_within_layers_seldom_correlate() -> None:
    """Statistics that drift along depth together are independent among the heads of a layer."""
    rng, wrong = np.random.default_rng(6), 0
    for _ in range(20):
        drift = serial.noise(0.8, LAYERS, 1, rng)[..., None]
        x, y = drift + rng.standard_normal((2, LAYERS, HEADS))
        judged = claims(dataset(heads(STEEP), entropy=x[None], npr=y[None], wqk_std=np.exp(y)[None]), SHAPE)
        wrong += by_statement(judged, "does not depend").verdict == "fails"
        wrong += by_statement(judged, "redundant").verdict == "holds"
    assert wrong <= 2
