"""What S3 says about communities and Jacobians, put to the loaded models (methods §9)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from engine.analyses.claims import Claim, Verdict

if TYPE_CHECKING:
    import xarray as xr

SOURCE = "S3"
LEVEL = 0.05
SITES = {"attn": "before attention", "mlp": "before the MLP"}


def claims(ds: "xr.Dataset", steps: Sequence[int | None]) -> list[Claim]:
    """One verdict for each statement and model, or pair or row of models; sites are counted together.

    `steps` says how long each model was trained, where that is known.
    """
    # A checkpoint before the first step is as untrained as a twin.
    twins = ["(random twin)" in str(label) or steps[m] == 0 for m, label in enumerate(ds["model"].values)]
    found: list[Claim | None] = []
    for m, label in enumerate(ds["model"].values):
        one = ds.isel(model=m)
        if np.isfinite(one["n_communities"].values).any():
            found += [_captured(one, str(label), twins[m]), _operator_type(one, str(label)), _rates(one, str(label))]
    sources: dict[str, list[int]] = {}
    for m, label in enumerate(ds["model"].values):
        sources.setdefault(str(label).split("@")[0].split(" (")[0].split(", seed")[0], []).append(m)
    for models in sources.values():
        trained = [m for m in models if not twins[m]]
        if trained:
            most = max(trained, key=lambda m: np.inf if (step := steps[m]) is None else step)
            found += [_learned(ds, most, m) for m in models if twins[m]]
        row = [m for m in models if steps[m] is not None]
        if len(row) > 2:
            found.append(_grows(ds, sorted(row, key=lambda m: steps[m] or 0)))
    return [claim for claim in found if claim is not None]


def _captured(one: "xr.Dataset", label: str, twin: bool) -> Claim:
    q, z = one["variance_q"].values, one["variance_z"].values
    n, above = int(np.isfinite(q).sum()), int((q < LEVEL).sum())
    statement = "Communities capture more of the Jacobian's variance than random partitions of the same sizes"
    statement += ", even at initialisation" if twin else ""
    if not n:
        return Claim(SOURCE, statement, f"{label}: no snapshot could be tested.", "cannot say", "effect")
    low, high = np.nanquantile(z, [0.025, 0.975])
    measurement = (
        f"{label}: q < 0.05 at {above} of {n} snapshots, share of them {_share(above, n)}; median z "
        f"{np.nanmedian(z):.2f}, middle 95 % of snapshots {low:.2f} to {high:.2f}; null: random partitions, z = 0."
    )
    return Claim(SOURCE, statement, measurement, _majority(above, n), "effect")


def _operator_type(one: "xr.Dataset", label: str) -> Claim:
    """Self-alignment against effect size, each site; the sites must agree."""
    statement = "The nearer a layer is to a symmetric operator, the more its boundary units are amplified"
    said, verdicts = [], []
    for site, title in SITES.items():
        rho, low, high, p, n = (float(one[f"coupling_{k}"].sel(site=site)) for k in ("rho", "low", "high", "p", "n"))
        if np.isnan(rho):
            continue
        interval = f", 95 % interval {low:.2f} to {high:.2f}" if np.isfinite(low) else ""
        said.append(f"{title} ρ = {rho:.2f}{interval}, permutation p = {p:.3g} over {int(n)} layers")
        # Two sites are two tests of one statement (Bonferroni).
        verdicts.append("cannot say" if p >= LEVEL / len(SITES) else "holds" if rho > 0 else "fails")
    if not said:
        return Claim(SOURCE, statement, f"{label}: fewer than three layers could be tested.", "cannot say", "coupling")
    return Claim(SOURCE, statement, f"{label}: {'; '.join(said)}; null: ρ = 0.", _agreed(verdicts), "coupling")


def _rates(one: "xr.Dataset", label: str) -> Claim:
    statement = "Where communities change most from layer to layer, the projected operator does not change most"
    said, p_values = [], []
    for site, title in SITES.items():
        for rate, of in (("sigma", "|Δσ₁|"), ("variance", "|Δ captured variance|")):
            at = one.sel(site=site, rate=rate)
            rho, low, high, p = (float(at[f"rate_{name}"]) for name in ("rho", "low", "high", "p"))
            if np.isfinite(rho):
                interval = f" ({low:.2f} to {high:.2f})" if np.isfinite(low) else ""
                said.append(f"{title} with {of} ρ = {rho:.2f}{interval}, p = {p:.3g}")
                p_values.append(p)
    if not said:
        return Claim(SOURCE, statement, f"{label}: fewer than three pairs of layers.", "cannot say", "coupling")
    # That nothing is found is no proof that nothing is there: with few layers only a contradiction can be stated.
    fails = min(p_values) * len(p_values) < LEVEL
    enough = float(one["rate_n"].max()) >= 30
    verdict: Verdict = "fails" if fails else "holds" if enough else "cannot say"
    return Claim(SOURCE, statement, f"{label}: {'; '.join(said)}; null: ρ = 0, by permutation.", verdict, "coupling")


def _learned(ds: "xr.Dataset", trained: int, twin: int) -> Claim | None:
    """Fisher's exact test of the numbers of snapshots at which the coupling is significant."""
    from scipy.stats import fisher_exact

    q = [ds["q_value"].values[m] for m in (trained, twin)]
    n = [int(np.isfinite(one).sum()) for one in q]
    if not all(n):
        return None
    above = [int((one < LEVEL).sum()) for one in q]
    p = float(fisher_exact([[above[0], n[0] - above[0]], [above[1], n[1] - above[1]]], "greater").pvalue)
    labels = [str(ds["model"].values[m]) for m in (trained, twin)]
    d = [float(np.nanmedian(ds["cohens_d"].values[m])) for m in (trained, twin)]
    measurement = (
        f"q < 0.05 at {above[0]} of {n[0]} snapshots of {labels[0]} ({_share(above[0], n[0])}), median d {d[0]:.2f}; "
        f"at {above[1]} of {n[1]} of {labels[1]} ({_share(above[1], n[1])}), median d {d[1]:.2f}; null: equal shares, "
        f"one-sided p = {p:.3g}."
    )
    verdict: Verdict = "holds" if p < LEVEL else "fails" if above[0] <= above[1] else "cannot say"
    statement = "Units between communities are amplified or suppressed by the Jacobian, and training installs this"
    return Claim(SOURCE, statement, measurement, verdict, "effect")


