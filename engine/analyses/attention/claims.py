"""Claims of S2 about attention matrices, tested on the models of a run (methods §9)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from engine.analyses.attention.plan import SINK
from engine.analyses.claims import Claim, Verdict

if TYPE_CHECKING:
    import xarray as xr

    from engine.models.info import ModelInfo

SOURCE = "S2"
MOST = 0.95
"""Share of heads for which a claim about all heads must be true to hold."""
DECISIVE = 10.0
"""Difference of AIC from which the worse law has essentially no support (Burnham and Anderson 2002)."""


def claims(ds: "xr.Dataset", models: Sequence["ModelInfo"]) -> list[Claim]:
    """The claims testable so far, for every model that is not a random twin."""
    judged = []
    for m, info in enumerate(models):
        results = ds.isel(model=m, layer=slice(info.n_layers), head=slice(info.n_heads))
        if info.twin or not np.isfinite(results["entropy"].values).any():
            continue
        statements = [_unit_disk(results), _stable(results)]
        if "erank" in results:
            statements += [*_power_law(results), _entropy_rank(results)]
        if "norm_spectral" in results and np.isfinite(results["norm_spectral_aic"].values).any():
            statements += [_frobenius(results), _logarithm(results)]
        if "sweep_erank" in results and np.isfinite(results["sweep_erank"].values).any():
            statements += [_thinning(results), _crossing(results)]
        label = f"{info.label}: " if sum(not model.twin for model in models) > 1 else ""
        judged += [Claim(SOURCE, what, label + number, verdict, view) for what, number, verdict, view in statements]
    return judged + ([*_mathematics(int(ds["tokens"].values.max()))] if judged else [])


Measured = tuple[str, str, Verdict, str]


def _verdict(true: bool) -> Verdict:
    return "holds" if true else "fails"


def _means(results: "xr.Dataset", name: str) -> np.ndarray:
    """A statistic of every measured head, the mean over its samples, (heads,)."""
    values = results[name].values.reshape(-1, results.sizes["sample"])
    values = values[np.isfinite(values).any(1)]
    return np.asarray(np.nanmean(values, 1))


def _median(values: np.ndarray, digits: str = ".3g") -> str:
    """The median over heads with its bootstrap interval."""
    from engine.spectra.bootstrap import interval

    low, high = interval(values, np.random.default_rng(0), "median", draws=1000)
    return f"{np.median(values):{digits}} (95 % interval {low:{digits}} to {high:{digits}} over {len(values)} heads)"


def _unit_disk(results: "xr.Dataset") -> Measured:
    what = "All eigenvalues lie in the unit disk, and 1 is one of them."
    top = results["top_eigenvalue"].values
    off, least, most = float(np.nanmax(np.abs(top - 1))), float(np.nanmin(top)), float(np.nanmax(top))
    if most < 1.02 and least < 0.98:
        number = (
            f"|λ₁| lies between {least:.3g} and {most:.3g}: no eigenvalue leaves the unit disk, and 1 is one only "
            "where rows sum to 1, which those of heads with learned sinks do not."
        )
        return what, number, "cannot say", "eigenvalues"
    number = f"|λ₁| is 1 to within {off:.1g} for every head and sample, and no other eigenvalue is larger."
    return what, number, _verdict(off < 0.02), "eigenvalues"


def _stable(results: "xr.Dataset") -> Measured:
    norms = results["spectral_norm"].values
    share = float(np.mean(norms[np.isfinite(norms)] < 2))
    number = f"‖A‖₂ < 2 for {share:.1%} of heads and samples; the largest is {np.nanmax(norms):.3g}."
    return "‖A‖₂ stays below 2 (S2’s criterion for stable training).", number, _verdict(share == 1), "layers"


def _power_law(results: "xr.Dataset") -> list[Measured]:
    from scipy.stats import spearmanr

    what = "Singular values follow σᵢ ∝ i^−α with α between 0.5 and 1."
    deeper = "α grows with depth."
    values = results["alpha_rank"].values
    fitted = np.isfinite(values).any(-1)
    if not fitted.any():
        none = "The samples are too short for a fit; choose longer ones."
        return [(what, none, "cannot say", "singular"), (deeper, none, "cannot say", "layers")]
    alpha = np.nanmean(values[fitted], -1)
    inside = float(np.mean((alpha >= 0.5) & (alpha <= 1)))
    number = (
        f"Median α {_median(alpha)}; {inside:.0%} of heads lie between 0.5 and 1. "
        f"Median R² {np.nanmedian(results['r2']):.3g}. "
        f"An iid Gaussian matrix has α = {float(results['noise_alpha_rank']):.3g}."
    )
    statements: list[Measured] = [(what, number, _verdict(inside >= MOST), "singular")]
    if fitted.any(1).sum() > 1:
        rho, p = spearmanr(np.nonzero(fitted)[0], alpha)
        verdict: Verdict = "cannot say" if not p < 0.05 else _verdict(rho > 0)
        statements.append(
            (deeper, f"Spearman’s ρ of α with the layer is {rho:.2f} over heads, p = {p:.2g}.", verdict, "layers")
        )
    return statements


def _entropy_rank(results: "xr.Dataset") -> Measured:
    from scipy.stats import spearmanr

    ratio = _means(results, "erank") / _means(results, "exp_entropy")
    near = float(np.mean((ratio > 0.8) & (ratio < 1.25)))
    rho = spearmanr(_means(results, "erank"), _means(results, "exp_entropy"))[0] if len(ratio) > 2 else np.nan
    number = (
        f"erank/exp H̄ has the median {_median(ratio)} and lies between 0.8 and 1.25 for {near:.0%} of heads; "
        f"Spearman’s ρ of the two is {rho:.2f}, where S2 expects 1."
    )
    return "Effective rank ≈ exp(entropy of attention) (S2 eq. 5).", number, _verdict(near >= MOST), "layers"


def _frobenius(results: "xr.Dataset") -> Measured:
    share = results["norm_frobenius"].values / np.sqrt(results["length"].values)
    exponents = results["norm_frobenius_exponent"].values
    number = (
        f"‖A‖_F/√n is at most {np.nanmax(share):.3g}, and 1 is an exact bound. ‖A‖_F ∝ n^a with the median a = "
        f"{_median(exponents[np.isfinite(exponents)], '.2f')}, where √n itself would be 0.50."
    )
    return "‖A‖_F = O(√n).", number, _verdict(bool(np.nanmax(share) < 1.02)), "norms"


def _logarithm(results: "xr.Dataset") -> Measured:
    """A head contradicts O(ln n) where a growing power or √n fits better than the logarithm and a constant do."""
    from engine.spectra.norm_scaling import CLEAR, beyond_logarithm

    aic, exponent = results["norm_spectral_aic"].values, results["norm_spectral_exponent"].values
    fitted = np.isfinite(aic).all(-1)
    exponent = exponent[fitted]
    beyond = beyond_logarithm(aic[fitted], exponent)
    faster, slower = int((beyond > CLEAR).sum()), int((beyond < -CLEAR).sum())
    sinks = int((np.nanmean(results["sink"].values[fitted], -1) >= SINK).sum())
    bound = results["norm_spectral_of_bound"].values[fitted]
    clearly, open_ = int((beyond > DECISIVE).sum()), len(beyond) - slower - faster
    number = (
        f"By AIC {slower} of {len(beyond)} heads grow no faster than ln n, {faster} grow faster ({clearly} of "
        f"them by more than {DECISIVE:.0f}), and {open_} cannot be told apart; ‖A‖₂ ∝ n^b with b up to "
        f"{np.nanmax(exponent):.2f}. At the longest length ‖A‖₂ is up to "
        f"{np.nanmax(bound):.0%} of the exact bound √n; {sinks} heads are sinks."
    )
    verdict: Verdict = "fails" if clearly else "holds" if slower and not faster else "cannot say"
    return "‖A‖₂ = O(ln n).", number, verdict, "norms"


def _thinning(results: "xr.Dataset") -> Measured:
    at = int(np.argmin(np.abs(results["dose"].values - 0.9)))
    erank = results["sweep_erank"].values.reshape(-1, results.sizes["dose"])
    erank = erank[np.isfinite(erank).all(1)]
    ratio = erank[:, at] / erank[:, 0]
    fallen = float(np.mean(ratio < 1))
    number = (
        f"With 90 % of every row’s weights taken away, erank changes by a factor with the median {_median(ratio)}; "
        f"it falls in {fallen:.0%} of heads."
    )
    return "Higher sparsity lowers the effective rank.", number, _verdict(fallen >= MOST), "sweep"


def _crossing(results: "xr.Dataset") -> Measured:
    swept = np.isfinite(results["sweep_margin"].values).all(-1)
    crossing = results["sweep_crossing"].values[swept]
    share = float(np.mean(np.isfinite(crossing)))
    where = f", at the median sparsity {np.nanmedian(crossing):.2f}" if share else ""
    number = f"erank/T and 2 − ‖A‖₂ cross in {share:.0%} of {len(crossing)} heads{where}."
    return (
        "Expressivity and stability margin cross at some sparsity (S2 fig. 5).",
        number,
        _verdict(share >= MOST),
        "sweep",
    )


def _mathematics(tokens: int) -> list[Claim]:
    """Claims that arithmetic alone decides."""
    from engine.spectra.attention_theory import claimed_effective_rank, effective_rank

    uniform = (
        f"Uniform attention of {tokens} tokens has the largest entropy, ln {tokens} = {np.log(tokens):.3g}, and rank "
        f"1; tokens that read only themselves have entropy 0 and rank {tokens}."
    )
    exact, closed = effective_rank(tokens, 1.0), claimed_effective_rank(tokens, 1.0)
    ranks = (
        f"For n = {tokens} and α = 1 the sum is {exact:.3g}, the closed form gives {closed:.3g}, and the text √n = "
        f"{tokens**0.5:.3g}."
    )
    return [
        Claim(
            SOURCE, "Maximum entropy yields maximum effective rank, minimum entropy rank 1.", uniform, "fails", "theory"
        ),
        Claim(SOURCE, "r_eff ≈ ((2α − 1)/(2α)) n^((2α − 1)/α) (S2 eq. 3).", ranks, "fails", "theory"),
    ]
