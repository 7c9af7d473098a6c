"""Claims of S4 about the spectra of W_QK, tested on the final trained models (methods §9, §13).

Heads of a layer resemble each other, so each statement about heads becomes one number a layer, and its interval is over
correlated layers.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from engine.analyses.claims import Claim
from engine.analyses.conditions import final_models
from engine.analyses.depth_claims import LEVEL, NULL, DepthMean, means, shares, shown, verdict_of
from engine.analyses.header import Header
from engine.analyses.weights.plan import WeightsParams
from engine.spectra import serial
from engine.spectra.summaries import entropy, participation_ratio
from engine.spectra.trends import spearman

if TYPE_CHECKING:
    import xarray as xr

    from engine.models.info import ModelInfo

Array = NDArray[np.float64]

NEAR = 0.1
"""A normalised participation ratio is near its null within this share of it."""
MOST = 0.5
"""Share of heads from which something is true of most of them."""
REDUNDANT = 0.9
"""Rank correlation from which one statistic tells what the other does."""
STRONG, MODERATE = 0.5, 0.3
"""Rank correlations that are called strong and moderate (Cohen 1988)."""
FEWEST_HEADS = 4
"""Heads of a layer from which their rank correlation says anything."""
STUDIED = 1 / 12
"""d_h/d of GPT-2, for which S4 gives κ of about 4."""
KAPPA = (2.0, 8.0)


def claims(ds: "xr.Dataset", params: WeightsParams) -> list[Claim]:
    """Every claim of S4 for each final trained model, what mathematics decides, and the comparison of sizes."""
    infos = Header.of(ds).models
    trained = final_models([info for info in infos if not info.twin and info.step != 0])
    judged, sizes = [], list[tuple[int, float]]()
    for m, info in enumerate(infos):
        of_model = ds.isel(model=m, layer=slice(info.n_layers), head=slice(info.n_heads))
        if info not in trained or not np.isfinite(of_model["leading"].values).any():
            continue
        label = f"{info.label}: " if len(trained) > 1 else ""
        for source, statement, (measurement, votes), evidence in _statements(of_model, info):
            verdict = verdict_of(votes)
            if params.fold_norm or params.offset:
                verdict = "cannot say"
                measurement += "; not comparable: the study folds no norm and takes no relative position"
            judged.append(Claim(source, statement, label + measurement, verdict, evidence))
        sizes.append((info.n_parameters, float(np.nanmean(of_model["npr"].values / _null(of_model, info, "npr")))))
    if not judged:
        return []
    return [*judged, _scale(sizes), *_mathematics(ds)]


Measured = tuple[str, Sequence[bool | None]]
"""A sentence with the number, and what votes on the verdict."""


def _statements(of_model: "xr.Dataset", info: "ModelInfo") -> list[tuple[str, str, Measured, str]]:
    return [
        ("S4 fig. 7", "The largest leading eigenvalues λ₁ are in the earliest layers", _early(of_model), "layers"),
        (
            "S4 fig. 8", "As in GPT-2, the normalised participation ratio of most heads is near that of random weights",
            _near_null(of_model, info), "layers",
        ),
        (
            "S4 fig. 11", "Entropy and normalised participation ratio are largely redundant",
            _redundant(of_model), "entropy_npr",
        ),
        (
            "S4 fig. 10", "As in GPT-2, the condition number κ of most heads is about 4",
            _kappa(of_model, info), "layers",
        ),
        ("S4 fig. 12", "Σλ² grows with the square of the entries’ standard deviation σ", _exponent(of_model), "sigma"),
        (
            "S4 fig. 12", "The spectral entropy does not depend strongly on the entries’ standard deviation σ",
            _independent(of_model), "sigma",
        ),
        (
            "S4, “Discussion”", "Heads with an anomalous spectrum are those whose entries are least Gaussian",
            _non_gaussian(of_model), "layers, qq",
        ),
    ]  # fmt: skip


def _early(of_model: "xr.Dataset") -> Measured:
    """The first third of the layers against the others, on the logarithm: λ₁ spans decades."""
    series = means(_log(of_model["leading"].values))
    layers = np.flatnonzero(np.isfinite(series))
    series = series[layers]
    if len(series) < serial.FEWEST:
        return f"{len(series)} layers, and it needs {serial.FEWEST}", []
    edge = len(series) // 3
    gap = float(series[:edge].mean() - series[edge:].mean())
    p = serial.p_value(serial.first_third_over_rest, series)
    number = (
        f"the geometric mean of λ₁ in the first third of the layers is {np.exp(gap):.3g} times that of the others, "
        f"p = {p:.2g}; it is largest in layer {layers[series.argmax()]} of {len(layers)} ({NULL})"
    )
    return number, [gap > 0 if p < LEVEL else None]


def _near_null(of_model: "xr.Dataset", info: "ModelInfo") -> Measured:
    npr, null = of_model["npr"].values, _null(of_model, info, "npr")
    if not np.isfinite(null).any():
        return "the Monte Carlo null is missing", []
    ratio = npr / null
    beyond = float(np.mean(of_model["q_npr"].values < LEVEL))
    share = DepthMean.of(shares(np.abs(ratio - 1) <= NEAR, np.isfinite(ratio)), 0, 1)
    number = (
        f"NPR is {_middle(npr)}, {np.nanmedian(ratio):.0%} of the null’s median {np.nanmedian(null):.3f}; the share "
        f"of heads within {NEAR:.0%} of it is {share}; {beyond:.0%} of heads leave the null at q < {LEVEL}"
    )
    return number, [share.above(MOST)]


def _redundant(of_model: "xr.Dataset") -> Measured:
    rho = DepthMean.of(_within_layers(of_model["entropy"].values, of_model["npr"].values), -1, 1)
    number = f"Spearman’s ρ of the heads of a layer is {rho} on average{_few_heads(of_model)}"
    if "shuffled_qk_eigenvalues" in of_model:
        shuffled = np.nan_to_num(of_model["shuffled_qk_eigenvalues"].values)  # narrower heads have fewer
        own = _within_layers(entropy(shuffled), participation_ratio(shuffled))
        number += (
            f"; of the same weights shuffled it is {shown(float(means(own)), '.2f')}, as both are made of one spectrum"
        )
    return number, [rho.above(REDUNDANT)]


def _kappa(of_model: "xr.Dataset", info: "ModelInfo") -> Measured:
    kappa, null = of_model["kappa"].values, _null(of_model, info, "kappa")
    low, high = KAPPA
    share = DepthMean.of(shares((kappa >= low) & (kappa <= high), ~np.isnan(kappa)), 0, 1)
    number = (
        f"κ is {_middle(kappa)}, and {float(np.nanmedian(null)):.3g} for random weights; between {low:g} and {high:g} "
        f"is the share {share}; of singular values in place of λ = σ² κ would be {_middle(np.sqrt(kappa))}"
    )
    ratios = [width / info.d_model / STUDIED for width in info.head_widths]
    if other := [ratio for ratio in ratios if not 0.5 <= ratio <= 2]:
        return f"{number}; not comparable: κ of random weights depends on d_h/d, here {other[0]:.2g} times GPT-2’s", []
    return number, [share.above(MOST)]


def _exponent(of_model: "xr.Dataset") -> Measured:
    """The slope of ln Σλ² over ln σ among the heads of each layer."""
    x, y = (_log(of_model[name].values) for name in ("wqk_std", "lambda_sq_sum"))
    slopes = np.full(len(x), np.nan)
    for layer, (a, b) in enumerate(zip(x, y, strict=True)):
        present = np.isfinite(a) & np.isfinite(b)
        if present.sum() >= FEWEST_HEADS and np.ptp(a[present]) > 0:
            slopes[layer] = np.polyfit(a[present], b[present], 1)[0]
    slope = DepthMean.of(slopes)
    number = (
        f"among the heads of a layer Σλ² ∝ σ^b with b = {slope} on average{_few_heads(of_model)}; b is 4 where heads "
        "differ in scale alone, and 2 for sums of σ_k² (null: b = 2)"
    )
    return number, [slope.between(1.5, 2.5)]


def _independent(of_model: "xr.Dataset") -> Measured:
    rho = DepthMean.of(_within_layers(of_model["entropy"].values, of_model["wqk_std"].values), -1, 1)
    number = f"Spearman’s ρ of the heads of a layer is {rho} on average{_few_heads(of_model)} (null: ρ = 0)"
    return f"{number}; strong from ±{STRONG}", [rho.between(-STRONG, STRONG)]


def _non_gaussian(of_model: "xr.Dataset") -> Measured:
    """NPR against the factors' kurtosis: that of W_QK itself is about 6/PR whatever the factors (methods eq. 9.3)."""
    factors = (of_model["wq_kurtosis"].values + of_model["wk_kurtosis"].values) / 2
    rho = DepthMean.of(_within_layers(of_model["npr"].values, factors), -1, 1)
    product = float(means(_within_layers(of_model["npr"].values, of_model["wqk_kurtosis"].values)))
    number = (
        f"Spearman’s ρ of NPR and the excess kurtosis of W_Q and W_K among the heads of a layer is {rho} on average"
        f"{_few_heads(of_model)} (null: ρ = 0; held below −{MODERATE}); with the kurtosis of W_QK it is "
        f"{shown(product, '.2f')}, and random singular vectors would give that too"
    )
    return number, [rho.below(-MODERATE)]