def _grows(ds: "xr.Dataset", row: list[int]) -> Claim | None:
    """Numbers of significant snapshots along training, and how often chance alone would rank them so (Kendall)."""
    from scipy.stats import kendalltau

    q = [ds["q_value"].values[m] for m in row]
    if not all(np.isfinite(one).any() for one in q):
        return None
    above = [int((one < LEVEL).sum()) for one in q]
    of = [int(np.isfinite(one).sum()) for one in q]
    said = ", ".join(f"{count} of {n} ({ds['model'].values[m]})" for count, n, m in zip(above, of, row, strict=True))
    statement = (
        "The coupling between boundaries and amplification becomes significant in ever more layers over training"
    )
    if len(set(above)) == 1:
        return Claim(SOURCE, statement, f"q < 0.05 at {said}; no change.", "fails", "effect")
    found = kendalltau(np.arange(len(row)), above, alternative="greater")
    p, tau = float(found.pvalue), float(found.statistic)
    measurement = (
        f"q < 0.05 at {said}; Kendall's τ with the order of training {tau:.2f}; null: τ = 0, one-sided p = {p:.3g}."
    )
    verdict: Verdict = "holds" if p < LEVEL else "fails" if tau <= 0 else "cannot say"
    return Claim(SOURCE, statement, measurement, verdict, "effect")


def _share(count: int, n: int) -> str:
    """With the exact 95 % interval (Clopper and Pearson)."""
    from scipy.stats import binomtest

    interval = binomtest(count, n).proportion_ci()
    return f"{count / n:.0%}, 95 % interval {interval.low:.0%} to {interval.high:.0%}"


def _majority(count: int, n: int) -> Verdict:
    """Whether more than half are, beyond chance."""
    from scipy.stats import binomtest

    interval = binomtest(count, n).proportion_ci()
    return "holds" if interval.low > 0.5 else "fails" if interval.high < 0.5 else "cannot say"


def _agreed(verdicts: "list[str]") -> Verdict:
    clear = set(verdicts) - {"cannot say"}
    if clear == {"holds"}:
        return "holds"
    return "fails" if clear == {"fails"} else "cannot say"
