"""What S3 says about communities and Jacobians, put to the loaded models (methods §9)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from engine.analyses.claims import Claim, Verdict
from engine.analyses.depth_claims import LEVEL, DepthMean, shares, verdict_of
from engine.spectra import serial
from engine.spectra.trends import trend

if TYPE_CHECKING:
    import xarray as xr

Array = NDArray[np.float64]

SOURCE = "S3"
SMALLEST = 0.1
"""Smallest difference of shares of snapshots that is of interest."""
MODERATE = 0.3
"""A rank correlation below it is called none (Cohen 1988)."""
FEWEST_UNITS = 30
"""Units in a tail from which the boundary test can see a moderate effect."""
SITES = {"attn": "before attention", "mlp": "before the MLP"}


def claims(ds: "xr.Dataset", steps: Sequence[int | None]) -> list[Claim]:
    """One verdict for each statement and witness, or pair or row of models; sites are counted together.

    Witnesses are twins, for what is said of them, and the last checkpoint of each training. `steps` says how long each
    model was trained, where that is known.
    """
    # A checkpoint before the first step is as untrained as a twin.
    twins = ["(random twin)" in str(label) or steps[m] == 0 for m, label in enumerate(ds["model"].values)]
    sources: dict[str, list[int]] = {}
    for m, label in enumerate(ds["model"].values):
        sources.setdefault(str(label).split("@")[0].split(" (")[0].split(", seed")[0], []).append(m)
    judged: list[Claim | None] = []
    for models in sources.values():
        trained = [m for m in models if not twins[m]]
        last = max((steps[m] or 0 for m in trained), default=0)
        final = [m for m in trained if steps[m] is None or steps[m] == last]
        for m in models:
            of_model = ds.isel(model=m)
            if (m in final or twins[m]) and np.isfinite(of_model["n_communities"].values).any():
                label = str(ds["model"].values[m])
                judged.append(_captured(of_model, label, twins[m]))
                if not twins[m]:
                    judged += [_operator_type(of_model, label), _rates(of_model, label)]
        judged += [_learned(ds, final[-1], m) for m in models if twins[m] and final]
        row = [m for m in models if steps[m] is not None]
        if len(row) > 2:
            judged.append(_grows(ds, sorted(row, key=lambda m: steps[m] or 0)))
    return [claim for claim in judged if claim is not None]


def _captured(of_model: "xr.Dataset", label: str, twin: bool) -> Claim:
    q, z = of_model["variance_q"].values, of_model["variance_z"].values
    n, above = int(np.isfinite(q).sum()), int((q < LEVEL).sum())
    statement = "Communities capture more of the Jacobian's variance than random partitions of the same sizes"
    statement += ", even at initialisation" if twin else ""
    if not n:
        return Claim(SOURCE, statement, f"{label}: no snapshot could be tested.", "cannot say", "effect")
    share = DepthMean.of(_significant(q))
    middle = np.nanquantile(z, [0.025, 0.975])
    measurement = (
        f"{label}: q < 0.05 at {above} of {n} snapshots, {share.mean:.0%} {share.in_percent()}; median z "
        f"{np.nanmedian(z):.2f}, middle 95 % of snapshots {middle[0]:.2f} to {middle[1]:.2f}; null: random partitions."
    )
    return Claim(SOURCE, statement, measurement, verdict_of([share.reaches(0.5)]), "effect")


def _operator_type(of_model: "xr.Dataset", label: str) -> Claim:
    """Self-alignment against effect size, each site; the sites must agree."""
    statement = "The nearer a layer is to a symmetric operator, the more its boundary units are amplified"
    measurements, verdicts = [], []
    for site, title in SITES.items():
        rho, low, high, p, n = (
            float(of_model[f"coupling_{k}"].sel(site=site)) for k in ("rho", "low", "high", "p", "n")
        )
        if np.isnan(rho):
            continue
        interval = f", 95 % interval {low:.2f} to {high:.2f}" if np.isfinite(low) else ""
        measurements.append(f"{title} ρ = {rho:.2f}{interval}, p = {p:.2g} over {int(n)} layers")
        # Two sites are two tests of one statement (Bonferroni).
        clear = "holds" if rho > 0 else "fails"
        verdicts.append(clear if p < LEVEL / len(SITES) else "cannot say")
    if not measurements:
        return Claim(SOURCE, statement, f"{label}: fewer than three layers could be tested.", "cannot say", "coupling")
    return Claim(
        SOURCE,
        statement,
        f"{label}: {'; '.join(measurements)}; null: ρ = 0 of correlated series.",
        _agreed(verdicts),
        "coupling",
    )


def _rates(of_model: "xr.Dataset", label: str) -> Claim:
    statement = "Where communities change most from layer to layer, the projected operator does not change most"
    measurements, p_values, highs = [], [], []
    for site, title in SITES.items():
        for rate, symbol in (("sigma", "|Δσ₁|"), ("variance", "|Δ captured variance|")):
            rates = of_model.sel(site=site, rate=rate)
            rho, low, high, p = (float(rates[f"rate_{name}"]) for name in ("rho", "low", "high", "p"))
            if np.isfinite(rho):
                interval = f" ({low:.2f} to {high:.2f})" if np.isfinite(low) else ""
                measurements.append(f"{title} with {symbol} ρ = {rho:.2f}{interval}, p = {p:.3g}")
                p_values.append(p)
                highs.append(high if np.isfinite(high) else 1.0)
    if not measurements:
        return Claim(SOURCE, statement, f"{label}: fewer than three pairs of layers.", "cannot say", "coupling")
    # That nothing is found is no proof that nothing is there: with few layers only a contradiction can be stated.
    verdict: Verdict = "fails" if min(p_values) * len(p_values) < LEVEL else "cannot say"
    if max(highs, default=np.inf) < MODERATE:
        verdict = "holds"
    null = f"null: ρ = 0 of correlated series; held where every interval ends below {MODERATE}"
    return Claim(SOURCE, statement, f"{label}: {'; '.join(measurements)}; {null}.", verdict, "coupling")


def _learned(ds: "xr.Dataset", trained: int, twin: int) -> Claim | None:
    """The share of significant couplings in the trained model less that in its twin, layer by layer."""
    q = [ds["q_value"].values[m] for m in (trained, twin)]
    n = [int(np.isfinite(values).sum()) for values in q]
    if not all(n):
        return None
    above = [int((values < LEVEL).sum()) for values in q]
    labels = [str(ds["model"].values[m]) for m in (trained, twin)]
    d = [float(np.nanmedian(ds["cohens_d"].values[m])) for m in (trained, twin)]
    gain = DepthMean.of(_significant(q[0]) - _significant(q[1]))
    tail = int(np.nanmax(ds["tail_top"].values[trained], initial=0))
    measurement = (
        f"q < 0.05 at {above[0]} of {n[0]} snapshots of {labels[0]}, median d {d[0]:.2f}; at {above[1]} of {n[1]} of "
        f"{labels[1]}, median d {d[1]:.2f}; difference {gain.mean:.0%} {gain.in_percent()}; null: equal shares."
    )
    verdict: Verdict = "fails" if gain.high < SMALLEST else "cannot say"
    if gain.low > 0 and gain.mean > SMALLEST:
        verdict = "holds"
    if verdict == "fails" and tail < FEWEST_UNITS:
        verdict = "cannot say"
        measurement += f" With {tail} units in a tail the test sees large effects only."
    statement = "Units between communities are amplified or suppressed by the Jacobian, and training installs this"
    return Claim(SOURCE, statement, measurement, verdict, "effect")


def _grows(ds: "xr.Dataset", row: list[int]) -> Claim | None:
    """Numbers of significant snapshots along training, as one series of checkpoints that resemble each other."""
    q = [ds["q_value"].values[m] for m in row]
    if not all(np.isfinite(values).any() for values in q):
        return None
    above = np.array([float((values < LEVEL).sum()) for values in q])
    counts = ", ".join(
        f"{int(count)} of {np.isfinite(values).sum()} ({ds['model'].values[m]})"
        for count, values, m in zip(above, q, row, strict=True)
    )
    statement = (
        "The coupling between boundaries and amplification becomes significant in ever more layers over training"
    )
    test = trend(above)
    if test.layers < serial.FEWEST or not np.ptp(above):
        lacking = "no change" if test.layers >= serial.FEWEST else f"at least {serial.FEWEST} checkpoints are needed"
        return Claim(SOURCE, statement, f"q < 0.05 at {counts}; {lacking}.", "cannot say", "effect")
    measurement = (
        f"q < 0.05 at {counts}; Spearman’s ρ with the order of training {test.spearman:.2f}, p = {test.trend_p:.2g}; "
        "null: noise whose neighbouring checkpoints are alike, up to a random walk."
    )
    clear: Verdict = "holds" if test.slope > 0 else "fails"
    return Claim(SOURCE, statement, measurement, clear if test.trend_p < LEVEL else "cannot say", "effect")


def _significant(q: Array) -> Array:
    """The share of a layer's tested sites (site, layer) with q < 0.05, (layer,); NaN where none is tested."""
    return shares(q.T < LEVEL, np.isfinite(q.T))


def _agreed(verdicts: "list[str]") -> Verdict:
    clear = set(verdicts) - {"cannot say"}
    if clear == {"holds"}:
        return "holds"
    return "fails" if clear == {"fails"} else "cannot say"