def _scale(sizes: Sequence[tuple[int, float]]) -> Claim:
    statement = "Larger models have a lower normalised participation ratio"
    parameters, npr = (np.array(column, np.float64) for column in zip(*sizes, strict=True))
    rho, p = spearman(parameters, npr)
    different = len(set(parameters))
    if different < serial.FEWEST or not np.isfinite(rho):
        lacking = f"it needs at least {serial.FEWEST} trained models of different sizes, and this run has {different}"
        return Claim("S4 fig. 14", statement, lacking, "cannot say", "compare")
    number = (
        f"Spearman’s ρ of the number of parameters and the mean NPR over its null = {rho:.2f}, p = {p:.2g}, "
        f"{len(sizes)} models (null: the same models in any order)"
    )
    return Claim("S4 fig. 14", statement, number, verdict_of([rho < 0 if p < LEVEL else None]), "compare")


def _mathematics(ds: "xr.Dataset") -> list[Claim]:
    """S4 prints Σλ² = ‖W_QK‖_F² beside λ = σ², of which Σλ = ‖W_QK‖_F² follows (methods eq. 9.2)."""
    infos = Header.of(ds).models
    width = np.array([info.d_model for info in infos], np.float64)[:, None, None]
    frobenius = width**2 * (np.square(ds["wqk_std"].values) + np.square(ds["wqk_mean"].values))
    frobenius = np.where(frobenius > 0, frobenius, np.nan)  # a head of zeros shows nothing
    if not np.isfinite(frobenius).any():
        return []
    first, second = (ds[name].values / frobenius for name in ("lambda_sum", "lambda_sq_sum"))
    off = float(np.nanmax(np.abs(first - 1)))
    number = (
        f"With the study’s λ = σ², Σλ/‖W_QK‖_F² is 1 to within {off:.1g} for every head, and Σλ²/‖W_QK‖_F² lies "
        f"between {np.nanmin(second):.2g} and {np.nanmax(second):.2g}. The identity, and the linear and quadratic "
        "growth with σ, are those of singular values in place of λ; for λ = σ² it is Σλ that σ decides exactly."
    )
    return [Claim("S4 fig. 12", "Σλ² = ‖W_QK‖_F².", number, "fails", "sigma", theorem=True)]


