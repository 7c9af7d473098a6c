"""Claims of S2 about attention matrices, tested on the models of a run (methods §9, §13)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from engine.analyses.attention.plan import SINK
from engine.analyses.attention.training_claims import over_training
from engine.analyses.claims import Claim, Verdict
from engine.analyses.conditions import final_models
from engine.analyses.depth_claims import LEVEL, DepthMean, means, shares, verdict_of
from engine.spectra import serial
from engine.spectra.trends import trend

if TYPE_CHECKING:
    import xarray as xr

    from engine.models.info import ModelInfo

SOURCE = "S2"
MOST = 0.95
"""Share of heads for which a claim about all heads must be true to hold."""
DECISIVE = 10.0
"""Difference of AIC from which the worse law has essentially no support (Burnham and Anderson 2002)."""


def claims(ds: "xr.Dataset", models: Sequence["ModelInfo"]) -> list[Claim]:
    """The claims testable so far, for every trained model; of one training, for its last checkpoint."""
    judged = []
    trained = final_models([info for info in models if not info.twin and info.step != 0])
    for m, info in enumerate(models):
        results = ds.isel(model=m, layer=slice(info.n_layers), head=slice(info.n_heads))
        if info not in trained or not np.isfinite(results["entropy"].values).any():
            continue
        statements = [_unit_disk(results), _stable(results)]
        if "erank" in results:
            statements += [*_power_law(results), _entropy_rank(results)]
        if "norm_spectral" in results and np.isfinite(results["norm_spectral_aic"].values).any():
            statements += [_frobenius(results), _logarithm(results)]
        if "sweep_erank" in results and np.isfinite(results["sweep_erank"].values).any():
            statements += [_thinning(results), _crossing(results)]
        label = f"{info.label}: " if len(trained) > 1 else ""
        judged += [
            Claim(SOURCE, what, label + number, verdict, view, what in THEOREMS)
            for what, number, verdict, view in statements
        ]
    judged += over_training(ds, models)
    return judged + ([*_mathematics(int(ds["tokens"].values.max()))] if judged else [])


Measured = tuple[str, str, Verdict, str]
UNIT_DISK, FROBENIUS = "All eigenvalues lie in the unit disk, and 1 is one of them.", "‖A‖_F = O(√n)."
THEOREMS = (UNIT_DISK, FROBENIUS)
"""True of every row-stochastic matrix; the numbers check the program, not the model."""


def _verdict(true: bool) -> Verdict:
    return "holds" if true else "fails"


def _share(true: np.ndarray, measured: np.ndarray) -> tuple[str, Verdict]:
    """The share of heads (layer, head) for which something is true, and whether it reaches `MOST`.

    Heads of a layer resemble each other, and so do neighbouring layers: the interval is over layers.
    """
    heads = int(measured.sum())
    share = f"{true[measured].mean():.0%} of {heads} heads" if heads else "no head"
    over_layers = DepthMean.of(shares(true, measured), 0, 1)
    return f"{share} {over_layers.in_percent()}", verdict_of([over_layers.reaches(MOST)])


def _median(values: np.ndarray, digits: str = ".3g") -> str:
    """The median over heads, and where the middle half of them lies."""
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return f"{middle:{digits}} (middle half {low:{digits}} to {high:{digits}} of {len(values)} heads)"


def _unit_disk(results: "xr.Dataset") -> Measured:
    top = results["top_eigenvalue"].values
    off, least, most = float(np.nanmax(np.abs(top - 1))), float(np.nanmin(top)), float(np.nanmax(top))
    if most < 1.02 and least < 0.98:
        number = (
            f"|λ₁| lies between {least:.3g} and {most:.3g}: no eigenvalue leaves the unit disk, and 1 is one only "
            "where rows sum to 1, which those of heads with learned sinks do not."
        )
        return UNIT_DISK, number, "cannot say", "eigenvalues"
    number = f"|λ₁| is 1 to within {off:.1g} for every head and sample, and no other eigenvalue is larger."
    return UNIT_DISK, number, _verdict(off < 0.02), "eigenvalues"


def _stable(results: "xr.Dataset") -> Measured:
    norms = results["spectral_norm"].values
    share = float(np.mean(norms[np.isfinite(norms)] < 2))
    number = f"‖A‖₂ < 2 for {share:.1%} of heads and samples; the largest is {np.nanmax(norms):.3g}."
    return "‖A‖₂ stays below 2 (S2’s criterion for stable training).", number, _verdict(share == 1), "layers"


def _power_law(results: "xr.Dataset") -> list[Measured]:
    what = "Singular values follow σᵢ ∝ i^−α with α between 0.5 and 1."
    deeper = "α grows with depth."
    alpha = means(results["alpha_rank"].values)
    measured = np.isfinite(alpha)
    if not measured.any():
        none = "The samples are too short for a fit; choose longer ones."
        return [(what, none, "cannot say", "singular"), (deeper, none, "cannot say", "layers")]
    inside, verdict = _share((alpha >= 0.5) & (alpha <= 1), measured)
    number = (
        f"Median α {_median(alpha[measured])}; between 0.5 and 1 in {inside}. Median R² "
        f"{np.nanmedian(results['r2']):.3g}. An iid Gaussian matrix has α = {float(results['noise_alpha_rank']):.3g}."
    )
    statements: list[Measured] = [(what, number, verdict, "singular")]
    test = trend(means(alpha))
    if test.layers >= serial.FEWEST:
        number = (
            f"The mean α of a layer changes by {test.slope:+.3f} a layer, Spearman’s ρ {test.spearman:.2f} over "
            f"{test.layers} layers, p = {test.trend_p:.2g} against noise whose neighbouring layers are alike."
        )
        statements.append(
            (deeper, number, _verdict(test.slope > 0) if test.trend_p < LEVEL else "cannot say", "layers")
        )
    else:
        statements.append((deeper, f"It needs at least {serial.FEWEST} layers.", "cannot say", "layers"))
    return statements


def _entropy_rank(results: "xr.Dataset") -> Measured:
    erank, entropy = (means(results[name].values) for name in ("erank", "exp_entropy"))
    ratio = erank / entropy
    measured = np.isfinite(ratio)
    near, verdict = _share((ratio > 0.8) & (ratio < 1.25), measured)
    rho = float(serial.rank_correlation(erank[measured][None], entropy[measured][None])[0])
    number = (
        f"erank/exp H̄ has the median {_median(ratio[measured])} and lies between 0.8 and 1.25 in {near}; "
        f"Spearman’s ρ of the two is {'undefined' if np.isnan(rho) else f'{rho:.2f}'}, where S2 expects 1."
    )
    return "Effective rank ≈ exp(entropy of attention) (S2 eq. 5).", number, verdict, "layers"


def _frobenius(results: "xr.Dataset") -> Measured:
    share = results["norm_frobenius"].values / np.sqrt(results["length"].values)
    exponents = results["norm_frobenius_exponent"].values
    number = (
        f"‖A‖_F/√n is at most {np.nanmax(share):.3g}, and 1 is an exact bound. ‖A‖_F ∝ n^a with the median a = "
        f"{_median(exponents[np.isfinite(exponents)], '.2f')}, where √n itself would be 0.50."
    )
    return FROBENIUS, number, _verdict(bool(np.nanmax(share) < 1.02)), "norms"


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
    # The more heads, the larger the largest of their differences by chance alone.
    decisive = DECISIVE + 2 * np.log(max(len(beyond), 1))
    clearly, open_ = int((beyond > decisive).sum()), len(beyond) - slower - faster
    number = (
        f"By AIC {slower} of {len(beyond)} heads grow no faster than ln n, {faster} grow faster ({clearly} of "
        f"them by more than {decisive:.0f}), and {open_} cannot be told apart; ‖A‖₂ ∝ n^b with b up to "
        f"{np.nanmax(exponent):.2f}. At the longest length ‖A‖₂ is up to "
        f"{np.nanmax(bound):.0%} of the exact bound √n; {sinks} heads are sinks."
    )
    verdict: Verdict = "fails" if clearly else "holds" if slower and not faster else "cannot say"
    return "‖A‖₂ = O(ln n).", number, verdict, "norms"


def _thinning(results: "xr.Dataset") -> Measured:
    at = int(np.argmin(np.abs(results["dose"].values - 0.9)))
    erank = results["sweep_erank"].values
    ratio = erank[..., at] / erank[..., 0]
    measured = np.isfinite(erank).all(-1)
    fallen, verdict = _share(ratio < 1, measured)
    number = (
        f"With 90 % of every row’s weights taken away, erank changes by a factor with the median "
        f"{_median(ratio[measured])}; it falls in {fallen}."
    )
    return "Higher sparsity lowers the effective rank.", number, verdict, "sweep"


def _crossing(results: "xr.Dataset") -> Measured:
    swept = np.isfinite(results["sweep_margin"].values).all(-1)
    crossing = results["sweep_crossing"].values
    share, verdict = _share(np.isfinite(crossing), swept)
    at = crossing[swept & np.isfinite(crossing)]
    where = f", at the median sparsity {np.median(at):.2f}" if len(at) else ""
    number = f"erank/T and 2 − ‖A‖₂ cross in {share}{where}."
    return "Expressivity and stability margin cross at some sparsity (S2 fig. 5).", number, verdict, "sweep"


def _mathematics(tokens: int) -> list[Claim]:
    """Claims that arithmetic alone decides."""
    from engine.spectra.attention_theory import claimed_effective_rank, effective_rank, uniform_causal

    shown = min(tokens, 256)
    erank, claimed = uniform_causal(shown)
    uniform = (
        f"Uniform attention of {tokens} tokens has the largest entropy, ln {tokens} = {np.log(tokens):.3g}, and rank "
        f"1; tokens that read only themselves have entropy 0 and rank {tokens}. Uniform causal attention has full "
        f"rank; {shown} tokens have an effective rank of {erank:.3g}, where exp(entropy) is {claimed:.3g}."
    )
    exact, closed = effective_rank(tokens, 1.0), claimed_effective_rank(tokens, 1.0)
    ranks = (
        f"For n = {tokens} and α = 1 the sum is {exact:.3g}, the closed form gives {closed:.3g}, and the text √n = "
        f"{tokens**0.5:.3g}; the sum grows as (ln n)², so that O(√n) is true and the scaling √n is not."
    )
    return [
        Claim(
            SOURCE,
            "Maximum entropy yields maximum effective rank, minimum entropy rank 1.",
            uniform,
            "fails",
            "theory",
            theorem=True,
        ),
        Claim(SOURCE, "r_eff ≈ ((2α − 1)/(2α)) n^((2α − 1)/α) (S2 eq. 3).", ranks, "fails", "theory", theorem=True),
    ]