def _null(of_model: "xr.Dataset", info: "ModelInfo", name: str) -> Array:
    """The null's median, of every layer or for heads as wide as a layer's, (layer, 1); NaN where it has not come."""
    medians = np.full((info.n_layers, 1), np.nan)
    if f"null_{name}_by_width" in of_model:
        of_width = of_model[f"null_{name}_by_width"].sel(quantile=0.5)
        for layer in info.headed_layers:
            if (shape := info.heads_at(layer)) is not None:
                medians[layer] = of_width.sel(width=shape.d_head)
    elif f"null_{name}" in of_model:
        medians[:] = np.atleast_1d(of_model[f"null_{name}"].sel(quantile=0.5).values)[:, None]
    return medians


def _log(values: Array) -> Array:
    """The natural logarithm; NaN of 0."""
    return np.log(np.where(values > 0, values, np.nan))


def _within_layers(x: Array, y: Array) -> Array:
    """Spearman's ρ of the heads of each layer (layer, head); NaN with fewer than `FEWEST_HEADS`."""
    rho = np.full(len(x), np.nan)
    for layer, (a, b) in enumerate(zip(x, y, strict=True)):
        present = np.isfinite(a) & np.isfinite(b)
        if present.sum() >= FEWEST_HEADS:
            rho[layer] = serial.rank_correlation(a[present][None], b[present][None])[0]
    return rho


def _few_heads(of_model: "xr.Dataset") -> str:
    heads = of_model.sizes["head"]
    return f" ({heads} heads a layer, and it needs {FEWEST_HEADS})" if heads < FEWEST_HEADS else ""


def _middle(values: Array) -> str:
    """The median, and where the middle half lies."""
    low, middle, high = np.nanquantile(values, [0.25, 0.5, 0.75])
    return f"{middle:.3g} (middle half {low:.3g} to {high:.3g})"
